//! The speed of a link that several connections share.

use std::time::{Duration, Instant};

/// The most that is read at once from a connection.
pub const READ: usize = 64 * 1024;

/// One direction of a link. Connections book it piece by piece and in turn, so each has its share of
/// it, as on a line whose router queues fairly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    rate: Option<u64>,
    /// When all that was booked has passed.
    free_at: Option<Instant>,
}

impl Link {
    /// A link of `rate` bytes a second; `None` is without limit.
    pub fn of(rate: Option<u64>) -> Self {
        Self {
            rate: rate.map(|rate| rate.max(1)),
            free_at: None,
        }
    }

    /// The speed, in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// The size of a piece: what the link passes in a twentieth of a second.
    pub fn piece(&self) -> usize {
        let piece = self.rate.map_or(READ as u64, |rate| rate / 20);
        usize::try_from(piece).unwrap_or(READ).clamp(1, READ)
    }

    /// Books the link for `count` bytes, behind what was booked before, and says when they have
    /// passed.
    pub fn book(&mut self, count: usize, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let begin = self.free_at.map_or(now, |at| at.max(now));
        let end = begin + Duration::from_secs_f64(count as f64 / rate as f64);
        self.free_at = Some(end);
        end
    }
}

#[test]
fn a_link_passes_what_it_can_and_forgets_time_that_nobody_used() {
    let now = Instant::now();
    let mut link = Link::of(Some(1000));
    let at = |millis| now + Duration::from_millis(millis);
    assert_eq!(link.book(500, now), at(500));
    assert_eq!(link.book(500, at(100)), at(1000), "behind the first");
    assert_eq!(link.book(100, at(5000)), at(5100));
    assert_eq!(Link::of(None).book(1 << 30, now), now);
}

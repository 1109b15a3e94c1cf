//! Bandwidth limit of a link that several connections share. Pure.

use std::time::{Duration, Instant};

/// Largest read from a connection.
pub(super) const READ: usize = 64 * 1024;

/// One direction of a link. Connections reserve it in small pieces, in order, so each gets an equal share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    rate: Option<u64>,
    /// The time at which all reserved bytes have passed.
    free_at: Option<Instant>,
}

impl Link {
    /// Creates a link of `rate` bytes per second; `None` means no limit.
    pub(super) fn of(rate: Option<u64>) -> Self {
        Self {
            rate: rate.map(|rate| rate.max(1)),
            free_at: None,
        }
    }

    /// The bandwidth, in bytes per second.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// The size of a piece: the bytes of 50 ms.
    pub(super) fn piece(&self) -> usize {
        let piece = self.rate.map_or(READ as u64, |rate| rate / 20);
        usize::try_from(piece).unwrap_or(READ).clamp(1, READ)
    }

    /// Reserves the link for `count` bytes after all earlier reservations; returns when they have passed.
    pub(super) fn reserve(&mut self, count: usize, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let begin = self.free_at.map_or(now, |at| at.max(now));
        let end = begin + Duration::from_secs_f64(count as f64 / rate as f64);
        self.free_at = Some(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_passes_bytes_at_its_rate_and_unused_time_is_lost() {
        let now = Instant::now();
        let mut link = Link::of(Some(1000));
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(link.reserve(500, now), at(500));
        assert_eq!(link.reserve(500, at(100)), at(1000), "after the first");
        assert_eq!(link.reserve(100, at(5000)), at(5100));
        assert_eq!(Link::of(None).reserve(1 << 30, now), now);
    }

    #[test]
    fn a_piece_has_the_bytes_of_50_ms() {
        assert_eq!(
            (Link::of(Some(1000)).rate(), Link::of(None).rate()),
            (Some(1000), None)
        );
        assert_eq!(Link::of(Some(1000)).piece(), 50);
        assert_eq!(
            (Link::of(Some(0)).rate(), Link::of(Some(0)).piece()),
            (Some(1), 1)
        );
        assert_eq!(
            (Link::of(Some(u64::MAX)).piece(), Link::of(None).piece()),
            (READ, READ)
        );
    }
}

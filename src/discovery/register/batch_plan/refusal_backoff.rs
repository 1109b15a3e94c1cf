//! The backoff of a batch plan after many refusals in a row.

use std::time::{Duration, Instant};

use crate::util::backoff::Backoff;

/// The wait after a series of refusals. Its maximum is below [`IN_A_ROW_WITHIN`].
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// After this many refusals in a row, with nothing accepted in between, the next attempt waits. A
/// user who lost all permissions therefore does not send thousands of steps at once.
const REFUSALS: u32 = 64;

/// Refusals further apart than this do not count as being in a row.
const IN_A_ROW_WITHIN: Duration = Duration::from_secs(1);

/// Slows down attempts that are refused one after the other.
#[derive(Debug)]
pub(super) struct RefusalBackoff {
    in_a_row: u32,
    last: Option<Instant>,
    backoff: Backoff,
    pub(super) until: Option<Instant>,
}

impl RefusalBackoff {
    pub(super) fn new() -> Self {
        RefusalBackoff {
            in_a_row: 0,
            last: None,
            backoff: RETRY_BACKOFF,
            until: None,
        }
    }

    pub(super) fn refused(&mut self, now: Instant, random: f64) {
        let last = self.last.replace(now);
        if last.is_some_and(|last| now > last + IN_A_ROW_WITHIN) {
            *self = RefusalBackoff {
                last: self.last,
                ..RefusalBackoff::new()
            };
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= REFUSALS && !self.waits(now) {
            self.until = Some(now + self.backoff.next(random));
        }
    }

    pub(super) fn accepted(&mut self) {
        *self = RefusalBackoff::new();
    }

    pub(super) fn waits(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn refused(backoff: &mut RefusalBackoff, times: u32, now: Instant) {
        (0..times).for_each(|_| backoff.refused(now, 1.0));
    }

    #[test]
    fn from_the_64th_refusal_in_a_row_each_one_waits_longer() {
        let mut now = Instant::now();
        let mut backoff = RefusalBackoff::new();
        refused(&mut backoff, 63, now);
        assert_eq!(backoff.until, None);
        for wait in [50, 100, 200, 400] {
            refused(&mut backoff, 10, now);
            assert_eq!(backoff.until, Some(now + ms(wait)), "they came together");
            now += ms(wait);
            assert!(!backoff.waits(now));
        }
        refused(&mut backoff, 1, now);
        // The late answer to a step that was sent before the wait still counts.
        refused(&mut backoff, 1, now + ms(699));
        assert_eq!(backoff.until, Some(now + ms(700)));
        backoff.accepted();
        refused(&mut backoff, 63, now);
        assert!(!backoff.waits(now), "something was accepted");
    }

    #[test]
    fn refusals_more_than_a_second_apart_are_not_in_a_row() {
        let mut now = Instant::now();
        let mut backoff = RefusalBackoff::new();
        for _ in 0..1000 {
            refused(&mut backoff, 63, now);
            assert_eq!(backoff.until, None);
            now += ms(1001);
            refused(&mut backoff, 1, now);
            now += ms(1001);
            assert_eq!(backoff.until, None);
        }
        refused(&mut backoff, 63, now);
        now += ms(1000);
        refused(&mut backoff, 1, now);
        assert!(backoff.waits(now));
    }
}

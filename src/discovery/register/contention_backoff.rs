//! Decides how soon a lost key is put back: at once the first time, with a growing delay when it is
//! lost repeatedly.
//!
//! The program that overwrites a key may itself restore a key of its own, such as one with another
//! codec under the same prefix. Two programs that restore at once would overwrite each other as fast
//! as etcd can write.

use std::time::{Duration, Instant};

use crate::util::backoff::Backoff;

/// A key that was not lost for this long is no longer contended.
const SETTLED: Duration = Duration::from_secs(10);

const RESTORE_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// The delay before one key is put back.
#[derive(Debug)]
pub(super) struct ContentionBackoff {
    last_loss: Option<Instant>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl ContentionBackoff {
    pub(super) fn new() -> Self {
        ContentionBackoff {
            last_loss: None,
            backoff: RESTORE_BACKOFF,
            not_before: None,
        }
    }

    /// The key was deleted or overwritten. `random` is in 0..1.
    pub(super) fn record_loss(&mut self, now: Instant, random: f64) {
        let again = self.last_loss.is_some_and(|last| now < last + SETTLED);
        self.last_loss = Some(now);
        if !again {
            self.backoff.reset();
        }
        // The first loss after a quiet time is restored at once.
        self.not_before = again.then(|| now + self.backoff.next(random));
    }

    /// When the key may be put back, if that is in the future.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restore_is_immediate_and_repeated_ones_are_delayed() {
        let mut now = Instant::now();
        let mut contention = ContentionBackoff::new();
        contention.record_loss(now, 1.0);
        assert_eq!(contention.not_before(now), None);
        let mut restored = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            contention.record_loss(now, 1.0);
            now = contention.not_before(now).unwrap_or(now);
            restored += 1;
        }
        assert!(restored < 50, "{restored} times in a minute");
        let later = now + SETTLED;
        contention.record_loss(later, 1.0);
        assert_eq!(
            contention.not_before(later),
            None,
            "it was not lost for 10 s"
        );
    }
}

//! Decides how soon a lost key is put back: at once the first time, with a growing delay when it is
//! lost repeatedly.
//!
//! The program that overwrites a key may itself restore a key of its own, such as one with another
//! codec under the same prefix. Two programs that restore at once would overwrite each other as fast
//! as etcd can write.

use std::time::{Duration, Instant};

use crate::types::Revision;
use crate::util::backoff::Backoff;

/// A key that was not lost for this long is no longer contended.
const SETTLED: Duration = Duration::from_secs(10);

/// The delays of repeated restores. The longest one leaves time for the write itself: a key is back within
/// 1 s also when it is lost again and again.
const RESTORE_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// The delay before the keys of one instance are put back.
#[derive(Debug)]
pub(super) struct ContentionBackoff {
    /// When a key was lost last, and the revision that took it.
    last_loss: Option<(Instant, Revision)>,
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

    /// A key was deleted or overwritten at this revision. `random` is in 0..1.
    ///
    /// A revision that takes several keys is one loss. A revision below the last one shows that the store was
    /// replaced, which is no contention.
    pub(super) fn record_loss(&mut self, at: Revision, now: Instant, random: f64) {
        let last = self.last_loss.replace((now, at));
        if last.is_some_and(|(_, last)| last == at) {
            return;
        }
        let again = last.is_some_and(|(time, last)| last < at && now < time + SETTLED);
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
        contention.record_loss(Revision::new(1), now, 1.0);
        assert_eq!(contention.not_before(now), None);
        let mut restored = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            contention.record_loss(Revision::new(2 + restored), now, 1.0);
            now = contention.not_before(now).unwrap_or(now);
            restored += 1;
        }
        assert!(restored < 100, "{restored} times in a minute");
        let later = now + SETTLED;
        contention.record_loss(Revision::new(1), later, 1.0);
        assert_eq!(
            contention.not_before(later),
            None,
            "it was not lost for 10 s"
        );
    }

    #[test]
    fn a_loss_is_repeated_until_the_quiet_time_is_over() {
        let start = Instant::now();
        for (after, is_delayed) in [(SETTLED - Duration::from_nanos(1), true), (SETTLED, false)] {
            let mut contention = ContentionBackoff::new();
            contention.record_loss(Revision::new(1), start, 1.0);
            contention.record_loss(Revision::new(2), start + after, 1.0);
            let until = contention.not_before(start + after);
            assert_eq!(until.is_some(), is_delayed, "{after:?}");
            if let Some(until) = until {
                assert_eq!(contention.not_before(until), None, "the delay is over");
            }
        }
    }

    #[test]
    fn keys_that_were_lost_with_the_store_are_restored_at_once() {
        let now = Instant::now();
        let mut contention = ContentionBackoff::new();
        for revision in 7..20 {
            contention.record_loss(Revision::new(revision), now, 1.0);
        }
        assert!(contention.not_before(now).is_some());
        contention.record_loss(Revision::new(1), now, 1.0);
        assert_eq!(contention.not_before(now), None);
        contention.record_loss(Revision::new(2), now, 1.0);
        assert!(contention.not_before(now).is_some(), "in the same store");
    }

    #[test]
    fn the_keys_that_one_revision_takes_are_one_loss() {
        let now = Instant::now();
        let mut contention = ContentionBackoff::new();
        for revision in 1..20 {
            let delays = [(); 4].map(|()| {
                contention.record_loss(Revision::new(revision), now, 1.0);
                contention.not_before(now)
            });
            let first = delays[0];
            assert!(delays.iter().all(|delay| *delay == first), "{delays:?}");
            assert_eq!(first.is_none(), revision == 1);
            assert!(first <= Some(now + Duration::from_millis(700)));
        }
    }
}

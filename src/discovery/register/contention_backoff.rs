//! How soon a key that was taken from us is put back: at once the first time, ever later when it is
//! taken again and again.
//!
//! Whoever overwrites a key may be putting *theirs* back, such as a program with another codec under
//! the same prefix. Two that restore at once would overwrite each other as fast as etcd can write.

use std::time::{Duration, Instant};

use crate::util::backoff::Backoff;

/// A key that was left alone for so long is in no contention any more.
const SETTLED: Duration = Duration::from_secs(10);

const WAITS: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// The contention over one key.
#[derive(Debug)]
pub(super) struct ContentionBackoff {
    taken: Option<Instant>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl ContentionBackoff {
    pub(super) fn new() -> Self {
        ContentionBackoff {
            taken: None,
            backoff: WAITS,
            not_before: None,
        }
    }

    /// The key was taken; `random` is in 0..1.
    pub(super) fn taken(&mut self, now: Instant, random: f64) {
        let again = self.taken.is_some_and(|last| now < last + SETTLED);
        self.taken = Some(now);
        if !again {
            self.backoff.reset();
        }
        self.not_before = again.then(|| now + self.backoff.next(random));
    }

    /// When the key may be put back, if that is not yet.
    pub(super) fn waits(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_at_once_and_a_fight_slows_down() {
        let mut now = Instant::now();
        let mut contention = ContentionBackoff::new();
        contention.taken(now, 1.0);
        assert_eq!(contention.waits(now), None);
        let mut restored = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            contention.taken(now, 1.0);
            now = contention.waits(now).unwrap_or(now);
            restored += 1;
        }
        assert!(restored < 50, "{restored} times in a minute");
        let later = now + SETTLED;
        contention.taken(later, 1.0);
        assert_eq!(contention.waits(later), None, "it was left alone");
    }
}

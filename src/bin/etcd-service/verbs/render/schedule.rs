//! When a template is rendered after changes. Pure.

use std::time::{Duration, Instant};

/// Waits until changes have been quiet for a time, but not for longer than another one.
#[derive(Debug)]
pub(super) struct Schedule {
    debounce: Duration,
    max_wait: Duration,
    /// The times of the first and the last change that are not rendered.
    changed: Option<(Instant, Instant)>,
}

impl Schedule {
    pub(super) fn new(debounce: Duration, max_wait: Duration) -> Self {
        Schedule {
            debounce,
            max_wait,
            changed: None,
        }
    }

    /// Records a change.
    pub(super) fn changed(&mut self, now: Instant) {
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    /// Makes the changes so far due at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        let past = now.checked_sub(self.debounce).unwrap_or(now);
        self.changed = Some((past, past));
    }

    /// When the next rendering is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.changed?;
        Some((last + self.debounce).min(first + self.max_wait))
    }

    /// Whether a rendering is due. It is true once.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.changed = None;
        }
        is_due
    }
}

/// The waits before something that failed is tried again: 1 s, doubled up to 30 s.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    pub(super) fn failed(&mut self, now: Instant) {
        let seconds = 1_u64 << self.failures.min(5);
        self.failures += 1;
        self.at = Some(now + Duration::from_secs(seconds.min(30)));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Retry::default();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it is time. It is true once.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_waits_for_quiet_but_not_for_ever() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut schedule = Schedule::new(Duration::from_millis(200), Duration::from_millis(500));
        assert!(!schedule.take(at(0)));
        schedule.changed(at(0));
        assert_eq!(schedule.due(), Some(at(200)));
        schedule.changed(at(150));
        assert!(!schedule.take(at(200)));
        assert_eq!(schedule.due(), Some(at(350)));
        schedule.changed(at(340));
        schedule.changed(at(499));
        assert_eq!(schedule.due(), Some(at(500)));
        assert!(schedule.take(at(500)));
        assert!(!schedule.take(at(900)), "it is due once");
        schedule.changed(at(1000));
        schedule.hurry(at(1001));
        assert!(schedule.take(at(1001)));
    }

    #[test]
    fn retries_become_rarer() {
        let begun = Instant::now();
        let mut retry = Retry::default();
        let mut now = begun;
        let mut waits = Vec::new();
        for _ in 0..7 {
            retry.failed(now);
            let due = retry.due().unwrap();
            waits.push((due - now).as_secs());
            assert!(!retry.take(now) && retry.take(due) && !retry.take(due));
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        retry.succeeded();
        retry.failed(now);
        assert_eq!(retry.due(), Some(now + Duration::from_secs(1)));
    }
}

//! The queues of a batch plan, one for each kind of step.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::discovery::register::step_size::StepKind;
use crate::util::backoff::Backoff;

/// The wait of all steps of a kind after a transaction that was not answered, or that was refused
/// for a reason outside its steps. With this maximum, steps are in etcd within a second after an
/// alarm is disarmed.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// One queue for each kind of step.
#[derive(Debug, Default)]
pub(super) struct StepQueues {
    pub(super) write: StepQueue,
    pub(super) delete: StepQueue,
    pub(super) read: StepQueue,
}

/// Entries that have a step of one kind and are not known to be refused.
#[derive(Debug)]
pub(super) struct StepQueue {
    pub(super) ready: BTreeSet<u64>,
    pub(super) in_flight: usize,
    backoff: Backoff,
    pub(super) paused_until: Option<Instant>,
}

impl StepQueues {
    pub(super) fn of(&mut self, kind: StepKind) -> &mut StepQueue {
        match kind {
            StepKind::Write => &mut self.write,
            StepKind::Delete => &mut self.delete,
            StepKind::Read => &mut self.read,
        }
    }

    pub(super) fn forget(&mut self, number: u64) {
        for queue in [&mut self.write, &mut self.delete, &mut self.read] {
            queue.ready.remove(&number);
        }
    }
}

impl Default for StepQueue {
    fn default() -> Self {
        StepQueue {
            ready: BTreeSet::new(),
            in_flight: 0,
            backoff: RETRY_BACKOFF,
            paused_until: None,
        }
    }
}

impl StepQueue {
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Pauses the queue. Transactions that fail during a pause do not extend it.
    pub(super) fn pause(&mut self, now: Instant, random: f64) {
        if !self.is_paused(now) {
            self.paused_until = Some(now + self.backoff.next(random));
        }
    }

    pub(super) fn resume(&mut self) {
        self.backoff.reset();
        self.paused_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn failures_at_once_cause_one_pause_and_later_failures_longer_pauses() {
        let mut now = Instant::now();
        let mut queue = StepQueue::default();
        for wait in [50, 100, 200, 400, 700, 700] {
            for _ in 0..3 {
                queue.pause(now, 1.0);
            }
            let until = now + ms(wait);
            assert_eq!(queue.paused_until, Some(until));
            assert!(queue.is_paused(until - ms(1)) && !queue.is_paused(until));
            now = until;
        }
        queue.pause(now, 1.0);
        queue.resume();
        assert!(!queue.is_paused(now));
        queue.pause(now, 1.0);
        assert_eq!(queue.paused_until, Some(now + ms(50)));
    }
}

//! The queues of a batch plan, one for each sort of step, and the pace of what is refused.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Sort;
use crate::util::backoff::Backoff;

/// The wait of all steps of a sort after a transaction that was not answered, or refused for a
/// reason that is nobody's in it. What was refused by an alarm is in etcd within a second of its end.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// After so many refusals in a row, without anything that was accepted between them, the next try
/// waits: a user who may do nothing any more does not send each of thousands of steps at once.
const REFUSALS: u32 = 64;

/// Refusals that are further apart are not in a row. It is longer than the longest wait.
const IN_A_ROW_WITHIN: Duration = Duration::from_secs(1);

/// A part of a refused batch.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sort: Sort,
    pub(super) numbers: Vec<u64>,
}

/// What is kept for each sort.
#[derive(Debug, Default)]
pub(super) struct Sorts {
    pub(super) write: Queue,
    pub(super) delete: Queue,
    pub(super) look: Queue,
}

/// Entries that have a step, and are not known to be refused.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) ready: BTreeSet<u64>,
    pub(super) under_way: usize,
    backoff: Backoff,
    pub(super) paused_until: Option<Instant>,
}

/// Slows down tries that are refused one after the other.
#[derive(Debug)]
pub(super) struct Pace {
    in_a_row: u32,
    last: Option<Instant>,
    backoff: Backoff,
    pub(super) until: Option<Instant>,
}

impl Sorts {
    pub(super) fn of(&mut self, sort: Sort) -> &mut Queue {
        match sort {
            Sort::Write => &mut self.write,
            Sort::Delete => &mut self.delete,
            Sort::Look => &mut self.look,
        }
    }

    pub(super) fn forget(&mut self, number: u64) {
        for queue in [&mut self.write, &mut self.delete, &mut self.look] {
            queue.ready.remove(&number);
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            ready: BTreeSet::new(),
            under_way: 0,
            backoff: BETWEEN_TRIES,
            paused_until: None,
        }
    }
}

impl Queue {
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Transactions that fail together are one failure.
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

impl Pace {
    pub(super) fn new() -> Self {
        Pace {
            in_a_row: 0,
            last: None,
            backoff: BETWEEN_TRIES,
            until: None,
        }
    }

    pub(super) fn refused(&mut self, now: Instant, random: f64) {
        let last = self.last.replace(now);
        if last.is_some_and(|last| now > last + IN_A_ROW_WITHIN) {
            *self = Pace {
                last: self.last,
                ..Pace::new()
            };
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= REFUSALS && !self.waits(now) {
            self.until = Some(now + self.backoff.next(random));
        }
    }

    pub(super) fn worked(&mut self) {
        *self = Pace::new();
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

    #[test]
    fn a_sort_pauses_once_for_what_fails_together_and_longer_for_what_fails_again() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
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

    fn refused(pace: &mut Pace, times: u32, now: Instant) {
        (0..times).for_each(|_| pace.refused(now, 1.0));
    }

    #[test]
    fn the_64th_refusal_in_a_row_waits_and_each_one_after_a_wait_waits_longer() {
        let mut now = Instant::now();
        let mut pace = Pace::new();
        refused(&mut pace, 63, now);
        assert_eq!(pace.until, None);
        for wait in [50, 100, 200, 400] {
            refused(&mut pace, 10, now);
            assert_eq!(pace.until, Some(now + ms(wait)), "they came together");
            now += ms(wait);
            assert!(!pace.waits(now));
        }
        refused(&mut pace, 1, now);
        // The answer to what was sent before the wait: late, and still in the row.
        refused(&mut pace, 1, now + ms(699));
        assert_eq!(pace.until, Some(now + ms(700)));
        pace.worked();
        refused(&mut pace, 63, now);
        assert!(!pace.waits(now), "something worked");
    }

    #[test]
    fn refusals_that_are_a_second_apart_are_in_a_row_and_no_more() {
        let mut now = Instant::now();
        let mut pace = Pace::new();
        for _ in 0..1000 {
            refused(&mut pace, 62, now);
            now += ms(1001);
            refused(&mut pace, 1, now);
            now += ms(1001);
            assert_eq!(pace.until, None);
        }
        refused(&mut pace, 63, now);
        now += ms(1000);
        refused(&mut pace, 1, now);
        assert!(pace.waits(now));
    }
}

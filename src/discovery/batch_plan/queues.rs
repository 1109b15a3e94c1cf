//! The queues of a batch plan, one for each sort of step, and the pace of what is refused.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Sort;
use crate::backoff::Backoff;

/// The wait of all steps of a sort after a transaction that was not answered, or refused for a
/// reason that is nobody's in it. What was refused by an alarm is in etcd within a second of its end.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// After so many refusals in a row, without anything that was accepted between them, the next try
/// waits: a user who may do nothing any more does not send each of thousands of steps at once.
const REFUSALS: u32 = 64;

/// Refusals that are further apart are not in a row.
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
        if last.is_some_and(|last| now > last + IN_A_ROW_WITHIN) && !self.waits(now) {
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

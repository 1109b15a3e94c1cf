//! Decides which steps share a transaction, and what the result of a transaction means for them.
//! Pure.
//!
//! etcd refuses a whole transaction when one operation in it is not acceptable. A refused batch is
//! therefore split in halves, and the halves again, until each step that is not acceptable is alone
//! in a transaction; the other steps succeed meanwhile. The entry of such a step is *isolated*: it is
//! sent alone, with a backoff of its own, until it succeeds, and never shares a batch before that.
//!
//! An entry is identified by its number. The plan asks for its step when it forms a batch, and skips
//! an entry that has none.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::in_flight::{InFlight, Size, Source};
use self::queues::StepQueues;
use self::refusal_backoff::RefusalBackoff;
use super::batch_size::{BatchSize, ClientLimits};
use super::refusal::Refusal;
use super::step_size::{StepKind, StepSize};
use crate::util::backoff::Backoff;

mod in_flight;
mod queues;
mod refusal_backoff;

/// The most transactions in flight: of each kind, of parts of refused batches, and of isolated
/// entries. An isolated entry whose requests time out delays only other isolated entries.
const KIND_SLOTS: usize = 4;
const SPLIT_SLOTS: usize = 4;
const ISOLATED_SLOTS: usize = 4;

/// The wait between two attempts of one isolated entry. With this maximum, an entry is in etcd
/// within a second after its permission was granted.
const ISOLATED_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// The mean time between attempts of all isolated entries: 200 a second. It does not slow down up to
/// about 70 of them.
const ISOLATED_SPACING: Duration = Duration::from_millis(5);

/// A transaction to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) kind: StepKind,
    pub(super) numbers: Vec<u64>,
}

/// The result of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchResult {
    Answered,
    Failed(Refusal),
}

/// The effect of a result on the entries of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Their steps were executed.
    Done,
    /// All of them are sent again later. The failure was not caused by a step of the batch.
    RetryLater,
    /// At least one of them caused the failure, and it is not known which one. They are sent again in
    /// smaller batches.
    Split,
    /// The only entry of the batch was refused, and is isolated.
    Isolated,
}

/// Forms transactions from the steps of entries, and decides what their results mean.
#[derive(Debug)]
pub(super) struct BatchPlan {
    size: BatchSize,
    queues: StepQueues,
    /// Parts of refused batches.
    split_groups: VecDeque<SplitGroup>,
    split_in_flight: usize,
    split_backoff: RefusalBackoff,
    /// Entries that do not share batches with the others.
    separate: HashMap<u64, Separate>,
    isolated_due: BTreeSet<(Instant, u64)>,
    isolated_in_flight: usize,
    isolated_wait_until: Option<Instant>,
    in_flight: BTreeMap<u64, InFlight>,
    last_id: u64,
}

/// A part of a refused batch.
#[derive(Debug)]
struct SplitGroup {
    kind: StepKind,
    numbers: Vec<u64>,
}

/// The reason why an entry does not share batches with the others.
#[derive(Debug)]
enum Separate {
    /// It is in a part of a refused batch.
    Split,
    /// It was refused alone.
    Isolated {
        backoff: Backoff,
        not_before: Instant,
    },
}

impl BatchPlan {
    /// Creates a plan for entries with up to `keys` keys each.
    pub(super) fn new(limits: ClientLimits, keys: usize) -> Self {
        BatchPlan {
            size: BatchSize::new(limits, keys),
            queues: StepQueues::default(),
            split_groups: VecDeque::new(),
            split_in_flight: 0,
            split_backoff: RefusalBackoff::new(),
            separate: HashMap::new(),
            isolated_due: BTreeSet::new(),
            isolated_in_flight: 0,
            isolated_wait_until: None,
            in_flight: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// An entry has a step of this kind to be sent.
    pub(super) fn wants(&mut self, number: u64, kind: StepKind) {
        match self.separate.get(&number) {
            None => {
                self.queues.of(kind).ready.insert(number);
            }
            // Its group requests the step later.
            Some(Separate::Split) => {}
            Some(Separate::Isolated { not_before, .. }) => {
                self.isolated_due.insert((*not_before, number));
            }
        }
    }

    /// An entry has another step than the refused one, and can be sent without waiting.
    pub(super) fn changed(&mut self, number: u64, now: Instant) {
        if let Some(Separate::Isolated { not_before, .. }) = self.separate.get_mut(&number) {
            let before = std::mem::replace(not_before, now);
            if self.isolated_due.remove(&(before, number)) {
                self.isolated_due.insert((now, number));
            }
        }
    }

    /// Isolates an entry whose last step was accepted, and whose next step was refused before.
    pub(super) fn isolate_answered(&mut self, number: u64, now: Instant, random: f64) {
        self.queues.forget(number);
        self.isolate(number, now, random);
    }

    /// Lets all entries that are not in flight share batches again, because refused steps may be
    /// accepted now. The caller calls [`wants`](BatchPlan::wants) for those that have a step.
    pub(super) fn forgive(&mut self) {
        self.split_groups.clear();
        self.isolated_due.clear();
        let in_flight: BTreeSet<u64> = self
            .in_flight
            .values()
            .flat_map(|batch| batch.numbers.iter().copied())
            .collect();
        self.separate.retain(|number, _| in_flight.contains(number));
        self.split_backoff.accepted();
        self.isolated_wait_until = None;
    }

    /// Removes an entry.
    pub(super) fn forget(&mut self, number: u64) {
        self.queues.forget(number);
        if let Some(Separate::Isolated { not_before, .. }) = self.separate.remove(&number) {
            self.isolated_due.remove(&(not_before, number));
        }
    }

    /// The next transaction, if one can be sent now. `step_of` returns the step that an entry has to
    /// send.
    pub(super) fn next(
        &mut self,
        now: Instant,
        mut step_of: impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        for kind in [StepKind::Write, StepKind::Delete, StepKind::Read] {
            if let Some(batch) = self.next_ready(kind, now, &mut step_of) {
                return Some(batch);
            }
        }
        self.next_split(now, &mut step_of)
            .or_else(|| self.next_isolated(now, &mut step_of))
    }

    fn next_ready(
        &mut self,
        kind: StepKind,
        now: Instant,
        step_of: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        let most = Size::most(&self.size);
        let queue = self.queues.of(kind);
        if queue.is_paused(now) || queue.in_flight >= KIND_SLOTS {
            return None;
        }
        let (mut numbers, mut size) = (Vec::new(), Size::default());
        let mut others = Vec::new();
        while let Some(number) = queue.ready.pop_first() {
            match step_of(number) {
                None => {}
                Some(step_size) if step_size.kind != kind => others.push((number, step_size.kind)),
                Some(step_size) if numbers.is_empty() || size.plus(step_size).fits(most) => {
                    numbers.push(number);
                    size = size.plus(step_size);
                }
                Some(_) => {
                    queue.ready.insert(number);
                    break;
                }
            }
        }
        for (number, kind) in others {
            self.wants(number, kind);
        }
        self.send(kind, numbers, size, Source::Ready)
    }

    fn next_split(
        &mut self,
        now: Instant,
        step_of: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        // Each iteration takes one group. A group of a paused kind goes to the end of the queue.
        for _ in 0..self.split_groups.len() {
            if self.split_in_flight >= SPLIT_SLOTS || self.split_backoff.waits(now) {
                return None;
            }
            let group = self.split_groups.pop_front()?;
            if self.queues.of(group.kind).is_paused(now) {
                self.split_groups.push_back(group);
                continue;
            }
            let most = Size::most(&self.size);
            let (mut numbers, mut size, mut rest) = (Vec::new(), Size::default(), Vec::new());
            for number in group.numbers {
                match step_of(number) {
                    Some(step_size) if step_size.kind == group.kind => {
                        if numbers.is_empty() || size.plus(step_size).fits(most) {
                            numbers.push(number);
                            size = size.plus(step_size);
                        } else {
                            rest.push(number);
                        }
                    }
                    // Its step changed, or it has none any more.
                    step_size => {
                        self.separate.remove(&number);
                        if let Some(step_size) = step_size {
                            self.wants(number, step_size.kind);
                        }
                    }
                }
            }
            if !rest.is_empty() {
                self.split_groups.push_front(SplitGroup {
                    kind: group.kind,
                    numbers: rest,
                });
            }
            if let Some(batch) = self.send(group.kind, numbers, size, Source::Split) {
                return Some(batch);
            }
        }
        None
    }

    fn next_isolated(
        &mut self,
        now: Instant,
        step_of: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        if self.isolated_wait_until.is_some_and(|until| until > now) {
            return None;
        }
        while self.isolated_in_flight < ISOLATED_SLOTS {
            let (due, number) = self.isolated_due.first().copied()?;
            if due > now {
                return None;
            }
            self.isolated_due.remove(&(due, number));
            if let Some(step_size) = step_of(number) {
                let numbers = vec![number];
                let size = Size::default().plus(step_size);
                return self.send(step_size.kind, numbers, size, Source::Isolated);
            }
        }
        None
    }

    fn send(
        &mut self,
        kind: StepKind,
        numbers: Vec<u64>,
        size: Size,
        from: Source,
    ) -> Option<Batch> {
        if numbers.is_empty() {
            return None;
        }
        *self.slots(from, kind) += 1;
        self.last_id += 1;
        let batch = Batch {
            id: self.last_id,
            kind,
            numbers: numbers.clone(),
        };
        let in_flight = InFlight {
            kind,
            numbers,
            size,
            from,
        };
        self.in_flight.insert(self.last_id, in_flight);
        Some(batch)
    }

    fn slots(&mut self, from: Source, kind: StepKind) -> &mut usize {
        match from {
            Source::Ready => &mut self.queues.of(kind).in_flight,
            Source::Split => &mut self.split_in_flight,
            Source::Isolated => &mut self.isolated_in_flight,
        }
    }

    /// Applies the result of a transaction. The caller calls [`wants`](BatchPlan::wants) for entries
    /// that have a step again. `random` is in 0..1.
    pub(super) fn ended(
        &mut self,
        id: u64,
        result: BatchResult,
        now: Instant,
        random: f64,
    ) -> Consequence {
        let Some(batch) = self.in_flight.remove(&id) else {
            return Consequence::RetryLater;
        };
        let slots = self.slots(batch.from, batch.kind);
        *slots = slots.saturating_sub(1);
        match result {
            BatchResult::Answered => {
                self.batch_answered(&batch, now);
                Consequence::Done
            }
            BatchResult::Failed(refusal) => self.batch_failed(batch, refusal, now, random),
        }
    }

    fn batch_answered(&mut self, batch: &InFlight, now: Instant) {
        self.size.accepted(batch.size.steps, batch.size.bytes, now);
        self.queues.of(batch.kind).resume();
        if batch.from != Source::Isolated {
            self.split_backoff.accepted();
        }
        for number in &batch.numbers {
            self.separate.remove(number);
        }
    }

    fn batch_failed(
        &mut self,
        batch: InFlight,
        refusal: Refusal,
        now: Instant,
        random: f64,
    ) -> Consequence {
        let is_one = batch.numbers.len() == 1;
        match refusal {
            Refusal::LeaseGone | Refusal::Everything => self.retry_later(batch, now, random),
            // A single step without an answer may be too large for the link, and must not delay
            // the others.
            Refusal::NoAnswer if is_one => {
                self.isolate_batch(&batch, now, random);
                Consequence::RetryLater
            }
            Refusal::NoAnswer => {
                self.size.unanswered(batch.size.bytes);
                self.retry_later(batch, now, random)
            }
            Refusal::Step | Refusal::TooMany | Refusal::TooLarge if is_one => {
                if batch.from == Source::Isolated {
                    let from = self.isolated_wait_until.map_or(now, |until| until.max(now));
                    self.isolated_wait_until = Some(from + ISOLATED_SPACING.mul_f64(2.0 * random));
                } else {
                    self.split_backoff.refused(now, random);
                }
                self.isolate_batch(&batch, now, random);
                Consequence::Isolated
            }
            Refusal::Step => {
                self.split_backoff.refused(now, random);
                self.split(batch)
            }
            Refusal::TooMany => {
                self.size.too_many(batch.size.steps, now);
                self.split(batch)
            }
            Refusal::TooLarge => {
                self.size.too_large(batch.size.bytes, now);
                self.split(batch)
            }
        }
    }

    /// Pauses the kind of the batch. No entry of it is treated as the cause.
    fn retry_later(&mut self, batch: InFlight, now: Instant, random: f64) -> Consequence {
        match batch.from {
            Source::Ready => self.queues.of(batch.kind).pause(now, random),
            Source::Split => {
                self.queues.of(batch.kind).pause(now, random);
                self.split_groups.push_front(SplitGroup {
                    kind: batch.kind,
                    numbers: batch.numbers,
                });
            }
            Source::Isolated => self.isolate_batch(&batch, now, random),
        }
        Consequence::RetryLater
    }

    /// Sends the only entry of a batch alone from now on.
    fn isolate_batch(&mut self, batch: &InFlight, now: Instant, random: f64) {
        for number in &batch.numbers {
            self.isolate(*number, now, random);
        }
    }

    fn isolate(&mut self, number: u64, now: Instant, random: f64) {
        let mut backoff = match self.separate.remove(&number) {
            Some(Separate::Isolated { backoff, .. }) => backoff,
            Some(Separate::Split) | None => ISOLATED_BACKOFF,
        };
        let not_before = now + backoff.next(random);
        let isolated = Separate::Isolated {
            backoff,
            not_before,
        };
        self.separate.insert(number, isolated);
    }

    fn split(&mut self, batch: InFlight) -> Consequence {
        for number in &batch.numbers {
            self.separate.insert(*number, Separate::Split);
        }
        let (kind, mut first) = (batch.kind, batch.numbers);
        // Halving finds a single refused step in log2(n) rounds.
        let second = first.split_off(first.len() / 2);
        for numbers in [second, first] {
            self.split_groups.push_front(SplitGroup { kind, numbers });
        }
        Consequence::Split
    }

    /// The time at which the next transaction can be sent, if no result arrives earlier.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let queues = [&self.queues.write, &self.queues.delete, &self.queues.read];
        let paused = queues
            .into_iter()
            .filter_map(|queue| queue.paused_until)
            .filter(|until| *until > now);
        let split_backoff = self.split_backoff.until.filter(|until| *until > now);
        let split_backoff = split_backoff.filter(|_| !self.split_groups.is_empty());
        let isolated = self.isolated_due.first().map(|(due, _)| *due);
        let isolated = isolated.filter(|_| self.isolated_in_flight < ISOLATED_SLOTS);
        let isolated = isolated.map(|due| match self.isolated_wait_until {
            Some(until) => due.max(until),
            None => due,
        });
        paused.chain(split_backoff).chain(isolated).min()
    }
}

#[cfg(test)]
mod tests;

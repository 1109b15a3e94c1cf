//! Which steps travel together in one transaction, and what follows from its answer. Pure.
//!
//! etcd refuses a transaction as a whole when one operation in it is not acceptable. A batch that is
//! refused is therefore halved, and its halves again, until every step that is not acceptable is
//! alone: its entry is a *culprit* then. The others are done on the way. A culprit travels alone, at
//! its own pace, until it succeeds: it never joins a batch of others again.
//!
//! An entry is known by its number. The plan asks for its step when a batch is formed; an entry that
//! has none by then is skipped.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::queues::{Group, Pace, Sorts};
use super::batch_size::{BatchSize, ClientLimits};
use super::refusal::Refusal;
use crate::util::backoff::Backoff;

mod queues;

/// The sort of a step. Steps of one sort travel together: a delete that is refused must not keep
/// writes, and a full store (which takes deletes) must not keep deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sort {
    Write,
    Delete,
    Look,
}

/// A step that is due: its sort, and its size in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepSize {
    pub(super) sort: Sort,
    pub(super) bytes: usize,
}

/// So many transactions are on their way at once: of each sort, of parts of refused ones, and of
/// culprits. A culprit whose requests take their whole timeout holds up other culprits at most.
const SORT_SLOTS: usize = 4;
const SUSPECT_SLOTS: usize = 4;
const CULPRIT_SLOTS: usize = 4;

/// The wait between two tries of one culprit. What was permitted meanwhile is in etcd within a second.
const CULPRIT_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(700));

/// The mean time between tries of culprits, whoever they are: 200 a second. Up to some 70 of them are
/// not slowed down by it.
const CULPRIT_SPACING: Duration = Duration::from_millis(5);

/// A transaction to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) sort: Sort,
    pub(super) numbers: Vec<u64>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Answered,
    Failed(Refusal),
}

/// What an ending means for the entries of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Their steps were carried out.
    Done,
    /// All of them try again later, for the reason that the transaction failed with.
    Later,
    /// One of them is the reason, and it is not known which. They try again in smaller batches.
    Halved,
    /// The only entry of the batch was refused: it is a culprit.
    Culprit,
}

#[derive(Debug)]
pub(super) struct BatchPlan {
    size: BatchSize,
    sorts: Sorts,
    /// Parts of refused batches.
    suspects: VecDeque<Group>,
    suspects_under_way: usize,
    splitting: Pace,
    /// Entries that travel apart from the others.
    apart: HashMap<u64, Apart>,
    culprits_due: BTreeSet<(Instant, u64)>,
    culprits_under_way: usize,
    culprits_wait_until: Option<Instant>,
    under_way: BTreeMap<u64, UnderWay>,
    last_id: u64,
}

/// Why an entry does not travel with the others.
#[derive(Debug)]
enum Apart {
    /// It is in a part of a refused batch.
    Suspect,
    Culprit {
        backoff: Backoff,
        not_before: Instant,
    },
}

#[derive(Debug)]
struct UnderWay {
    sort: Sort,
    numbers: Vec<u64>,
    bytes: usize,
    from: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Ready,
    Suspects,
    Culprits,
}

impl BatchPlan {
    pub(super) fn new(limits: ClientLimits) -> Self {
        BatchPlan {
            size: BatchSize::new(limits),
            sorts: Sorts::default(),
            suspects: VecDeque::new(),
            suspects_under_way: 0,
            splitting: Pace::new(),
            apart: HashMap::new(),
            culprits_due: BTreeSet::new(),
            culprits_under_way: 0,
            culprits_wait_until: None,
            under_way: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// An entry has a step of this sort to be sent.
    pub(super) fn wants(&mut self, number: u64, sort: Sort) {
        match self.apart.get(&number) {
            None => {
                self.sorts.of(sort).ready.insert(number);
            }
            // Its group will ask for the step.
            Some(Apart::Suspect) => {}
            Some(Apart::Culprit { not_before, .. }) => {
                self.culprits_due.insert((*not_before, number));
            }
        }
    }

    /// An entry has another step than the one that was refused: it need not wait for its next try.
    pub(super) fn changed(&mut self, number: u64, now: Instant) {
        if let Some(Apart::Culprit { not_before, .. }) = self.apart.get_mut(&number) {
            let before = std::mem::replace(not_before, now);
            if self.culprits_due.remove(&(before, number)) {
                self.culprits_due.insert((now, number));
            }
        }
    }

    /// An entry whose last step was accepted has another one that was refused before: it stays apart.
    pub(super) fn stays_apart(&mut self, number: u64, now: Instant, random: f64) {
        self.sorts.forget(number);
        self.set_apart(number, now, random);
    }

    /// Whatever was refused may be accepted now: those who are apart and not on their way travel with
    /// the others again. The caller says what they want.
    pub(super) fn forgive(&mut self) {
        self.suspects.clear();
        self.culprits_due.clear();
        let on_their_way: BTreeSet<u64> = self
            .under_way
            .values()
            .flat_map(|batch| batch.numbers.iter().copied())
            .collect();
        self.apart.retain(|number, _| on_their_way.contains(number));
        self.splitting.worked();
        self.culprits_wait_until = None;
    }

    /// An entry is gone.
    pub(super) fn forget(&mut self, number: u64) {
        self.sorts.forget(number);
        if let Some(Apart::Culprit { not_before, .. }) = self.apart.remove(&number) {
            self.culprits_due.remove(&(not_before, number));
        }
    }

    /// The next transaction, if one can be sent now. `weigh` says what an entry has to send.
    pub(super) fn next(
        &mut self,
        now: Instant,
        mut weigh: impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        for sort in [Sort::Write, Sort::Delete, Sort::Look] {
            if let Some(batch) = self.next_ready(sort, now, &mut weigh) {
                return Some(batch);
            }
        }
        self.next_suspects(now, &mut weigh)
            .or_else(|| self.next_culprit(now, &mut weigh))
    }

    fn next_ready(
        &mut self,
        sort: Sort,
        now: Instant,
        weigh: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        let (most_steps, most_bytes) = (self.size.steps(), self.size.bytes());
        let queue = self.sorts.of(sort);
        if queue.is_paused(now) || queue.under_way >= SORT_SLOTS {
            return None;
        }
        let (mut numbers, mut bytes) = (Vec::new(), 0usize);
        let mut others = Vec::new();
        while numbers.len() < most_steps {
            let Some(number) = queue.ready.pop_first() else {
                break;
            };
            match weigh(number) {
                None => {}
                Some(step_size) if step_size.sort != sort => others.push((number, step_size.sort)),
                Some(step_size) if !numbers.is_empty() && bytes + step_size.bytes > most_bytes => {
                    queue.ready.insert(number);
                    break;
                }
                Some(step_size) => {
                    numbers.push(number);
                    bytes = bytes.saturating_add(step_size.bytes);
                }
            }
        }
        for (number, sort) in others {
            self.wants(number, sort);
        }
        self.send(sort, numbers, bytes, Source::Ready)
    }

    fn next_suspects(
        &mut self,
        now: Instant,
        weigh: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        // Each turn takes one group; those of a paused sort go to the end of the queue.
        for _ in 0..self.suspects.len() {
            if self.suspects_under_way >= SUSPECT_SLOTS || self.splitting.waits(now) {
                return None;
            }
            let group = self.suspects.pop_front()?;
            if self.sorts.of(group.sort).is_paused(now) {
                self.suspects.push_back(group);
                continue;
            }
            let (mut numbers, mut bytes, mut rest) = (Vec::new(), 0usize, Vec::new());
            for number in group.numbers {
                match weigh(number) {
                    Some(step_size) if step_size.sort == group.sort => {
                        let fits = numbers.len() < self.size.steps()
                            && bytes.saturating_add(step_size.bytes) <= self.size.bytes();
                        if numbers.is_empty() || fits {
                            numbers.push(number);
                            bytes = bytes.saturating_add(step_size.bytes);
                        } else {
                            rest.push(number);
                        }
                    }
                    // It has something else to do by now, or nothing.
                    step_size => {
                        self.apart.remove(&number);
                        if let Some(step_size) = step_size {
                            self.wants(number, step_size.sort);
                        }
                    }
                }
            }
            if !rest.is_empty() {
                self.suspects.push_front(Group {
                    sort: group.sort,
                    numbers: rest,
                });
            }
            if let Some(batch) = self.send(group.sort, numbers, bytes, Source::Suspects) {
                return Some(batch);
            }
        }
        None
    }

    fn next_culprit(
        &mut self,
        now: Instant,
        weigh: &mut impl FnMut(u64) -> Option<StepSize>,
    ) -> Option<Batch> {
        if self.culprits_wait_until.is_some_and(|until| until > now) {
            return None;
        }
        while self.culprits_under_way < CULPRIT_SLOTS {
            let (due, number) = self.culprits_due.first().copied()?;
            if due > now {
                return None;
            }
            self.culprits_due.remove(&(due, number));
            if let Some(step_size) = weigh(number) {
                let numbers = vec![number];
                return self.send(step_size.sort, numbers, step_size.bytes, Source::Culprits);
            }
        }
        None
    }

    fn send(&mut self, sort: Sort, numbers: Vec<u64>, bytes: usize, from: Source) -> Option<Batch> {
        if numbers.is_empty() {
            return None;
        }
        *self.slots(from, sort) += 1;
        self.last_id += 1;
        let batch = Batch {
            id: self.last_id,
            sort,
            numbers: numbers.clone(),
        };
        let under_way = UnderWay {
            sort,
            numbers,
            bytes,
            from,
        };
        self.under_way.insert(self.last_id, under_way);
        Some(batch)
    }

    fn slots(&mut self, from: Source, sort: Sort) -> &mut usize {
        match from {
            Source::Ready => &mut self.sorts.of(sort).under_way,
            Source::Suspects => &mut self.suspects_under_way,
            Source::Culprits => &mut self.culprits_under_way,
        }
    }

    /// A transaction ended. Entries that have a step again are wanted again by the caller.
    /// `random` is in 0..1.
    pub(super) fn ended(
        &mut self,
        id: u64,
        ending: Ending,
        now: Instant,
        random: f64,
    ) -> Consequence {
        let Some(batch) = self.under_way.remove(&id) else {
            return Consequence::Later;
        };
        let slots = self.slots(batch.from, batch.sort);
        *slots = slots.saturating_sub(1);
        match ending {
            Ending::Answered => {
                self.answered(&batch, now);
                Consequence::Done
            }
            Ending::Failed(refusal) => self.failed(batch, refusal, now, random),
        }
    }

    fn answered(&mut self, batch: &UnderWay, now: Instant) {
        self.size.worked(batch.numbers.len(), batch.bytes, now);
        self.sorts.of(batch.sort).resume();
        if batch.from != Source::Culprits {
            self.splitting.worked();
        }
        for number in &batch.numbers {
            self.apart.remove(number);
        }
    }

    fn failed(
        &mut self,
        batch: UnderWay,
        refusal: Refusal,
        now: Instant,
        random: f64,
    ) -> Consequence {
        let is_one = batch.numbers.len() == 1;
        match refusal {
            Refusal::LeaseGone | Refusal::Everything => self.later(batch, now, random),
            // One that is not answered keeps nobody else waiting: it may be too large for the link.
            Refusal::NoAnswer if is_one => {
                self.apart(&batch, now, random);
                Consequence::Later
            }
            Refusal::NoAnswer => {
                self.size.unanswered(batch.bytes);
                self.later(batch, now, random)
            }
            Refusal::Step | Refusal::TooMany | Refusal::TooLarge if is_one => {
                if batch.from == Source::Culprits {
                    let from = self.culprits_wait_until.map_or(now, |until| until.max(now));
                    self.culprits_wait_until = Some(from + CULPRIT_SPACING.mul_f64(2.0 * random));
                } else {
                    self.splitting.refused(now, random);
                }
                self.apart(&batch, now, random);
                Consequence::Culprit
            }
            Refusal::Step => {
                self.splitting.refused(now, random);
                self.halve(batch)
            }
            Refusal::TooMany => {
                self.size.too_many(batch.numbers.len(), now);
                self.halve(batch)
            }
            Refusal::TooLarge => {
                self.size.too_large(batch.bytes, now);
                self.halve(batch)
            }
        }
    }

    /// All of the sort wait; nobody of the batch is suspected for it.
    fn later(&mut self, batch: UnderWay, now: Instant, random: f64) -> Consequence {
        match batch.from {
            Source::Ready => self.sorts.of(batch.sort).pause(now, random),
            Source::Suspects => {
                self.sorts.of(batch.sort).pause(now, random);
                self.suspects.push_front(Group {
                    sort: batch.sort,
                    numbers: batch.numbers,
                });
            }
            Source::Culprits => self.apart(&batch, now, random),
        }
        Consequence::Later
    }

    /// The only entry of a batch travels alone from now on.
    fn apart(&mut self, batch: &UnderWay, now: Instant, random: f64) {
        for number in &batch.numbers {
            self.set_apart(*number, now, random);
        }
    }

    fn set_apart(&mut self, number: u64, now: Instant, random: f64) {
        let mut backoff = match self.apart.remove(&number) {
            Some(Apart::Culprit { backoff, .. }) => backoff,
            Some(Apart::Suspect) | None => CULPRIT_BACKOFF,
        };
        let not_before = now + backoff.next(random);
        let culprit = Apart::Culprit {
            backoff,
            not_before,
        };
        self.apart.insert(number, culprit);
    }

    fn halve(&mut self, batch: UnderWay) -> Consequence {
        for number in &batch.numbers {
            self.apart.insert(*number, Apart::Suspect);
        }
        let (sort, mut first) = (batch.sort, batch.numbers);
        let second = first.split_off(first.len() / 2);
        for numbers in [second, first] {
            self.suspects.push_front(Group { sort, numbers });
        }
        Consequence::Halved
    }

    /// When something can be sent next, if nothing is answered before.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let sorts = [&self.sorts.write, &self.sorts.delete, &self.sorts.look];
        let paused = sorts
            .into_iter()
            .filter_map(|queue| queue.paused_until)
            .filter(|until| *until > now);
        let splitting = self.splitting.until.filter(|until| *until > now);
        let splitting = splitting.filter(|_| !self.suspects.is_empty());
        let culprit = self.culprits_due.first().map(|(due, _)| *due);
        let culprit = culprit.filter(|_| self.culprits_under_way < CULPRIT_SLOTS);
        let culprit = culprit.map(|due| match self.culprits_wait_until {
            Some(until) => due.max(until),
            None => due,
        });
        paused.chain(splitting).chain(culprit).min()
    }
}

#[cfg(test)]
mod tests;

//! Sends the steps of a registrar in batches, and takes their answers.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{RegistrarTask, valid};
use crate::discovery::register::batch;
use crate::discovery::register::batch::{Outcome, Sent};
use crate::discovery::register::batch_plan::{Batch, Consequence, Ending, StepSize};
use crate::discovery::register::entry::Entry;
use crate::discovery::register::key_queue::KeyQueue;
use crate::discovery::register::leases::Leases;
use crate::discovery::register::owned_key::{Phase, Step};
use crate::discovery::register::refusal::Refusal;
use crate::discovery::register::registration::Loss;
use crate::error::{Error, ErrorKind};
use crate::rpc::kv::TxnResponse;
use crate::runtime::Pending;
use crate::types::LeaseId;
use crate::util::jitter;

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct UnderWay {
    steps: Vec<Sent>,
    /// The lease that it writes under.
    lease: Option<LeaseId>,
    pub(super) since: Instant,
    pub(super) answer: Pending<TxnResponse>,
}

impl RegistrarTask {
    pub(super) fn take_answers(&mut self, now: Instant) {
        let answered = self.under_way.iter();
        let answered = answered.filter_map(|(id, batch)| Some((*id, batch.answer.try_wait()?)));
        for (id, answer) in answered.collect::<Vec<_>>() {
            let Some(batch) = self.under_way.remove(&id) else {
                continue;
            };
            match answer {
                Ok(response) => match batch::outcomes(&batch.steps, &response) {
                    Ok(outcomes) => self.batch_done(id, &batch, &response, outcomes, now),
                    Err(odd) => self.batch_failed(id, &batch, &odd.unknown_outcome(true), now),
                },
                Err(error) => self.batch_failed(id, &batch, &error, now),
            }
        }
    }

    fn batch_done(
        &mut self,
        id: u64,
        batch: &UnderWay,
        response: &TxnResponse,
        outcomes: Vec<Outcome<'_>>,
        now: Instant,
    ) {
        self.plan
            .ended(id, Ending::Answered, now, jitter::fraction());
        self.validity.set_trouble(None);
        let at = response.revision();
        let valid = valid(self.codec, &self.prefix);
        for (sent, outcome) in batch.steps.iter().zip(outcomes) {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            let taken = match outcome {
                Outcome::Done => entry.owned_key.done(at, &self.leases, &valid),
                Outcome::Found(kv) => entry.owned_key.found(at, kv, &self.leases, &valid),
            };
            if let Some(taken) = taken {
                entry.taken(taken);
            }
            if let Phase::Refused(by) = entry.owned_key.phase {
                entry.conflict(by);
            }
            if entry.owned_key.is_refused() {
                self.plan.stays_apart(sent.number, now, jitter::fraction());
            } else {
                entry.worked();
            }
            if entry.owned_key.due(&self.leases).is_some() {
                self.to_send.insert(sent.number);
            }
            self.to_show.insert(sent.number);
        }
    }

    fn batch_failed(&mut self, id: u64, batch: &UnderWay, error: &Error, now: Instant) {
        let refusal = Refusal::of(error);
        let ending = Ending::Failed(refusal);
        let consequence = self.plan.ended(id, ending, now, jitter::fraction());
        // A refusal of what was never refused before may be one of the lease.
        let denied = error.kind() == ErrorKind::PermissionDenied;
        let is_news = |number: u64| self.entries.get(&number).is_some_and(|e| !e.is_denied());
        if denied && batch.steps.iter().any(|sent| is_news(sent.number)) {
            self.check_lease(now);
        }
        let mut left_behind = false;
        let was_not_done = refusal != Refusal::NoAnswer && !error.outcome_unknown();
        for sent in &batch.steps {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            match consequence {
                Consequence::Culprit if was_not_done => entry.refused(error),
                Consequence::Culprit | Consequence::Later => {
                    entry.not_done(was_not_done);
                    entry.failed(error);
                }
                Consequence::Halved | Consequence::Done => entry.not_done(was_not_done),
            }
            if let (Consequence::Culprit, Step::Delete(_)) = (consequence, sent.step) {
                entry.give_up_leaving();
                left_behind = true;
            }
            self.to_send.insert(sent.number);
            self.to_show.insert(sent.number);
        }
        if consequence == Consequence::Later {
            self.validity.set_trouble(Some(error.clone()));
        }
        if refusal == Refusal::LeaseGone && batch.lease == self.leases.current {
            self.shared_lease.give_up(now);
            self.lease_lost(Loss::LeaseGone);
        }
        if left_behind {
            // The key that stays must not be kept alive by the lease of the others.
            self.retire_lease(now);
        }
    }

    /// Sends the next steps.
    pub(super) fn send_batches(&mut self, now: Instant) {
        while let Some((until, number)) = self.later.pop_first() {
            if until > now {
                self.later.insert((until, number));
                break;
            }
            self.to_send.insert(number);
        }
        while let Some(batch) = self.next_batch(now) {
            self.submit(batch, now);
        }
    }

    /// The next transaction, if one can be sent now. Entries that have news are asked first what they
    /// have to send.
    fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        let weigh = Weigh {
            entries: &self.entries,
            key_queue: &self.key_queue,
            leases: &self.leases,
            namespace: self.namespace,
            now,
        };
        for number in std::mem::take(&mut self.to_send) {
            match weigh.due(number) {
                Some(Due::Now(step_size)) => self.plan.wants(number, step_size.sort),
                Some(Due::At(until)) => drop(self.later.insert((until, number))),
                None => {}
            }
        }
        self.plan.next(now, |number| match weigh.due(number) {
            Some(Due::Now(step_size)) => Some(step_size),
            Some(Due::At(_)) | None => None,
        })
    }

    fn submit(&mut self, batch: Batch, now: Instant) {
        let (mut steps, mut txns) = (Vec::new(), Vec::new());
        for number in batch.numbers {
            if let Some(entry) = self.entries.get_mut(&number)
                && let Some(step) = entry.owned_key.due(&self.leases)
            {
                let key = entry.owned_key.key.clone();
                txns.push(batch::step(&key, entry.owned_key.next_value(), step));
                entry.begin(step);
                steps.push(Sent { number, key, step });
            }
        }
        let under_way = UnderWay {
            steps,
            lease: self.leases.current,
            since: now,
            answer: self.client.submit(batch::txn(txns)),
        };
        self.under_way.insert(batch.id, under_way);
    }
}

/// What entries have to send, for the plan of batches.
struct Weigh<'a> {
    entries: &'a BTreeMap<u64, Entry>,
    key_queue: &'a KeyQueue,
    leases: &'a Leases,
    namespace: usize,
    now: Instant,
}

/// A step of an entry, and when it can be sent.
enum Due {
    Now(StepSize),
    /// It puts a key back that is fought over.
    At(Instant),
}

impl Weigh<'_> {
    /// What an entry has to send, unless another owned key to its key comes first.
    fn due(&self, number: u64) -> Option<Due> {
        let entry = self.entries.get(&number)?;
        let step = entry.owned_key.due(self.leases)?;
        if self.key_queue.waits(number) {
            return None;
        }
        let (key, value) = (&entry.owned_key.key, entry.owned_key.next_value());
        let step_size = batch::step_size(key, value, step, self.namespace);
        match entry.contention.waits(self.now) {
            Some(until) if !entry.owned_key.is_leaving() => Some(Due::At(until)),
            _ => Some(Due::Now(step_size)),
        }
    }
}

//! Sends the steps of a registrar in batches, and applies their results.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{RegistrarTask, valid};
use crate::discovery::register::batch;
use crate::discovery::register::batch::{SentStep, StepOutcome};
use crate::discovery::register::batch_plan::{Batch, BatchResult, Consequence};
use crate::discovery::register::entry::Entry;
use crate::discovery::register::key_phase::Phase;
use crate::discovery::register::key_queue::KeyQueue;
use crate::discovery::register::key_step::KeyStep;
use crate::discovery::register::refusal::Refusal;
use crate::discovery::register::registrar_leases::RegistrarLeases;
use crate::discovery::register::registration::Loss;
use crate::discovery::register::sent_batch::SentBatch;
use crate::discovery::register::step_size::StepSize;
use crate::error::{Error, ErrorKind};
use crate::rpc::kv::TxnResponse;
use crate::util::jitter;

impl RegistrarTask {
    pub(super) fn take_answers(&mut self, now: Instant) {
        let answered = self.in_flight.iter();
        let answered = answered.filter_map(|(id, batch)| Some((*id, batch.answer.try_wait()?)));
        for (id, answer) in answered.collect::<Vec<_>>() {
            let Some(batch) = self.in_flight.remove(&id) else {
                continue;
            };
            match answer {
                Ok(response) => match batch::outcomes(&batch.steps, &response) {
                    Ok(outcomes) => self.batch_done(id, &batch, &response, outcomes, now),
                    // An answer that does not match its steps is no proof of what was executed.
                    Err(error) => self.batch_failed(id, &batch, &error.unknown_outcome(true), now),
                },
                Err(error) => self.batch_failed(id, &batch, &error, now),
            }
        }
    }

    fn batch_done(
        &mut self,
        id: u64,
        batch: &SentBatch,
        response: &TxnResponse,
        outcomes: Vec<StepOutcome<'_>>,
        now: Instant,
    ) {
        self.plan
            .ended(id, BatchResult::Answered, now, jitter::fraction());
        // An answer shows that etcd is reachable and accepts writes.
        self.validity.set_error(None);
        let at = response.revision();
        let valid = valid(&self.format);
        for (sent, outcome) in batch.steps.iter().zip(outcomes) {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            let loss = match outcome {
                StepOutcome::Done => entry.owned_key.done(at, &self.leases, &valid),
                StepOutcome::Found(kv) => entry.owned_key.found(at, kv, &self.leases, &valid),
            };
            if let Some(loss) = loss {
                entry.key_lost(loss);
            }
            if let Phase::Conflict(by) = entry.owned_key.phase {
                entry.conflict(by);
            }
            if entry.owned_key.is_refused() {
                self.plan
                    .isolate_answered(sent.number, now, jitter::fraction());
            } else {
                entry.worked();
            }
            // The answer may lead to a further step, such as a write after a read.
            if entry.owned_key.due(&self.leases).is_some() {
                self.to_send.insert(sent.number);
            }
            self.to_publish.insert(sent.number);
        }
    }

    fn batch_failed(&mut self, id: u64, batch: &SentBatch, error: &Error, now: Instant) {
        let refusal = Refusal::of(error);
        let result = BatchResult::Failed(refusal);
        let consequence = self.plan.ended(id, result, now, jitter::fraction());
        // The first refusal of an entry may be caused by the lease instead of the entry.
        let denied = error.kind() == ErrorKind::PermissionDenied;
        let was_allowed = |number: u64| self.entries.get(&number).is_some_and(|e| !e.is_denied());
        if denied && batch.steps.iter().any(|sent| was_allowed(sent.number)) {
            self.check_lease(now);
        }
        let mut left_behind = false;
        let was_not_done = refusal != Refusal::NoAnswer && !error.outcome_unknown();
        for sent in &batch.steps {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            match consequence {
                Consequence::Isolated if was_not_done => entry.refused(error),
                Consequence::Isolated | Consequence::RetryLater => {
                    entry.not_done(was_not_done);
                    entry.failed(error);
                }
                Consequence::Split | Consequence::Done => entry.not_done(was_not_done),
            }
            // etcd refused this delete alone, and would refuse it again.
            if let (Consequence::Isolated, KeyStep::Delete(_)) = (consequence, sent.step) {
                entry.abandon_key();
                left_behind = true;
            }
            self.to_send.insert(sent.number);
            self.to_publish.insert(sent.number);
        }
        if consequence == Consequence::RetryLater {
            self.validity.set_error(Some(error.clone()));
        }
        // A batch that was sent under an earlier lease is no proof about the present one.
        if refusal == Refusal::LeaseGone && batch.lease == self.leases.current {
            self.shared_lease.give_up(now);
            self.lease_lost(Loss::LeaseGone);
        }
        if left_behind {
            // The lease that the other keys share must not keep this key alive.
            self.retire_lease(now);
        }
    }

    /// Sends the next steps.
    pub(super) fn send_batches(&mut self, now: Instant) {
        while let Some((until, number)) = self.delayed.pop_first() {
            // The queue is ordered by time: all others are later.
            if until > now {
                self.delayed.insert((until, number));
                break;
            }
            self.to_send.insert(number);
        }
        while let Some(batch) = self.next_batch(now) {
            self.submit(batch, now);
        }
    }

    /// The next transaction, if one can be sent now. The steps of changed entries are given to the plan
    /// first.
    fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        let due_steps = DueSteps {
            entries: &self.entries,
            key_queue: &self.key_queue,
            leases: &self.leases,
            namespace: self.namespace,
            now,
        };
        for number in std::mem::take(&mut self.to_send) {
            match due_steps.due(number) {
                Some(Due::Now(step_size)) => self.plan.wants(number, step_size.kind),
                Some(Due::At(until)) => drop(self.delayed.insert((until, number))),
                None => {}
            }
        }
        self.plan.next(now, |number| match due_steps.due(number) {
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
                steps.push(SentStep { number, key, step });
            }
        }
        let in_flight = SentBatch {
            steps,
            lease: self.leases.current,
            since: now,
            answer: self.client.submit(batch::txn(txns)),
        };
        self.in_flight.insert(batch.id, in_flight);
    }
}

/// Returns the due steps of entries to the batch plan.
struct DueSteps<'a> {
    entries: &'a BTreeMap<u64, Box<Entry>>,
    key_queue: &'a KeyQueue,
    leases: &'a RegistrarLeases,
    namespace: usize,
    now: Instant,
}

/// A step of an entry, and when it can be sent.
enum Due {
    Now(StepSize),
    /// It puts a contended key back.
    At(Instant),
}

impl DueSteps<'_> {
    /// The step of an entry, unless another registration of the same key comes first.
    fn due(&self, number: u64) -> Option<Due> {
        let entry = self.entries.get(&number)?;
        let step = entry.owned_key.due(self.leases)?;
        if self.key_queue.waits(number) {
            return None;
        }
        let (key, value) = (&entry.owned_key.key, entry.owned_key.next_value());
        let step_size = batch::step_size(key, value, step, self.namespace);
        match entry.contention.not_before(self.now) {
            // A delete does not contend with another program, so it is not delayed.
            Some(until) if !entry.owned_key.is_leaving() => Some(Due::At(until)),
            _ => Some(Due::Now(step_size)),
        }
    }
}

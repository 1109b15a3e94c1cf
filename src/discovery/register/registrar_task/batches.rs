//! Sends the steps of a registrar in batches, and applies their results.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{RegistrarTask, valid};
use crate::discovery::register::batch;
use crate::discovery::register::batch::{SentStep, StepOutcome, StepToSend};
use crate::discovery::register::batch_plan::{Batch, BatchResult, Consequence};
use crate::discovery::register::entry::Entry;
use crate::discovery::register::key_queue::KeyQueue;
use crate::discovery::register::key_step::KeyStep;
use crate::discovery::register::owned_keys::{DueStep, OwnedKeys};
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
        for (sent, outcome) in batch.steps.iter().zip(outcomes) {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            let valid = valid(self.formats.get(sent.position));
            let (keys, position, leases) = (&mut entry.keys, sent.position, &self.leases);
            let loss = match outcome {
                StepOutcome::Done => keys.done(position, at, leases, &valid),
                StepOutcome::Found(kv) => keys.found(position, at, kv, leases, &valid),
            };
            if let Some(loss) = loss {
                entry.key_lost(loss, at);
            }
            if let Some(by) = entry.keys.conflict() {
                entry.conflict(by);
            }
            if entry.keys.is_refused() {
                self.plan
                    .isolate_answered(sent.number, now, jitter::fraction());
            } else {
                entry.worked();
            }
            // The answer may lead to a further step, such as a write after a read.
            if entry.keys.due(&self.leases).next().is_some() {
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
        for steps in batch.steps.chunk_by(|a, b| a.number == b.number) {
            let Some(sent) = steps.first() else { continue };
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
            // etcd refused these deletes alone, and would refuse them again.
            let is_delete = |sent: &SentStep| matches!(sent.step, KeyStep::Delete(_));
            if consequence == Consequence::Isolated && steps.iter().all(is_delete) {
                entry.abandon_keys();
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
            overrides_by: self.overrides.awaited_until(now),
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
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            let due: Vec<DueStep> = entry.keys.due(&self.leases).collect();
            let to_send: Vec<_> = steps_to_send(&entry.keys, due.iter().copied()).collect();
            txns.extend(batch::txns(&to_send));
            let first = steps.len();
            steps.extend(due.iter().zip(&to_send).map(|((position, step), one)| {
                let (position, step, key) = (*position, *step, one.key.clone());
                SentStep {
                    number,
                    position,
                    key,
                    step,
                    is_joined: false,
                }
            }));
            for joined in steps.iter_mut().skip(first + 1) {
                joined.is_joined = matches!(joined.step, KeyStep::Write(..));
            }
            entry.begin(&due);
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

/// The steps of a registration with their keys and values.
fn steps_to_send(
    keys: &OwnedKeys,
    due: impl Iterator<Item = DueStep>,
) -> impl Iterator<Item = StepToSend<'_>> {
    due.filter_map(|(position, step)| {
        let owned_key = keys.get(position)?;
        let (key, value) = (&owned_key.key, owned_key.next_value());
        Some(StepToSend { key, value, step })
    })
}

/// Returns the due steps of entries to the batch plan.
struct DueSteps<'a> {
    entries: &'a BTreeMap<u64, Box<Entry>>,
    key_queue: &'a KeyQueue,
    leases: &'a RegistrarLeases,
    namespace: usize,
    /// The time until which first writes wait for the overrides.
    overrides_by: Option<Instant>,
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
        if self.key_queue.waits(number) {
            return None;
        }
        // An instance that an operator took out of service must not get calls after a restart.
        if self.overrides_by.is_some() && !entry.keys.was_held() && !entry.keys.is_leaving() {
            return None;
        }
        let steps = steps_to_send(&entry.keys, entry.keys.due(self.leases));
        let step_size = batch::step_size(steps, self.namespace)?;
        match entry.contention.not_before(self.now) {
            // A delete does not contend with another program, so it is not delayed.
            Some(until) if !entry.keys.is_leaving() => Some(Due::At(until)),
            _ => Some(Due::Now(step_size)),
        }
    }
}

//! All registrations of one registrar: the worker's side. It carries out what the claims decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, TryRecvError};

use super::batch::{self, Outcome, Sent};
use super::batch_plan::{Batch, BatchPlan, Consequence, Ending, Weight};
use super::claim::{Claim, Leases, Phase, Step};
use super::codec::Codec;
use super::entry::{Entry, Given};
use super::leave_group::LeaveTicket;
use super::outlook::Outlook;
use super::probe::Probe;
use super::refusal::{self, Refusal};
use super::registrar::Command;
use super::registration::Loss;
use super::size_check;
use super::tenure::{Tenure, Tidings};
use super::turns::Turns;
use super::worker::{AT_ONCE, Next, Part};
use crate::backoff::Backoff;
use crate::chance;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::TxnResponse;
use crate::rt::Pending;
use crate::types::{KeyValue, LeaseId};
use crate::watch::{Event, LatestSet, Watch, WatchKey};

/// The wait before a key is watched again whose watch was refused.
const BETWEEN_WATCHES: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

#[derive(Debug)]
pub(super) struct Roster {
    client: Client,
    codec: Codec,
    prefix: String,
    commands: Receiver<Command>,
    open: bool,
    tenure: Tenure,
    leases: Leases,
    outlook: Arc<Outlook>,
    entries: BTreeMap<u64, Entry>,
    /// How many of them are not about to leave.
    staying: usize,
    /// Those that may have a next step, and those whose state may have changed: what happens to one
    /// of thousands is not the business of all.
    to_send: BTreeSet<u64>,
    to_show: BTreeSet<u64>,
    /// Those that must wait until their key is put back once more.
    later: BTreeSet<(Instant, u64)>,
    /// Whether every entry has shown the lease as suspect.
    shown_suspect: bool,
    turns: Turns,
    watches: LatestSet,
    /// The generation of the watches in which every key was looked at.
    looked_at: u64,
    watched: HashMap<WatchKey, u64>,
    /// Those whose watch was refused are watched again then.
    watch_again: BTreeSet<(Instant, u64)>,
    plan: BatchPlan,
    /// The transactions that are on their way, by the ids of their batches.
    under_way: BTreeMap<u64, UnderWay>,
    /// How long the names of a namespace are in front of keys.
    namespace: usize,
    probe: Probe,
    /// Tells this process's registration of an instance from another's.
    incarnation: u64,
}

/// A transaction on its way.
#[derive(Debug)]
struct UnderWay {
    steps: Vec<Sent>,
    /// The lease that it writes under.
    lease: Option<LeaseId>,
    since: Instant,
    answer: Pending<TxnResponse>,
}

impl Roster {
    pub(super) fn new(
        client: Client,
        codec: Codec,
        prefix: String,
        ttl: Duration,
        commands: Receiver<Command>,
    ) -> Result<Self> {
        let outlook = Arc::new(Outlook::new(ttl));
        Ok(Roster {
            tenure: Tenure::new(client.clone(), ttl, Arc::clone(&outlook)),
            outlook,
            watches: client.latest_set()?,
            looked_at: 0,
            plan: BatchPlan::new(size_check::limits(&client)),
            under_way: BTreeMap::new(),
            namespace: size_check::namespace(&client),
            probe: Probe::new(&client, Bytes::from(prefix.clone())),
            client,
            codec,
            prefix,
            commands,
            open: true,
            leases: Leases::default(),
            entries: BTreeMap::new(),
            staying: 0,
            to_send: BTreeSet::new(),
            to_show: BTreeSet::new(),
            later: BTreeSet::new(),
            shown_suspect: true,
            turns: Turns::default(),
            watched: HashMap::new(),
            watch_again: BTreeSet::new(),
            incarnation: (chance::number() >> 11).max(1),
        })
    }

    fn stir(&mut self, number: u64) {
        self.to_send.insert(number);
        self.to_show.insert(number);
    }

    fn stir_all(&mut self) {
        self.to_send.extend(self.entries.keys());
        self.to_show.extend(self.entries.keys());
    }

    fn take_commands(&mut self) {
        for _ in 0..AT_ONCE {
            match self.commands.try_recv() {
                Ok(command) => self.command(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Add {
                number,
                shared,
                on_conflict,
            } => {
                let (instance, version) = shared.newest();
                let key = self.codec.key(&self.prefix, &instance);
                let last = self.turns.last(&key).and_then(|n| self.entries.get(&n));
                if last.is_some_and(|entry| !entry.claim.is_leaving()) {
                    let reason = "this registrar has a registration of the same instance already";
                    return shared.refuse(Error::new(ErrorKind::Conflict, reason));
                }
                let value = self.codec.encode(&instance, self.incarnation);
                self.turns.join(key.clone(), number);
                shared.attach(&self.outlook);
                let claim = Claim::new(key, value, on_conflict);
                self.entries.insert(
                    number,
                    Entry::new(claim, shared, Given::new(instance.status, version)),
                );
                self.staying += 1;
                self.stir(number);
            }
            Command::Update(number) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    let (instance, version) = entry.shared.newest();
                    let value = self.codec.encode(&instance, self.incarnation);
                    entry.update(value, Given::new(instance.status, version));
                    self.plan.changed(number, Instant::now());
                    self.stir(number);
                }
            }
            Command::Leave(number, ticket) => self.leave(number, ticket),
            Command::LeaveAll(ticket) => {
                for number in self.entries.keys().copied().collect::<Vec<_>>() {
                    self.leave(number, ticket.another());
                }
                ticket.done(Ok(()));
            }
        }
    }

    fn leave(&mut self, number: u64, ticket: LeaveTicket) {
        let Some(entry) = self.entries.get_mut(&number) else {
            // It left before, or was never let in.
            return ticket.done(Ok(()));
        };
        self.staying -= usize::from(!entry.claim.is_leaving());
        entry.leave(ticket);
        self.plan.changed(number, Instant::now());
        self.stir(number);
    }

    fn follow_lease(&mut self, now: Instant) {
        loop {
            match self.tenure.work(now, self.staying > 0) {
                Tidings::None => break,
                Tidings::Granted(lease) => {
                    self.leases.current = Some(lease);
                    self.stir_all();
                }
                Tidings::Lost(loss) => self.lease_lost(loss),
                Tidings::Trouble(error) => {
                    let is_final = refusal::is_final(error.kind());
                    self.outlook.set_trouble(Some(error));
                    if is_final {
                        // Whoever waits need not wait for another try.
                        self.to_show.extend(self.entries.keys());
                    }
                }
            }
        }
        let is_suspect = self.outlook.is_suspect();
        if std::mem::replace(&mut self.shown_suspect, is_suspect) != is_suspect {
            self.to_show.extend(self.entries.keys());
        }
    }

    fn lease_lost(&mut self, loss: Loss) {
        self.leases.lost();
        for entry in self.entries.values_mut() {
            entry.lease_lost(loss);
        }
        self.stir_all();
    }

    /// Asks what is in the way of a request that is not answered.
    fn look_around(&mut self, now: Instant) {
        let since = self.waits_since();
        if let Some(error) = self.probe.work(now, since) {
            self.outlook.set_trouble(Some(error));
        }
    }

    fn waits_since(&self) -> Option<Instant> {
        let batches = self.under_way.values().map(|batch| batch.since);
        batches.chain(self.tenure.waits_since()).min()
    }

    /// Takes what the watches bring. An error is the end of everything.
    fn follow_keys(&mut self) -> Result<()> {
        for (watch, item) in self.watches.take() {
            if watch == WatchKey::SET {
                // Whatever served the watches is gone, or the client is closed.
                return self.watch_anew();
            }
            self.follow_key(watch, item);
        }
        let generation = self.watches.generation();
        if std::mem::replace(&mut self.looked_at, generation) != generation {
            self.look_at_all();
        }
        Ok(())
    }

    /// The watches are on a new stream, maybe of a store that was replaced meanwhile by one that
    /// passed the revisions of the old one: what was known of the keys is believed no longer.
    fn look_at_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.claim.unwatched();
        }
        self.stir_all();
    }

    fn follow_key(&mut self, watch: WatchKey, item: Result<Event>) {
        let Some(number) = self.watched.get(&watch).copied() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match item {
            Ok(event) => {
                let valid = valid(self.codec, &self.prefix);
                entry.follow(&event, &self.leases, valid);
            }
            Err(error) => {
                // History is gone, or the store went back: whatever happened, look.
                self.watched.remove(&watch);
                entry.watch = None;
                entry.claim.unwatched();
                if !matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound) {
                    // The next watch may be refused as well: not at once, then.
                    entry.failed(&error);
                    let again = Instant::now() + BETWEEN_WATCHES.last(chance::fraction());
                    self.watch_again.insert((again, number));
                    self.to_show.insert(number);
                    return;
                }
            }
        }
        self.stir(number);
    }

    fn watch_anew(&mut self) -> Result<()> {
        self.watches = self.client.latest_set()?;
        self.looked_at = 0;
        self.watched.clear();
        for entry in self.entries.values_mut() {
            entry.watch = None;
            entry.claim.unwatched();
        }
        self.stir_all();
        Ok(())
    }

    fn take_answers(&mut self, now: Instant) {
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
            .ended(id, Ending::Answered, now, chance::fraction());
        self.outlook.set_trouble(None);
        let at = response.revision();
        let valid = valid(self.codec, &self.prefix);
        for (sent, outcome) in batch.steps.iter().zip(outcomes) {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            let taken = match outcome {
                Outcome::Done => entry.claim.done(at, &self.leases, &valid),
                Outcome::Found(kv) => entry.claim.found(at, kv, &self.leases, &valid),
            };
            if let Some(taken) = taken {
                entry.taken(taken);
            }
            if let Phase::Refused(by) = entry.claim.phase {
                entry.conflict(by);
            }
            if entry.claim.is_refused() {
                self.plan.stays_apart(sent.number, now, chance::fraction());
            } else {
                entry.worked();
            }
            self.to_send.insert(sent.number);
            self.to_show.insert(sent.number);
        }
    }

    fn batch_failed(&mut self, id: u64, batch: &UnderWay, error: &Error, now: Instant) {
        let refusal = Refusal::of(error);
        let ending = Ending::Failed(refusal);
        let consequence = self.plan.ended(id, ending, now, chance::fraction());
        let was_not_done = refusal != Refusal::NoAnswer && !error.outcome_unknown();
        for sent in &batch.steps {
            let Some(entry) = self.entries.get_mut(&sent.number) else {
                continue;
            };
            match was_not_done {
                true => entry.claim.refused(consequence == Consequence::Culprit),
                false => entry.claim.failed(),
            }
            match (consequence, sent.step) {
                (Consequence::Culprit, Step::Delete(_)) => entry.give_up_leaving(error),
                (Consequence::Culprit | Consequence::Later, _) => entry.failed(error),
                (Consequence::Halved | Consequence::Done, _) => {}
            }
            self.to_send.insert(sent.number);
            self.to_show.insert(sent.number);
        }
        if consequence == Consequence::Later {
            self.outlook.set_trouble(Some(error.clone()));
        }
        if refusal == Refusal::LeaseGone && batch.lease == self.leases.current {
            self.tenure.give_up(now);
            self.lease_lost(Loss::LeaseGone);
        }
    }

    /// Sends the next steps.
    fn send_batches(&mut self, now: Instant) {
        while let Some((until, number)) = self.later.pop_first() {
            if until > now {
                self.later.insert((until, number));
                break;
            }
            self.to_send.insert(number);
        }
        let weigh = Weigh {
            entries: &self.entries,
            turns: &self.turns,
            leases: &self.leases,
            namespace: self.namespace,
            now,
        };
        for number in std::mem::take(&mut self.to_send) {
            if let Some(weight) = weigh.step(number) {
                self.plan.wants(number, weight.sort);
            } else if let Some(until) = weigh.waits(number) {
                self.later.insert((until, number));
            }
        }
        while let Some(batch) = self.next_batch(now) {
            self.submit(batch, now);
        }
    }

    fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        let weigh = Weigh {
            entries: &self.entries,
            turns: &self.turns,
            leases: &self.leases,
            namespace: self.namespace,
            now,
        };
        self.plan.next(now, |number| weigh.step(number))
    }

    fn submit(&mut self, batch: Batch, now: Instant) {
        let (mut steps, mut txns) = (Vec::new(), Vec::new());
        for number in batch.numbers {
            if let Some(entry) = self.entries.get_mut(&number)
                && let Some(step) = entry.claim.due(&self.leases)
            {
                let key = entry.claim.key.clone();
                txns.push(batch::step(&key, entry.claim.next_value(), step));
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

    /// Watches the keys that are held or waited for, and not watched yet.
    fn watch_keys(&mut self, now: Instant) {
        while let Some((until, number)) = self.watch_again.pop_first() {
            if until > now {
                self.watch_again.insert((until, number));
                break;
            }
            self.stir(number);
        }
        for number in &self.to_show {
            if let Some(entry) = self.entries.get_mut(number)
                && entry.watch.is_none()
                && let Some(after) = entry.claim.watch_after()
                && let Ok(key) = self
                    .watches
                    .submit(Watch::key(entry.claim.key.clone()).after(after))
            {
                entry.watch = Some(key);
                self.watched.insert(key, *number);
            }
        }
    }

    /// Shows every state, and lets go of what has left.
    fn settle(&mut self) {
        for number in std::mem::take(&mut self.to_show) {
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            if entry.claim.phase != Phase::Left {
                entry.show(&self.outlook);
                continue;
            }
            if let Some(watch) = entry.watch {
                self.watched.remove(&watch);
                self.watches.remove(watch);
            }
            if let Some(next) = self.turns.leave(&entry.claim.key, number) {
                self.to_send.insert(next);
            }
            entry.left();
            self.entries.remove(&number);
            self.plan.forget(number);
        }
    }

    fn close(&mut self, reason: &Error) {
        for entry in self.entries.values() {
            entry.shared.end(Err(reason.clone()));
        }
        self.entries.clear();
    }
}

impl Drop for Roster {
    /// Whatever ends the worker's part, those who hold its registrations are told.
    fn drop(&mut self) {
        self.close(&Error::closed());
    }
}

impl Part for Roster {
    fn work(&mut self, now: Instant) -> Option<Next> {
        self.take_commands();
        if self.client.is_closed() {
            return None;
        }
        self.follow_lease(now);
        if self.follow_keys().is_err() {
            return None;
        }
        self.take_answers(now);
        self.look_around(now);
        self.watch_keys(now);
        self.settle();
        // After those who left, whose turn another may have now.
        self.send_batches(now);
        // Whoever left had a second to be answered; the lease does the rest.
        if !self.open {
            return None;
        }
        let due = [
            self.plan.due(now),
            self.later.first().map(|(until, _)| *until),
            self.watch_again.first().map(|(until, _)| *until),
            self.tenure.due(now),
            self.probe.due(self.waits_since()),
        ];
        Some(Next(due.into_iter().flatten().min()))
    }

    fn failed(&mut self, error: &Error) {
        self.close(error);
    }

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if self.open {
            select.recv(&self.commands);
        }
        select.recv(self.watches.receiver());
        for batch in self.under_way.values() {
            select.recv(batch.answer.receiver());
        }
        self.tenure.wait(select);
        self.probe.wait(select);
    }
}

/// What entries have to send, for the plan of batches.
struct Weigh<'a> {
    entries: &'a BTreeMap<u64, Entry>,
    turns: &'a Turns,
    leases: &'a Leases,
    namespace: usize,
    now: Instant,
}

impl Weigh<'_> {
    fn step(&self, number: u64) -> Option<Weight> {
        let claim = &self.entries.get(&number)?.claim;
        if self.waits(number).is_some() || !self.turns.is_first(&claim.key, number) {
            return None;
        }
        let step = claim.due(self.leases)?;
        let (key, value) = (&claim.key, claim.next_value());
        Some(batch::weight(key, value, step, self.namespace))
    }

    /// Until when an entry waits to put its key back once more.
    fn waits(&self, number: u64) -> Option<Instant> {
        let entry = self.entries.get(&number)?;
        let waits = entry.dispute.waits(self.now);
        waits.filter(|_| !entry.claim.is_leaving())
    }
}

/// Whether a value is an instance, and so whoever put it registered.
fn valid(codec: Codec, prefix: &str) -> impl Fn(&KeyValue) -> bool + '_ {
    move |kv| codec.decode(prefix, kv.key(), kv.value()).is_ok()
}

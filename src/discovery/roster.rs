//! All registrations of one registrar: the worker's side. It carries out what the claims decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};

use super::batch::{self, Outcome};
use super::claim::{Claim, Leases, Phase, Taken};
use super::codec::Codec;
use super::dispute::Dispute;
use super::registrar::Command;
use super::registration::{Loss, Shared, State};
use super::status::Status;
use super::tenure::{Tenure, Tidings};
use super::turns::Turns;
use super::worker::{AT_ONCE, Next, Part};
use crate::backoff::Backoff;
use crate::chance;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::kv::{Txn, TxnResponse};
use crate::lease::Deadline;
use crate::rt::Pending;
use crate::types::{KeyValue, LeaseId};
use crate::watch::{Event, EventKind, LatestSet, Watch, WatchKey};

/// The wait between batches that fail.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

#[derive(Debug)]
pub(super) struct Roster {
    client: Client,
    codec: Codec,
    prefix: String,
    commands: Receiver<Command>,
    open: bool,
    tenure: Tenure,
    leases: Leases,
    entries: BTreeMap<u64, Entry>,
    /// Those that may have a next step, and those whose state may have changed: what happens to one
    /// of thousands is not the business of all.
    to_send: BTreeSet<u64>,
    to_show: BTreeSet<u64>,
    /// Those that must wait until their key is put back once more.
    later: BTreeSet<(Instant, u64)>,
    /// The lease as every entry has shown it.
    shown: (Deadline, bool),
    turns: Turns,
    watches: LatestSet,
    watched: HashMap<WatchKey, u64>,
    batch: Option<Batch>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Whether etcd answers, as far as those who left could tell.
    answers: Arc<AtomicBool>,
    /// Tells this process's registration of an instance from another's.
    incarnation: u64,
}

/// A transaction on its way.
#[derive(Debug)]
struct Batch {
    /// Whose steps it takes, in their order.
    numbers: Vec<u64>,
    /// The lease that it writes under.
    lease: Option<LeaseId>,
    answer: Pending<TxnResponse>,
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    shared: Arc<Shared>,
    watch: Option<WatchKey>,
    loss: Option<Loss>,
    dispute: Dispute,
    leaving: Vec<Sender<()>>,
}

impl Roster {
    pub(super) fn new(
        client: Client,
        codec: Codec,
        prefix: String,
        ttl: Duration,
        commands: Receiver<Command>,
        answers: Arc<AtomicBool>,
    ) -> Result<Self> {
        Ok(Roster {
            tenure: Tenure::new(client.clone(), ttl),
            watches: client.latest_set()?,
            client,
            codec,
            prefix,
            commands,
            open: true,
            leases: Leases::default(),
            entries: BTreeMap::new(),
            to_send: BTreeSet::new(),
            to_show: BTreeSet::new(),
            later: BTreeSet::new(),
            shown: (Deadline::PASSED, true),
            turns: Turns::default(),
            watched: HashMap::new(),
            batch: None,
            backoff: BETWEEN_TRIES,
            retry_at: None,
            answers,
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
                let instance = shared.instance();
                let key = self.codec.key(&self.prefix, &instance);
                let last = self.turns.last(&key).and_then(|n| self.entries.get(&n));
                if last.is_some_and(|entry| !entry.claim.is_leaving()) {
                    let reason = "this registrar has a registration of the same instance already";
                    return shared.refuse(Error::new(ErrorKind::Conflict, reason));
                }
                let value = self.codec.encode(&instance, self.incarnation);
                self.turns.join(key.clone(), number);
                let claim = Claim::new(key, value, on_conflict);
                let entry = Entry {
                    claim,
                    shared,
                    watch: None,
                    loss: None,
                    dispute: Dispute::new(),
                    leaving: Vec::new(),
                };
                self.entries.insert(number, entry);
                self.stir(number);
            }
            Command::Update(number, instance) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry
                        .claim
                        .update(self.codec.encode(&instance, self.incarnation));
                    self.stir(number);
                }
            }
            Command::Leave(number, reply) => {
                // Without an entry there is nothing to take out; dropping `reply` says so.
                if let Some(entry) = self.entries.get_mut(&number) {
                    entry.leaving.push(reply);
                    entry.claim.leave();
                    self.stir(number);
                }
            }
        }
    }

    fn follow_lease(&mut self, now: Instant) {
        let wanted = self.entries.values().any(|entry| !entry.claim.is_leaving());
        loop {
            match self.tenure.work(now, wanted) {
                Tidings::None => break,
                Tidings::Granted(lease) => {
                    self.leases.current = Some(lease);
                    self.stir_all();
                }
                Tidings::Lost(loss) => self.lease_lost(loss),
                Tidings::Trouble(error) => {
                    for entry in self.entries.values() {
                        entry.shared.trouble(&error);
                    }
                }
            }
        }
        let now = (self.tenure.valid_until(), self.tenure.is_suspect());
        if std::mem::replace(&mut self.shown, now) != now {
            self.to_show.extend(self.entries.keys());
        }
    }

    fn lease_lost(&mut self, loss: Loss) {
        self.leases.lost();
        for entry in self.entries.values_mut() {
            if entry.claim.was_held() {
                entry.loss = Some(loss);
            }
            entry.claim.lease_lost();
        }
        self.stir_all();
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
        Ok(())
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
                    entry.shared.trouble(&error);
                    self.retry_at = Some(Instant::now() + BETWEEN_TRIES.last(chance::fraction()));
                }
            }
        }
        self.stir(number);
    }

    fn watch_anew(&mut self) -> Result<()> {
        self.watches = self.client.latest_set()?;
        self.watched.clear();
        for entry in self.entries.values_mut() {
            entry.watch = None;
            entry.claim.unwatched();
        }
        self.stir_all();
        Ok(())
    }

    fn take_answer(&mut self, now: Instant) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let Some(answer) = batch.answer.try_wait() else {
            self.batch = Some(batch);
            return;
        };
        let response = match answer {
            Ok(response) => {
                self.backoff.reset();
                self.answers.store(true, Relaxed);
                response
            }
            Err(error) => return self.batch_failed(&batch, &error, now),
        };
        let at = response.revision();
        let valid = valid(self.codec, &self.prefix);
        for (number, outcome) in batch.numbers.iter().zip(batch::outcomes(&response)) {
            let Some(entry) = self.entries.get_mut(number) else {
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
                entry.shared.refuse(conflict(by));
            }
            self.to_send.insert(*number);
            self.to_show.insert(*number);
        }
    }

    fn batch_failed(&mut self, batch: &Batch, error: &Error, now: Instant) {
        for number in &batch.numbers {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.claim.failed();
                entry.shared.trouble(error);
            }
            self.stir(*number);
        }
        // A server that finds no lease of ours, however new, is not asked at once again either.
        self.retry_at = Some(now + self.backoff.next(chance::fraction()));
        if error.kind() == ErrorKind::LeaseNotFound && batch.lease == self.leases.current {
            self.tenure.give_up(now);
            self.lease_lost(Loss::LeaseGone);
        }
    }

    /// Sends the next steps, if there are any and nothing is on its way.
    fn send_batch(&mut self, now: Instant) {
        if self.batch.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        while let Some((until, number)) = self.later.pop_first() {
            if until > now {
                self.later.insert((until, number));
                break;
            }
            self.to_send.insert(number);
        }
        let (mut numbers, mut ops, mut bytes) = (Vec::new(), Vec::new(), 0);
        while ops.len() < batch::STEPS && bytes <= batch::BYTES {
            let Some(number) = self.to_send.pop_first() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            let waits = entry.dispute.waits(now);
            if let (Some(until), false) = (waits, entry.claim.is_leaving()) {
                self.later.insert((until, number));
                continue;
            }
            let claim = &mut entry.claim;
            if self.turns.is_first(&claim.key, number)
                && let Some(step) = claim.next(&self.leases)
            {
                numbers.push(number);
                bytes += claim.key.len() + claim.value.len();
                ops.push(batch::op(&claim.key, &claim.value, step));
            }
        }
        if !ops.is_empty() {
            self.batch = Some(Batch {
                numbers,
                lease: self.leases.current,
                answer: self.client.submit(Txn::always(ops)),
            });
        }
    }

    /// Watches the keys that are held or waited for, and not watched yet.
    fn watch_keys(&mut self) {
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
                let state = entry.state(&self.tenure);
                entry.shared.show(state, entry.claim.put_at());
                continue;
            }
            if let Some(watch) = entry.watch {
                self.watched.remove(&watch);
                self.watches.remove(watch);
            }
            if let Some(next) = self.turns.leave(&entry.claim.key, number) {
                self.to_send.insert(next);
            }
            entry.shared.show(State::Closed, None);
            // Whoever left in time still waits; whoever gave up does not.
            for reply in entry.leaving.drain(..) {
                let _ = reply.send(());
            }
            self.entries.remove(&number);
        }
    }

    fn close(&mut self) {
        for entry in self.entries.values() {
            entry.shared.show(State::Closed, None);
        }
        self.entries.clear();
    }
}

impl Entry {
    fn taken(&mut self, taken: Taken) {
        self.loss = Some(loss(taken));
        self.dispute.taken(Instant::now(), chance::fraction());
    }

    fn follow(&mut self, event: &Event, leases: &Leases, valid: impl Fn(&KeyValue) -> bool) {
        let kv = (event.kind() == EventKind::Put).then(|| event.kv().clone());
        if let Some(taken) = self.claim.event(event.revision(), kv, leases, &valid) {
            self.taken(taken);
        }
    }

    fn state(&mut self, tenure: &Tenure) -> State {
        let lost = |loss: Option<Loss>| State::Lost {
            why: loss.unwrap_or(Loss::LeaseGone),
        };
        match self.claim.phase {
            Phase::Held { lease, revision } => {
                self.loss = None;
                let valid_until = tenure.valid_until();
                if self.shared.instance().status == Status::Draining {
                    State::Draining
                } else if tenure.is_suspect() {
                    State::Suspect { valid_until }
                } else {
                    State::Registered {
                        lease,
                        revision,
                        valid_until,
                    }
                }
            }
            Phase::Yielded { by, .. } if self.claim.was_held() => State::Lost {
                why: Loss::Replaced { by },
            },
            // A new value is on its way; the instance is where it was.
            _ if self.claim.was_held() && self.loss.is_none() => self.shared.state(),
            _ if self.claim.was_held() => lost(self.loss),
            _ => State::Starting,
        }
    }
}

impl Part for Roster {
    fn work(&mut self, now: Instant) -> Option<Next> {
        self.take_commands();
        if self.client.is_closed() {
            self.close();
            return None;
        }
        self.follow_lease(now);
        if self.follow_keys().is_err() {
            self.close();
            return None;
        }
        self.take_answer(now);
        self.watch_keys();
        self.settle();
        // After those who left, whose turn another may have now.
        self.send_batch(now);
        // Whoever left had a second to be answered; the lease does the rest.
        if !self.open {
            return None;
        }
        let retry = self.retry_at.filter(|_| self.batch.is_none());
        let later = self.later.first().map(|(until, _)| *until);
        let due = [retry, later, self.tenure.due(now)];
        Some(Next(due.into_iter().flatten().min()))
    }

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if self.open {
            select.recv(&self.commands);
        }
        select.recv(self.watches.receiver());
        if let Some(batch) = &self.batch {
            select.recv(batch.answer.receiver());
        }
        self.tenure.wait(select);
    }
}

/// Whether a value is an instance, and so whoever put it registered.
fn valid(codec: Codec, prefix: &str) -> impl Fn(&KeyValue) -> bool + '_ {
    move |kv| codec.decode(prefix, kv.key(), kv.value()).is_ok()
}

fn loss(taken: Taken) -> Loss {
    match taken {
        Taken::Deleted => Loss::KeyDeleted,
        Taken::Overwritten => Loss::Overwritten,
        Taken::By(by) => Loss::Replaced { by },
    }
}

fn conflict(by: Option<LeaseId>) -> Error {
    let reason = match by {
        Some(lease) => format!("it is registered already, under lease {lease}"),
        None => "its key exists already, under no lease".into(),
    };
    Error::new(ErrorKind::Conflict, reason).operation(Operation::new("register"))
}

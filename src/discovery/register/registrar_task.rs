//! All registrations of one registrar: the worker's side. It carries out what the owned keys decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, TryRecvError};

use self::batches::UnderWay;
use self::lease::Retired;
use super::batch_plan::BatchPlan;
use super::entry::{Entry, Given};
use super::key_queue::KeyQueue;
use super::lease_check::LeaseCheck;
use super::lease_validity::LeaseValidity;
use super::leases::Leases;
use super::leave_group::LeaveTicket;
use super::owned_key::{OwnedKey, Phase};
use super::probe::Probe;
use super::registrar::Command;
use super::shared_lease::SharedLease;
use super::size_check;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::watch::{LatestSet, WatchKey};
use crate::types::KeyValue;
use crate::util::jitter;
use crate::worker::{AT_ONCE, Next, Part};

mod batches;
mod keys;
mod lease;

#[derive(Debug)]
pub(super) struct RegistrarTask {
    client: Client,
    codec: Codec,
    prefix: String,
    commands: Receiver<Command>,
    open: bool,
    ttl: Duration,
    shared_lease: SharedLease,
    leases: Leases,
    validity: Arc<LeaseValidity>,
    /// Leases that are not renewed any more, and on which keys may still be.
    retired: Vec<Retired>,
    lease_check: LeaseCheck,
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
    key_queue: KeyQueue,
    watches: LatestSet,
    /// The generation of the watches in which every key was looked at.
    looked_at: u64,
    watched: HashMap<WatchKey, u64>,
    /// Those whose watch was refused are watched again then.
    watch_again: BTreeSet<(Instant, u64)>,
    /// Those whose key is not watched for too long.
    unguarded: BTreeSet<u64>,
    guard_at: Option<Instant>,
    plan: BatchPlan,
    /// The transactions that are on their way, by the ids of their batches.
    under_way: BTreeMap<u64, UnderWay>,
    /// How long the names of a namespace are in front of keys.
    namespace: usize,
    probe: Probe,
    /// Tells this process's registration of an instance from another's.
    incarnation: u64,
}

impl RegistrarTask {
    pub(super) fn new(
        client: Client,
        codec: Codec,
        prefix: String,
        ttl: Duration,
        commands: Receiver<Command>,
    ) -> Result<Self> {
        let validity = Arc::new(LeaseValidity::new(ttl));
        Ok(RegistrarTask {
            ttl,
            shared_lease: SharedLease::new(client.clone(), ttl, Arc::clone(&validity)),
            retired: Vec::new(),
            lease_check: LeaseCheck::new(&client),
            validity,
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
            key_queue: KeyQueue::default(),
            watched: HashMap::new(),
            watch_again: BTreeSet::new(),
            unguarded: BTreeSet::new(),
            guard_at: None,
            incarnation: (jitter::number() >> 11).max(1),
        })
    }

    fn mark_dirty(&mut self, number: u64) {
        self.to_send.insert(number);
        self.to_show.insert(number);
    }

    fn mark_all_dirty(&mut self) {
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
                let last = self.key_queue.last(&key).and_then(|n| self.entries.get(&n));
                if last.is_some_and(|entry| !entry.owned_key.is_leaving()) {
                    let reason = "this registrar has a registration of the same instance already";
                    return shared.refuse(Error::new(ErrorKind::Conflict, reason));
                }
                let value = self.codec.encode(&instance, self.incarnation);
                self.key_queue.join(key.clone(), number);
                shared.attach(&self.validity);
                let owned_key = OwnedKey::new(key, value, on_conflict);
                self.entries.insert(
                    number,
                    Entry::new(owned_key, shared, Given::new(instance.status, version)),
                );
                self.staying += 1;
                self.mark_dirty(number);
            }
            Command::Update(number) => {
                if let Some(entry) = self.entries.get_mut(&number) {
                    let (instance, version) = entry.shared.newest();
                    let value = self.codec.encode(&instance, self.incarnation);
                    entry.update(value, Given::new(instance.status, version));
                    self.plan.changed(number, Instant::now());
                    self.mark_dirty(number);
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
        self.staying -= usize::from(!entry.owned_key.is_leaving());
        entry.leave(ticket);
        self.plan.changed(number, Instant::now());
        self.mark_dirty(number);
    }

    /// Shows every state, watches what is not watched yet, and lets go of what has left.
    fn settle(&mut self, now: Instant) {
        let mut unwatched = Vec::new();
        for number in std::mem::take(&mut self.to_show) {
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            if entry.owned_key.phase != Phase::Left {
                let retired = entry.owned_key.placed().and_then(|placed| {
                    let mut retired = self.retired.iter();
                    retired.find(|retired| retired.id == placed.lease)
                });
                let validity = retired.map_or(&self.validity, |retired| &retired.validity);
                entry.show(validity, self.unguarded.contains(&number));
                if entry.watch.is_none() && entry.owned_key.watch_after().is_some() {
                    unwatched.push(number);
                }
                continue;
            }
            if let Some(watch) = entry.watch {
                self.watched.remove(&watch);
                self.watches.remove(watch);
            }
            if let Some(next) = self.key_queue.leave(&entry.owned_key.key, number) {
                self.to_send.insert(next);
            }
            entry.left();
            self.entries.remove(&number);
            self.plan.forget(number);
            self.unguarded.remove(&number);
        }
        self.watch_keys(&unwatched, now);
    }

    fn close(&mut self, reason: &Error) {
        for entry in self.entries.values() {
            entry.shared.end(Err(reason.clone()));
        }
        self.entries.clear();
    }
}

impl Drop for RegistrarTask {
    /// Whatever ends the worker's part, those who hold its registrations are told.
    fn drop(&mut self) {
        self.close(&Error::closed());
    }
}

impl Part for RegistrarTask {
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
        self.watch_again(now);
        self.guard(now);
        self.settle(now);
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
            self.shared_lease.due(now),
            self.retired.iter().map(|retired| retired.due(now)).min(),
            self.lease_check.due(self.shown_suspect, &self.leases),
            self.guard_at,
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
        self.shared_lease.wait(select);
        self.lease_check.wait(select);
        self.probe.wait(select);
    }
}

/// Whether a value is an instance, and so whoever put it registered.
fn valid(codec: Codec, prefix: &str) -> impl Fn(&KeyValue) -> bool + '_ {
    move |kv| codec.decode(prefix, kv.key(), kv.value()).is_ok()
}

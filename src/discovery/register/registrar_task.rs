//! The worker's side of a registrar. It executes the steps that the owned keys decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError};

use super::batch_plan::BatchPlan;
use super::command::Command;
use super::entry::{Entry, ValueVersion};
use super::key_queue::KeyQueue;
use super::lease_check::LeaseCheck;
use super::lease_validity::LeaseValidity;
use super::leave_group::LeaveReply;
use super::owned_keys::OwnedKeys;
use super::population::Population;
use super::probe::Probe;
use super::registrar_leases::RegistrarLeases;
use super::retired_lease::RetiredLease;
use super::sent_batch::SentBatch;
use super::shared_lease::SharedLease;
use super::size_check;
use crate::client::Client;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_source::OverrideSource;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::watch::{LatestSet, WatchKey};
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;
use crate::worker::{AT_ONCE, NextWork, Part};

mod batches;
mod keys;
mod lease;
mod overrides;

/// Keeps all registrations of one registrar in etcd.
#[derive(Debug)]
pub(super) struct RegistrarTask {
    client: Client,
    /// At least one.
    formats: Vec<Format>,
    commands: Receiver<Command>,
    open: bool,
    ttl: Duration,
    shared_lease: SharedLease,
    leases: RegistrarLeases,
    validity: Arc<LeaseValidity>,
    /// RegistrarLeases that are no longer renewed, and to which keys may still be attached.
    retired: Vec<RetiredLease>,
    lease_check: LeaseCheck,
    /// Boxed, because the nodes of a tree are half empty when the numbers ascend.
    entries: BTreeMap<u64, Box<Entry>>,
    /// The number of entries that are not leaving.
    active: usize,
    /// The entries that may have a next step, so that an event of one entry does not cost a pass over
    /// all of them.
    to_send: BTreeSet<u64>,
    /// The entries whose state may have changed.
    to_publish: BTreeSet<u64>,
    /// The entries whose keys are put back with a delay.
    delayed: BTreeSet<(Instant, u64)>,
    /// Whether every entry was published with a suspect lease.
    published_suspect: bool,
    key_queue: KeyQueue,
    watches: LatestSet,
    /// The generation of the watches in which every key was last read.
    read_generation: u64,
    /// The registration and the position of the key that each watch is for.
    watched: HashMap<WatchKey, (u64, usize)>,
    /// The time at which the entries whose watch was refused are watched again.
    watch_retries: BTreeSet<(Instant, u64)>,
    /// The entries whose keys have not been watched for too long.
    unwatched: BTreeSet<u64>,
    check_watches_at: Option<Instant>,
    plan: BatchPlan,
    /// The transactions in flight, by the ids of their batches.
    in_flight: BTreeMap<u64, SentBatch>,
    /// The number of bytes that the client's namespace adds before each key.
    namespace: usize,
    probe: Probe,
    overrides: OverrideSource,
    population: Population,
}

impl RegistrarTask {
    pub(super) fn new(
        client: Client,
        formats: Vec<Format>,
        ttl: Duration,
        commands: Receiver<Command>,
    ) -> Result<Self> {
        let validity = Arc::new(LeaseValidity::new(ttl));
        let first = formats.first();
        let probed = first.map(|format| format.range("").start().clone());
        let probed = probed.unwrap_or_default();
        let all = first.map_or_else(KeyRange::all, Format::all);
        Ok(RegistrarTask {
            ttl,
            shared_lease: SharedLease::new(client.clone(), ttl, Arc::clone(&validity)),
            retired: Vec::new(),
            lease_check: LeaseCheck::new(&client),
            validity,
            watches: client.latest_set()?,
            read_generation: 0,
            plan: BatchPlan::new(size_check::limits(&client), formats.len()),
            in_flight: BTreeMap::new(),
            namespace: size_check::namespace(&client),
            probe: Probe::new(&client, probed),
            population: Population::new(&client, all),
            overrides: OverrideSource::new(&client, first.map_or("", Format::beginning)),
            client,
            formats,
            commands,
            open: true,
            leases: RegistrarLeases::default(),
            entries: BTreeMap::new(),
            active: 0,
            to_send: BTreeSet::new(),
            to_publish: BTreeSet::new(),
            delayed: BTreeSet::new(),
            published_suspect: true,
            key_queue: KeyQueue::default(),
            watched: HashMap::new(),
            watch_retries: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            check_watches_at: None,
        })
    }

    fn mark_dirty(&mut self, number: u64) {
        self.to_send.insert(number);
        self.to_publish.insert(number);
    }

    fn mark_all_dirty(&mut self) {
        self.to_send.extend(self.entries.keys());
        self.to_publish.extend(self.entries.keys());
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
                self.overrides.start(Instant::now());
                let by_operator = self.overrides.of(&shared.instance());
                let (instance, version) = shared.newest(by_operator.clone().ok().flatten());
                let keys = self.formats.iter();
                let keys = keys.map(|format| format.key(&shared.instance()));
                let keys: Result<Vec<_>> = keys.collect();
                let (keys, values) = match (keys, values(&self.formats, instance.as_deref())) {
                    (Ok(keys), Ok(values)) => (keys, values),
                    (Err(error), _) | (_, Err(error)) => return shared.refuse(error),
                };
                let is_registered = |key| {
                    let last = self.key_queue.last(key).and_then(|n| self.entries.get(&n));
                    last.is_some_and(|entry| !entry.keys.is_leaving())
                };
                if keys.iter().any(is_registered) {
                    let reason = "this registrar already has a registration of the same instance: \
                                  keep one of the two, or give the other another id";
                    return shared.refuse(Error::new(ErrorKind::Conflict, reason));
                }
                for key in &keys {
                    self.key_queue.join(key.clone(), number);
                }
                shared.attach(&self.validity);
                let keys = OwnedKeys::new(keys.into_iter().zip(values), on_conflict);
                let version = ValueVersion::new(instance.as_deref(), version);
                let mut entry = Entry::new(keys, shared, version);
                entry.override_error = by_operator.err();
                self.entries.insert(number, Box::new(entry));
                self.active += 1;
                self.mark_dirty(number);
            }
            Command::Update(number) => self.update(number),
            Command::Leave(number, reply) => self.leave(number, reply),
            Command::LeaveAll(reply) => {
                for number in self.entries.keys().copied().collect::<Vec<_>>() {
                    self.leave(number, reply.another());
                }
                reply.complete(Ok(()));
            }
        }
    }

    /// Writes the instance of an entry as its program, its health checks and an operator want it now.
    fn update(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let by_operator = self.overrides.of(&entry.shared.instance());
        let (instance, version) = entry.shared.newest(by_operator.clone().ok().flatten());
        entry.override_error = by_operator.err();
        match values(&self.formats, instance.as_deref()) {
            Ok(values) => entry.update(values, ValueVersion::new(instance.as_deref(), version)),
            // The handle checked that before.
            Err(error) => entry.failed(&error),
        }
        self.plan.changed(number, Instant::now());
        self.mark_dirty(number);
    }

    fn leave(&mut self, number: u64, reply: LeaveReply) {
        let Some(entry) = self.entries.get_mut(&number) else {
            // It has left already, or was refused.
            return reply.complete(Ok(()));
        };
        self.active -= usize::from(!entry.keys.is_leaving());
        entry.leave(reply);
        self.plan.changed(number, Instant::now());
        self.mark_dirty(number);
    }

    /// Publishes changed states, watches keys that are not watched yet, and removes entries that have
    /// left.
    fn settle(&mut self, now: Instant) {
        let mut to_watch = Vec::new();
        for number in std::mem::take(&mut self.to_publish) {
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            if !entry.keys.is_released() {
                let retired = entry.keys.stored_at().and_then(|stored_at| {
                    let mut retired = self.retired.iter();
                    retired.find(|retired| retired.id == stored_at.lease)
                });
                let validity = retired.map_or(&self.validity, |retired| &retired.validity);
                entry.publish(validity, self.unwatched.contains(&number));
                if entry.unwatched().next().is_some() {
                    to_watch.push(number);
                }
                continue;
            }
            for watch in entry.watches.iter().flatten() {
                self.watched.remove(watch);
                self.watches.remove(*watch);
            }
            for owned_key in entry.keys.iter() {
                let next = self.key_queue.leave(&owned_key.key, number);
                self.to_send.extend(next);
            }
            entry.left();
            self.entries.remove(&number);
            self.plan.forget(number);
            self.unwatched.remove(&number);
        }
        self.watch_keys(&to_watch, now);
    }

    fn close(&mut self, reason: &Error) {
        for entry in self.entries.values() {
            entry.shared.end(Err(reason.clone()));
        }
        self.entries.clear();
    }
}

impl Drop for RegistrarTask {
    /// Ends all registrations, so that their handles do not wait for a task that has ended.
    fn drop(&mut self) {
        self.close(&Error::closed());
    }
}

impl Part for RegistrarTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        self.take_commands();
        if self.client.is_closed() {
            return None;
        }
        self.follow_lease(now);
        if self.follow_keys().is_err() {
            return None;
        }
        self.follow_overrides(now);
        self.take_answers(now);
        self.population.work(now, self.leases.current.is_some());
        self.shared_lease
            .set_spread(self.population.window(self.entries.len()));
        self.probe_connection(now);
        self.retry_watches(now);
        self.check_watches(now);
        self.settle(now);
        // After `settle`: an entry that left may have made another one first in its queue.
        self.send_batches(now);
        // All handles are dropped. They waited for a second at most; keys that are still there expire
        // with the lease.
        if !self.open {
            return None;
        }
        let due = [
            self.plan.due(now),
            self.delayed.first().map(|(until, _)| *until),
            self.watch_retries.first().map(|(until, _)| *until),
            self.shared_lease.due(now),
            self.retired.iter().map(|retired| retired.due(now)).min(),
            self.lease_check.due(self.published_suspect, &self.leases),
            self.check_watches_at,
            self.probe.due(self.waits_since()),
            self.overrides.due(now),
            self.population.due(self.leases.current.is_some()),
        ];
        Some(NextWork(due.into_iter().flatten().min()))
    }

    fn failed(&mut self, error: &Error) {
        self.close(error);
    }

    fn wait(&self, waker: &Waker) {
        // A handle that sends a command wakes the part.
        if !self.commands.is_empty() {
            waker.wake_by_ref();
        }
        self.watches.wake_when_ready(waker);
        for batch in self.in_flight.values() {
            batch.answer.wake_when_ready(waker);
        }
        self.shared_lease.wait(waker);
        self.lease_check.wait(waker);
        self.probe.wait(waker);
        self.overrides.wait(waker);
        self.population.wait(waker);
    }
}

/// Whether a value is an instance in a format, and so its key a registration.
fn valid(format: Option<&Format>) -> impl Fn(&KeyValue) -> bool + '_ {
    move |kv| {
        let decoded = format.map(|format| format.decode(kv.key(), kv.value()));
        matches!(decoded, Some(Ok(Some(_))))
    }
}

/// The values of an instance in all formats. An instance that must not be in etcd has none.
fn values(formats: &[Format], instance: Option<&Instance>) -> Result<Vec<Option<Bytes>>> {
    let value = |format: &Format| instance.map_or(Ok(None), |instance| format.encode(instance));
    formats.iter().map(value).collect()
}

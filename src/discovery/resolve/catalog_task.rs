//! The worker's side of a catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::Select;

use super::catalog_link::CatalogState;
use super::catalog_split::{Split, split};
use super::change::Change;
use super::change_queue::ChangeQueue;
use super::directory::{ChangeRecord, DirectoryUpdate};
use super::freshness::SourceStates;
use super::name_queue::NameQueue;
use super::protection::Protection;
use super::service_list::{ServiceList, with_id};
use super::source::{Source, SourceEvent};
use super::tcp_prober::{ProbeResults, TcpProber};
use super::view_state::SharedView;
use crate::discovery::overrides::override_feed::OverrideReader;
use crate::error::Error;
use crate::observe::Telemetry;
use crate::types::Revision;
use crate::worker::{NextWork, Part};

/// The most probes of one catalog that are open at a time.
const MAX_PROBES: usize = 32;

/// Keeps a catalog and its views up to date.
#[derive(Debug)]
pub(super) struct CatalogTask {
    sources: Vec<Source>,
    states: SourceStates,
    is_stale_reported: bool,
    state: Arc<CatalogState>,
    overrides: OverrideReader,
    protection: Protection,
    /// Boxed, because half of the places of a map are empty.
    services: HashMap<Arc<str>, Box<Entry>>,
    /// The services that changed, and are to be published.
    changed: BTreeSet<Arc<str>>,
    /// The services with work at a time, with something that is not settled, with views, and with a full
    /// queue of a view.
    due: BTreeSet<(Instant, Arc<str>)>,
    settling: BTreeSet<Arc<str>>,
    viewed: BTreeSet<Arc<str>>,
    full: BTreeSet<Arc<str>>,
    names: NameQueue,
    ttl: Option<Duration>,
    prober: Arc<TcpProber>,
    probed: Arc<ProbeResults>,
    /// The probes that are not sent yet, and the services for which the open ones are.
    probes: VecDeque<(Arc<str>, Arc<str>)>,
    probing: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    telemetry: Arc<Telemetry>,
}

/// One service.
#[derive(Debug)]
struct Entry {
    list: ServiceList,
    shared: Arc<SharedView>,
    queues: Vec<ChangeQueue>,
    due: Option<Instant>,
    shown: usize,
}

impl CatalogTask {
    pub(super) fn new(
        (sources, states): (Vec<Source>, SourceStates),
        state: Arc<CatalogState>,
        overrides: OverrideReader,
        protection: Protection,
        names: NameQueue,
        (prober, telemetry): (Arc<TcpProber>, Arc<Telemetry>),
    ) -> Self {
        CatalogTask {
            sources,
            is_stale_reported: false,
            states,
            state,
            overrides,
            protection,
            services: HashMap::new(),
            changed: BTreeSet::new(),
            due: BTreeSet::new(),
            settling: BTreeSet::new(),
            viewed: BTreeSet::new(),
            full: BTreeSet::new(),
            names,
            ttl: None,
            prober,
            probed: Arc::new(ProbeResults::default()),
            probes: VecDeque::new(),
            probing: BTreeMap::new(),
            telemetry,
        }
    }

    /// Publishes the first list, if there is one.
    pub(super) fn open(&mut self, now: Instant) {
        self.sources.iter_mut().for_each(Source::list);
        self.take_events(now);
        self.is_stale_reported = self.states.stale_since().is_some();
        self.publish(now);
    }

    fn take_events(&mut self, now: Instant) {
        for n in 0..self.sources.len() {
            let events = self.sources.get_mut(n).map(Source::take_events);
            for event in events.into_iter().flatten() {
                self.event(n, event, now);
            }
        }
    }

    fn event(&mut self, source: usize, event: SourceEvent, now: Instant) {
        match event {
            SourceEvent::Listed(update) => {
                self.update(source, update, now);
                self.states.listed(source);
                if self.states.is_listed() {
                    for name in std::mem::take(&mut self.settling) {
                        self.service(&name).list.settle(now);
                        self.changed.insert(name);
                    }
                }
            }
            SourceEvent::Update(update) => self.update(source, update, now),
            SourceEvent::Ttl(ttl) => {
                if self.ttl < Some(ttl) {
                    self.ttl = Some(ttl);
                    self.services.values_mut().for_each(|one| one.list.ttl(ttl));
                }
            }
            SourceEvent::Stale(since) => self.states.set_stale(source, Some(since)),
            SourceEvent::Live => self.states.set_stale(source, None),
        }
    }

    /// Applies an update of a source to the services that it concerns.
    fn update(&mut self, source: usize, update: DirectoryUpdate, now: Instant) {
        let Split { services, bad } = split(update);
        for (name, update) in services {
            let service = self.service(&name);
            service.list.update(source, update, now);
            if service.list.is_settling() {
                self.settling.insert(name.clone());
            }
            self.changed.insert(name);
        }
        for (key, reason) in bad {
            self.names.bad(key, reason);
        }
    }

    fn service(&mut self, name: &Arc<str>) -> &mut Entry {
        self.services.entry(name.clone()).or_insert_with(|| {
            let shared = self.state.service(name);
            let filter = Arc::clone(shared.balancer().filter());
            let protection = self.protection.clone();
            let mut list = ServiceList::new(self.sources.len(), protection, filter);
            if let Some(ttl) = self.ttl {
                list.ttl(ttl);
            }
            list.set_overrides(self.overrides.of(name), |_| Vec::new());
            Box::new(Entry {
                list,
                shared,
                queues: Vec::new(),
                due: None,
                shown: 0,
            })
        })
    }

    /// Shows instances as operators set them. Everything that is shown was published before.
    fn follow_overrides(&mut self) {
        for (name, overrides) in self.overrides.take() {
            if let Some(service) = self.services.get_mut(name.as_str()) {
                let snapshot = service.shared.snapshot();
                let shown_with = |id: &str| with_id(&snapshot, id);
                service.list.set_overrides(overrides, shown_with);
                self.changed.insert(name.into());
            }
        }
    }

    fn take_requests(&mut self, now: Instant) {
        // First, because a view reads after it was opened.
        let woken = self.state.take_woken();
        for (name, queue) in self.state.take_opened() {
            let service = self.service(&name);
            service.queues.retain(|queue| !queue.is_abandoned());
            service.queues.push(queue);
            self.viewed.insert(name.clone());
            self.changed.insert(name);
        }
        self.changed.extend(woken);
        self.changed.append(&mut self.full);
        while let Some((at, name)) = self.due.first()
            && *at <= now
        {
            self.changed.insert(name.clone());
            self.due.pop_first();
        }
    }

    fn probe(&mut self, now: Instant) {
        for (addr, verdict) in self.probed.take() {
            for name in self.probing.remove(&addr).into_iter().flatten() {
                if let Some(service) = self.services.get_mut(&name) {
                    service.list.probed(&addr, verdict, now);
                    self.changed.insert(name);
                }
            }
        }
    }

    fn send_probes(&mut self) {
        while self.probing.len() < MAX_PROBES
            && let Some((name, addr)) = self.probes.pop_front()
        {
            let services = self.probing.entry(addr.clone()).or_default();
            if services.is_empty() {
                self.prober.probe(addr, &self.probed);
            }
            services.insert(name);
        }
    }

    /// Reports to all views that they became stale or live.
    fn report_state(&mut self) {
        let change = match self.states.stale_since() {
            Some(since) if !self.is_stale_reported => Change::Stale { since },
            None if self.is_stale_reported => Change::Live,
            _ => return,
        };
        self.is_stale_reported = !self.is_stale_reported;
        for name in &self.viewed {
            if let Some(service) = self.services.get_mut(name) {
                service.list.report(change.clone());
                self.changed.insert(name.clone());
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let changed = std::mem::take(&mut self.changed);
        // All instances first: a reader that finds a revision has the instances.
        let mut records = Vec::new();
        for name in &changed {
            let Some(service) = self.services.get_mut(name) else {
                continue;
            };
            service.list.tick(now);
            if let Some(suspects) = service.list.take_mass_expiry() {
                self.telemetry.views.mass_expiry(name, suspects);
            }
            let probes = service.list.take_probes(now).into_iter();
            self.probes.extend(probes.map(|addr| (name.clone(), addr)));
            let mut update = service.list.take();
            service.shown = update.shown;
            records.push((name, std::mem::take(&mut update.records)));
            service.shared.publish(update);
            if let Some(due) = service.due.take() {
                self.due.remove(&(due, name.clone()));
            }
            service.due = service.list.due();
            self.due.extend(service.due.map(|due| (due, name.clone())));
            match service.list.is_settling() {
                true => self.settling.insert(name.clone()),
                false => self.settling.remove(name),
            };
            if self.state.set_present(name, service.shown > 0) {
                self.names.changed(name.clone());
            }
        }
        let reported = self.sources.iter().map(Source::reported);
        let reported: Option<Vec<(u64, Revision)>> = reported.collect();
        let revision = reported.and_then(|all| all.into_iter().min());
        let revision = revision.filter(|_| self.settling.is_empty());
        self.state.position().publish(revision, &self.states);
        for (name, records) in records {
            self.report(name, records);
        }
        let sources = &self.sources;
        self.state.with_names(|names| {
            self.names.flush(names, || {
                let bad = sources.iter().flat_map(|one| one.directory().bad_values());
                bad.filter_map(|change| match change {
                    Change::Bad { key, reason } => Some((key, reason)),
                    _ => None,
                })
                .collect()
            });
        });
    }

    /// Reports the changes of a service to its views, and forgets it when nobody needs it.
    fn report(&mut self, name: &Arc<str>, records: Vec<ChangeRecord>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.queues.retain(|queue| !queue.is_abandoned());
        for queue in &mut service.queues {
            for record in &records {
                queue.push(record.clone());
            }
            queue.flush(|| {
                let added = service.shared.snapshot().to_vec();
                let (updated, removed) = (Vec::new(), Vec::new());
                let reset = (!added.is_empty()).then_some(Change::Reset {
                    added,
                    updated,
                    removed,
                });
                let stale = self.states.stale_since();
                let stale = stale.map(|since| Change::Stale { since });
                reset.into_iter().chain(stale).collect()
            });
            if queue.is_full() {
                self.full.insert(name.clone());
            }
        }
        if service.queues.is_empty() {
            self.viewed.remove(name);
            let is_idle = service.shown == 0 && service.due.is_none();
            if is_idle && self.state.forget(name, &service.shared) {
                self.services.remove(name);
            }
        }
    }
}

impl Part for CatalogTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        self.follow_overrides();
        let mut ended = Ok(());
        for source in &mut self.sources {
            ended = ended.and(source.work(now));
        }
        self.take_requests(now);
        self.take_events(now);
        self.report_state();
        self.probe(now);
        self.publish(now);
        self.send_probes();
        if let Err(ended) = ended {
            self.failed(&ended);
            return None;
        }
        let due = self.sources.iter().filter_map(Source::due);
        let due = due.chain(self.due.first().map(|(at, _)| *at));
        Some(NextWork(due.min()))
    }

    fn failed(&mut self, error: &Error) {
        self.state.position().end(error.clone());
        for shared in self.state.all() {
            shared.ended();
        }
    }

    fn wait(&self, waker: &Waker) {
        self.sources.iter().for_each(|source| source.wait(waker));
        self.probed.wake_when_ready(waker);
        self.overrides.wake_when_ready(waker);
    }

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        self.names.wait_for_room(select);
        let full = self.full.iter().filter_map(|name| self.services.get(name));
        for queue in full.flat_map(|service| &service.queues) {
            queue.wait_for_room(select);
        }
    }

    fn is_full(&self) -> bool {
        self.names.is_full() || !self.full.is_empty()
    }
}

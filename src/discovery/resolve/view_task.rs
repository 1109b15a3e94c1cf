//! The worker's side of a view.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::Select;

use super::change::Change;
use super::change_queue::ChangeQueue;
use super::freshness::SourceStates;
use super::service_list::{ServiceList, with_id};
use super::source::{Source, SourceEvent};
use super::tcp_prober::{ProbeResults, TcpProber};
use super::view_start::ViewCache;
use super::view_state::SharedView;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_feed::OverrideReader;
use crate::error::Error;
use crate::observe::Telemetry;
use crate::types::Revision;
use crate::worker::{NextWork, Part};

/// Keeps one view up to date.
#[derive(Debug)]
pub(super) struct ViewTask {
    pub(super) service: String,
    pub(super) sources: Vec<Source>,
    pub(super) states: SourceStates,
    /// Whether the last report was that the view is stale.
    pub(super) is_stale_reported: bool,
    pub(super) list: ServiceList,
    pub(super) overrides: OverrideReader,
    pub(super) shared: Arc<SharedView>,
    pub(super) queue: ChangeQueue,
    pub(super) prober: Arc<TcpProber>,
    pub(super) probed: Arc<ProbeResults>,
    pub(super) cache: Option<ViewCache>,
    pub(super) telemetry: Arc<Telemetry>,
}

impl ViewTask {
    /// Publishes the first list: those of the sources, or the seeds.
    pub(super) fn open(&mut self, seeds: Vec<Vec<Arc<Instance>>>, now: Instant) {
        self.follow_overrides();
        for (source, seeds) in seeds.into_iter().enumerate() {
            self.list.seed(source, seeds, now);
        }
        for n in 0..self.sources.len() {
            self.list_source(n, now);
        }
        self.report_state();
        self.publish(now);
    }

    fn list_source(&mut self, n: usize, now: Instant) {
        if let Some(source) = self.sources.get_mut(n) {
            source.list();
            for event in source.take_events() {
                self.event(n, event, now);
            }
        }
    }

    fn take_events(&mut self, now: Instant) {
        for n in 0..self.sources.len() {
            let events = self.sources.get_mut(n).map(Source::take_events);
            for event in events.into_iter().flatten() {
                self.event(n, event, now);
                self.report_state();
            }
        }
    }

    fn event(&mut self, source: usize, event: SourceEvent, now: Instant) {
        match event {
            SourceEvent::Listed(update) => {
                self.list.listed(source, update, now);
                self.states.listed(source);
                if self.states.is_listed() {
                    self.list.settle(now);
                }
            }
            SourceEvent::Update(update) => self.list.update(source, update, now),
            SourceEvent::Ttl(ttl) => self.list.ttl(ttl),
            SourceEvent::Stale(since) => self.states.set_stale(source, Some(since)),
            SourceEvent::Live => self.states.set_stale(source, None),
        }
    }

    /// Shows instances as operators set them. Everything that is shown was published before.
    fn follow_overrides(&mut self) {
        for (_, overrides) in self.overrides.take() {
            let snapshot = self.shared.snapshot();
            self.list
                .set_overrides(overrides, |id| with_id(&snapshot, id));
        }
    }

    /// Reports that the view became stale or live.
    fn report_state(&mut self) {
        match self.states.stale_since() {
            Some(since) if !self.is_stale_reported => self.list.report(Change::Stale { since }),
            None if self.is_stale_reported => self.list.report(Change::Live),
            _ => return,
        }
        self.is_stale_reported = !self.is_stale_reported;
    }

    /// Writes the cache file, if it is time and the list is as etcd has it.
    fn save(&mut self, is_changed: bool, now: Instant) {
        let is_true = self.states.stale_since().is_none()
            && !self.list.is_settling()
            && !self.list.is_holding()
            && !self.sources.iter().any(Source::is_recovering);
        if let Some(cache) = &mut self.cache {
            if is_changed {
                cache.changed();
            }
            cache.write(is_true, &self.sources, now);
        }
    }

    fn probe(&mut self, now: Instant) {
        if let Some(suspects) = self.list.take_mass_expiry() {
            self.telemetry.views.mass_expiry(&self.service, suspects);
        }
        for (addr, verdict) in self.probed.take() {
            self.list.probed(&addr, verdict, now);
        }
        for addr in self.list.take_probes(now) {
            self.prober.probe(addr, &self.probed);
        }
    }

    /// Publishes the snapshot, and then reports the changes: a reader of a change finds it in the snapshot.
    fn publish(&mut self, now: Instant) {
        let mut update = self.list.take();
        let records = std::mem::take(&mut update.records);
        let reported = self.sources.iter().map(Source::reported);
        // Without a list of each source, no revision is complete.
        let reported: Option<Vec<(u64, Revision)>> = reported.collect();
        let revision = reported.and_then(|all| all.into_iter().min());
        let revision = revision.filter(|_| !self.list.is_settling());
        let is_changed = !update.edits.is_empty();
        self.shared.publish(update);
        self.shared.position().publish(revision, &self.states);
        self.save(is_changed, now);
        for record in records {
            self.queue.push(record);
        }
        let (shared, sources, states) = (&self.shared, &self.sources, &self.states);
        self.queue.flush(|| {
            let added = shared.snapshot().to_vec();
            let (updated, removed) = (Vec::new(), Vec::new());
            let reset = (!added.is_empty()).then_some(Change::Reset {
                added,
                updated,
                removed,
            });
            let bad = sources.iter().flat_map(|one| one.directory().bad_values());
            let stale = states.stale_since().map(|since| Change::Stale { since });
            reset.into_iter().chain(bad).chain(stale).collect()
        });
    }
}

impl Part for ViewTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        self.follow_overrides();
        let mut ended = Ok(());
        for source in &mut self.sources {
            ended = ended.and(source.work(now));
        }
        self.take_events(now);
        self.list.tick(now);
        self.probe(now);
        self.publish(now);
        if let Err(ended) = ended {
            self.failed(&ended);
            return None;
        }
        let due = self.sources.iter().filter_map(Source::due);
        let due = due.chain(self.list.due());
        let save = self.cache.as_ref().and_then(|cache| cache.next_work(now));
        Some(NextWork(due.chain(save).min()))
    }

    fn failed(&mut self, error: &Error) {
        self.shared.position().end(error.clone());
        self.shared.ended();
    }

    fn wait(&self, waker: &Waker) {
        self.sources.iter().for_each(|source| source.wait(waker));
        self.probed.wake_when_ready(waker);
        self.overrides.wake_when_ready(waker);
        if let Some(cache) = &self.cache {
            cache.wake_when_ready(waker);
        }
    }

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        self.queue.wait_for_room(select);
    }

    fn is_full(&self) -> bool {
        self.queue.is_full()
    }
}

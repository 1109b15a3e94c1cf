//! The instances of one service: from the changes of its sources to the list that is shown. Pure.
//!
//! The stages are: merge by address, hold what expired, apply the overrides of operators, and list.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::change::Change;
use super::directory::{ChangeRecord, DirectoryUpdate};
use super::hold::{Hold, ShownStep};
use super::instance_list::InstanceEdit;
use super::merge::Merge;
use super::override_stage::OverrideStage;
use super::pick_edits::PickEdits;
use super::probe_plan::Verdict;
use super::protection::Protection;
use crate::discovery::balance::filter::Filter;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_feed::ServiceOverrides;

/// The stages of one service.
#[derive(Debug)]
pub(super) struct ServiceList {
    merge: Merge,
    hold: Hold,
    overrides: OverrideStage,
    picks: PickEdits,
    records: Vec<ChangeRecord>,
    edits: Vec<InstanceEdit>,
    merged: Vec<Change>,
    shown: usize,
}

/// What to publish.
#[derive(Debug, Default)]
pub(super) struct ListUpdate {
    /// The changes to report, in this order.
    pub(super) records: Vec<ChangeRecord>,
    /// The edits of the snapshot.
    pub(super) edits: Vec<InstanceEdit>,
    /// The edits of the balancer.
    pub(super) picks: Vec<InstanceEdit>,
    /// The number of instances in the snapshot.
    pub(super) shown: usize,
}

impl ServiceList {
    /// Creates the list of a service with this number of sources, of which those that pass `filter` are picked.
    pub(super) fn new(sources: usize, protection: Protection, filter: Arc<Filter>) -> Self {
        ServiceList {
            merge: Merge::new(sources),
            hold: Hold::new(protection),
            overrides: OverrideStage::default(),
            picks: PickEdits::new(filter),
            records: Vec::new(),
            edits: Vec::new(),
            merged: Vec::new(),
            shown: 0,
        }
    }

    /// Adds instances that did not come from etcd. They stay until their source is listed.
    pub(super) fn seed(&mut self, source: usize, instances: Vec<Arc<Instance>>, now: Instant) {
        self.merged = self.merge.seed(source, instances);
        self.hold_merged(true, now);
        self.show(true);
    }

    /// Applies an update of a source.
    pub(super) fn update(&mut self, source: usize, update: DirectoryUpdate, now: Instant) {
        self.apply(source, update, false, now);
    }

    /// Applies the first list of a source. It replaces the seeds of that source.
    pub(super) fn listed(&mut self, source: usize, update: DirectoryUpdate, now: Instant) {
        self.apply(source, update, true, now);
    }

    /// Shows all instances, when all sources were listed.
    pub(super) fn settle(&mut self, now: Instant) {
        self.merge.settle_all(&mut self.merged);
        self.hold_merged(true, now);
        self.show(true);
    }

    fn apply(&mut self, source: usize, update: DirectoryUpdate, is_first: bool, now: Instant) {
        for instance in update.unexplained {
            if self.merge.is_shown(source, &instance) {
                self.hold.unexplained(instance);
            }
        }
        let (mut before, mut is_reset) = (update.before.into_iter(), is_first);
        let mut bad = Vec::new();
        for change in update.changes {
            match change {
                Change::Reset {
                    added,
                    updated,
                    removed,
                } => {
                    is_reset = true;
                    let removed = removed
                        .into_iter()
                        .map(|(instance, cause)| Change::Removed { instance, cause });
                    let updated = updated
                        .into_iter()
                        .zip(&mut before)
                        .map(|(instance, before)| Change::Updated { instance, before });
                    let added = added.into_iter().map(Change::Added);
                    for change in removed.chain(updated).chain(added) {
                        self.merge.apply(source, change, now, &mut self.merged);
                    }
                }
                change @ (Change::Bad { .. } | Change::Stale { .. } | Change::Live) => {
                    bad.push(change);
                }
                change => self.merge.apply(source, change, now, &mut self.merged),
            }
        }
        if is_first {
            self.merge.listed(source, now, &mut self.merged);
        }
        self.hold_merged(is_first, now);
        self.show(is_reset);
        self.records.extend(bad.into_iter().map(ChangeRecord::from));
    }

    /// Decides again as time goes by.
    pub(super) fn tick(&mut self, now: Instant) {
        self.merge.tick(now, &mut self.merged);
        self.hold_merged(false, now);
        self.show(false);
    }

    /// Applies the result of a probe.
    pub(super) fn probed(&mut self, addr: &Arc<str>, verdict: Verdict, now: Instant) {
        self.hold.probed(addr, verdict, now);
        self.show(false);
    }

    /// Reports a change that concerns no instance.
    pub(super) fn report(&mut self, change: Change) {
        self.records.push(change.into());
    }

    /// Replaces the overrides of operators. `shown_with` returns the instances with an id in the published list,
    /// each with its key. Everything that is shown must be published.
    pub(super) fn set_overrides(
        &mut self,
        overrides: Arc<ServiceOverrides>,
        shown_with: impl Fn(&str) -> Vec<InstanceKey>,
    ) {
        let steps = self.overrides.set(overrides, shown_with);
        self.show_steps(steps, false);
    }

    /// Records the time to live of a lease.
    pub(super) fn ttl(&mut self, ttl: Duration) {
        self.hold.ttl(ttl);
    }

    /// Takes the addresses to probe now.
    pub(super) fn take_probes(&mut self, now: Instant) -> Vec<Arc<str>> {
        self.hold.take_probes(now)
    }

    /// Takes the number of suspects of a mass expiry, when there was one since the last call.
    pub(super) fn take_mass_expiry(&mut self) -> Option<usize> {
        self.hold.take_mass_expiry()
    }

    /// Takes what is to be published.
    pub(super) fn take(&mut self) -> ListUpdate {
        ListUpdate {
            records: std::mem::take(&mut self.records),
            edits: std::mem::take(&mut self.edits),
            picks: self.picks.take(),
            shown: self.shown,
        }
    }

    /// The time of the next [`tick`](ServiceList::tick).
    pub(super) fn due(&self) -> Option<Instant> {
        self.merge.due().into_iter().chain(self.hold.due()).min()
    }

    /// Whether something is not shown yet that the sources have.
    pub(super) fn is_settling(&self) -> bool {
        self.merge.due().is_some()
    }

    /// Whether instances are shown that are not registered.
    pub(super) fn is_holding(&self) -> bool {
        self.hold.is_holding()
    }

    fn hold_merged(&mut self, is_trusted: bool, now: Instant) {
        for change in self.merged.drain(..) {
            self.hold.apply(change, is_trusted, now);
        }
        self.hold.decide(now);
    }

    /// Lists the steps of the hold: as one reset, or one by one.
    fn show(&mut self, is_reset: bool) {
        let steps = self.hold.take_steps().into_iter();
        let steps = steps.map(|step| {
            let key = key(step.instance());
            self.overrides.pass(&key, step)
        });
        let steps = steps.collect();
        self.show_steps(steps, is_reset);
    }

    fn show_steps(&mut self, steps: Vec<ShownStep>, is_reset: bool) {
        let (mut added, mut updated, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let mut replaced = Vec::new();
        for step in steps {
            let key = key(step.instance());
            self.picks.apply(&key, &step);
            match step {
                ShownStep::Demoted(_) | ShownStep::Promoted(_) => {}
                ShownStep::Added(instance) => {
                    self.shown += 1;
                    self.edits.push((key, Some(instance.clone())));
                    match is_reset {
                        true => added.push(instance),
                        false => self.records.push(Change::Added(instance).into()),
                    }
                }
                ShownStep::Updated { instance, before } => {
                    self.edits.push((key, Some(instance.clone())));
                    if is_reset {
                        updated.push(instance);
                        replaced.push(before);
                    } else {
                        self.records
                            .push(Change::Updated { instance, before }.into());
                    }
                }
                ShownStep::Removed { instance, cause } => {
                    self.shown = self.shown.saturating_sub(1);
                    self.edits.push((key, None));
                    match is_reset {
                        true => removed.push((instance, cause)),
                        false => self
                            .records
                            .push(Change::Removed { instance, cause }.into()),
                    }
                }
            }
        }
        if !(added.is_empty() && updated.is_empty() && removed.is_empty()) {
            let change = Change::Reset {
                added,
                updated,
                removed,
            };
            let before = replaced;
            self.records.push(ChangeRecord { change, before });
        }
    }
}

/// An instance of a list with its key.
pub(super) type InstanceKey = (Bytes, Arc<Instance>);

/// The key of an instance in the list. The order is that of the ids.
fn key(instance: &Instance) -> Bytes {
    // Neither has a control character.
    let (id, addr) = (instance.id.as_bytes(), instance.addr.as_bytes());
    // Without room to grow: there is one for each instance.
    let mut key = Vec::with_capacity(id.len() + 1 + addr.len());
    key.extend_from_slice(id);
    key.push(0);
    key.extend_from_slice(addr);
    key.into()
}

/// The instances with an id in a list that is sorted by keys.
pub(super) fn with_id(list: &[Arc<Instance>], id: &str) -> Vec<InstanceKey> {
    let first = list.partition_point(|one| key(one) < Bytes::copy_from_slice(id.as_bytes()));
    let rest = list.get(first..).unwrap_or_default().iter();
    let with_id = rest.take_while(|one| one.id == id);
    with_id.map(|one| (key(one), Arc::clone(one))).collect()
}

#[cfg(test)]
mod tests;

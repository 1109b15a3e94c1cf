//! Merges the instances of several formats by address. Pure.
//!
//! An instance of a format is shown if no format before it has an instance with the same address. Keys of
//! one format with the same id and address are one instance.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Cause, Change};
use crate::discovery::instance::Instance;

/// The time for which a later format waits before its instance is shown: a registrar writes all formats in
/// one transaction, but each format has a watch of its own.
const SETTLE: Duration = Duration::from_millis(100);

/// The instances of all sources of a view. A source is one format, and its number is its rank.
#[derive(Debug)]
pub(super) struct Merge {
    sources: usize,
    /// The instance of each slot that is shown, and those of its other keys. A slot has no copy of its place,
    /// because a catalog has very many slots.
    slots: BTreeMap<Slot, Vec<Arc<Instance>>>,
    /// The addresses that a later format took over, or has first.
    settling: BTreeMap<Arc<str>, Settling>,
    due: BTreeSet<(Instant, Arc<str>)>,
    /// Instances that did not come from etcd, of each source that was not listed yet.
    seeds: Vec<BTreeSet<Slot>>,
}

/// An instance of a source, in the order of its place.
#[derive(Clone, Debug)]
struct Slot {
    source: usize,
    instance: Arc<Instance>,
}

/// The place of an instance: its address, its source and its id. The first source of an address is found by the
/// order.
trait Place {
    fn place(&self) -> (&str, usize, &str);
}

impl Place for Slot {
    fn place(&self) -> (&str, usize, &str) {
        (&self.instance.addr, self.source, &self.instance.id)
    }
}

impl Place for (&str, usize, &str) {
    fn place(&self) -> (&str, usize, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Place + 'a> for Slot {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for dyn Place + '_ {}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Slot {}

/// An address that shows what it showed before, until `until`.
#[derive(Debug)]
struct Settling {
    until: Instant,
    shown: BTreeMap<Arc<str>, Arc<Instance>>,
}

impl Merge {
    pub(super) fn new(sources: usize) -> Self {
        Merge {
            sources,
            slots: BTreeMap::new(),
            settling: BTreeMap::new(),
            due: BTreeSet::new(),
            seeds: vec![BTreeSet::new(); sources],
        }
    }

    /// Adds instances to a source that was not listed yet. They stay until it is.
    pub(super) fn seed(&mut self, source: usize, instances: Vec<Arc<Instance>>) -> Vec<Change> {
        let mut out = Vec::new();
        for instance in instances {
            let first = self.first(&instance.addr);
            let Some(seeds) = self.seeds.get_mut(source) else {
                continue;
            };
            let slot = Slot {
                source,
                instance: instance.clone(),
            };
            let is_shown = first.is_none_or(|first| first >= source);
            if is_shown && seeds.insert(slot.clone()) {
                self.slots.insert(slot, Vec::new());
                out.push(Change::Added(instance));
            }
        }
        out
    }

    /// Ends the seeds of a source, after the changes of its first list.
    pub(super) fn listed(&mut self, source: usize, now: Instant, out: &mut Vec<Change>) {
        let seeds = self.seeds.get_mut(source).map(std::mem::take);
        for seed in seeds.into_iter().flatten() {
            self.removed(source, seed.instance, Cause::Resync, now, out);
        }
    }

    /// Applies the change of one instance of a source.
    pub(super) fn apply(
        &mut self,
        source: usize,
        change: Change,
        now: Instant,
        out: &mut Vec<Change>,
    ) {
        match change {
            Change::Added(instance) => self.present(source, instance, None, now, out),
            Change::Updated { instance, before } => {
                self.present(source, instance, Some(before), now, out)
            }
            Change::Removed { instance, cause } => self.removed(source, instance, cause, now, out),
            other => out.push(other),
        }
    }

    /// Whether the only key of an instance that is shown was this one.
    pub(super) fn is_shown(&self, source: usize, instance: &Instance) -> bool {
        let place = (&*instance.addr, source, &*instance.id);
        self.first(&instance.addr) == Some(source)
            && !self.settling.contains_key(&*instance.addr)
            && self
                .slots
                .get(&place as &dyn Place)
                .is_some_and(|others| others.is_empty())
    }

    /// The time at which the next address is settled.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Shows everything, when all sources were listed.
    pub(super) fn settle_all(&mut self, out: &mut Vec<Change>) {
        while let Some((_, addr)) = self.due.first().cloned() {
            self.settle(&addr, Cause::Replaced, out);
        }
    }

    /// Shows what is settled.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Change>) {
        while let Some((at, addr)) = self.due.first().cloned()
            && at <= now
        {
            self.settle(&addr, Cause::Replaced, out);
        }
    }

    fn present(
        &mut self,
        source: usize,
        instance: Arc<Instance>,
        before: Option<Arc<Instance>>,
        now: Instant,
        out: &mut Vec<Change>,
    ) {
        let place = (&*instance.addr, source, &*instance.id);
        let seeds = self.seeds.get_mut(source);
        let seed = seeds.and_then(|seeds| seeds.take(&place as &dyn Place));
        let seed = seed.map(|slot| slot.instance);
        let addr: Arc<str> = instance.addr.as_str().into();
        let first = self.first(&addr);
        let mut holders = self.take(&place);
        let shown = holders.last().cloned();
        holders.retain(|held| !is(held, &before) && !is(held, &seed));
        holders.push(instance.clone());
        self.set(source, holders);
        match first {
            Some(first) if first == source => {
                if !self.settling.contains_key(&addr) {
                    out.extend(difference(shown, Some(instance), Cause::Replaced));
                }
            }
            // A format before it has the address.
            Some(first) if first < source => {}
            // A later format had the address.
            Some(first) => {
                self.freeze(&addr, first, now);
                self.settle(&addr, Cause::Replaced, out);
            }
            None if source == 0 => match self.settling.contains_key(&addr) {
                true => self.settle(&addr, Cause::Replaced, out),
                false => out.push(Change::Added(instance)),
            },
            None => self.freeze(&addr, self.sources, now),
        }
    }

    fn removed(
        &mut self,
        source: usize,
        instance: Arc<Instance>,
        cause: Cause,
        now: Instant,
        out: &mut Vec<Change>,
    ) {
        let addr: Arc<str> = instance.addr.as_str().into();
        let first = self.first(&addr);
        let was_settling = self.settling.contains_key(&addr);
        if first == Some(source) && self.sources > 1 {
            self.freeze(&addr, source, now);
        }
        let mut holders = self.take(&(&addr, source, &instance.id));
        let Some(shown) = holders.last().cloned() else {
            return;
        };
        let gone = Some(instance);
        holders.retain(|held| !is(held, &gone));
        let left = holders.last().cloned();
        self.set(source, holders);
        if first != Some(source) {
            return;
        }
        if self.sources == 1 {
            return out.extend(difference(Some(shown), left, cause));
        }
        match self.first(&addr) {
            None => self.settle(&addr, cause, out),
            Some(after) if after == source && !was_settling => self.settle(&addr, cause, out),
            // A later format has the address now. It may lose it next, so it is shown after a time.
            Some(_) => {}
        }
    }

    /// Takes the instances of all keys of a slot. The last one is shown.
    fn take(&mut self, place: &(&str, usize, &str)) -> Vec<Arc<Instance>> {
        let slot = self.slots.remove_entry(place as &dyn Place);
        slot.map_or_else(Vec::new, |(slot, mut others)| {
            others.push(slot.instance);
            others
        })
    }

    /// Sets the instances of all keys of a slot.
    fn set(&mut self, source: usize, mut holders: Vec<Arc<Instance>>) {
        if let Some(instance) = holders.pop() {
            holders.shrink_to_fit();
            self.slots.insert(Slot { source, instance }, holders);
        }
    }

    /// The first source that has an address.
    fn first(&self, addr: &str) -> Option<usize> {
        if self.sources == 1 {
            // The only source comes first everywhere.
            return Some(0);
        }
        self.at(addr).next().map(|slot| slot.source)
    }

    /// The slots of an address, by source.
    fn at<'a>(&'a self, addr: &'a str) -> impl Iterator<Item = &'a Slot> {
        let from = (addr, 0_usize, "");
        let from = Bound::Included(&from as &dyn Place);
        let slots = self.slots.range::<dyn Place, _>((from, Bound::Unbounded));
        slots
            .map(|(slot, _)| slot)
            .take_while(move |slot| slot.instance.addr == addr)
    }

    /// The instances of an address in one source.
    fn of(&self, addr: &str, source: usize) -> BTreeMap<Arc<str>, Arc<Instance>> {
        let slots = self.at(addr).filter(|slot| slot.source == source);
        slots
            .map(|slot| (slot.instance.id.as_str().into(), slot.instance.clone()))
            .collect()
    }

    /// Keeps what an address shows now: the instances of `source`.
    fn freeze(&mut self, addr: &Arc<str>, source: usize, now: Instant) {
        if self.settling.contains_key(addr) {
            return;
        }
        let shown = self.of(addr, source);
        let until = now + SETTLE;
        self.due.insert((until, addr.clone()));
        self.settling
            .insert(addr.clone(), Settling { until, shown });
    }

    /// Shows the instances of the first source of an address.
    fn settle(&mut self, addr: &Arc<str>, cause: Cause, out: &mut Vec<Change>) {
        let Some(settling) = self.settling.remove(addr) else {
            return;
        };
        self.due.remove(&(settling.until, addr.clone()));
        let mut now = match self.first(addr) {
            Some(first) => self.of(addr, first),
            None => BTreeMap::new(),
        };
        for (id, shown) in settling.shown {
            // Before what is added, because it may have the same id.
            out.extend(difference(Some(shown), now.remove(&id), cause));
        }
        out.extend(now.into_values().map(Change::Added));
    }
}

fn is(held: &Arc<Instance>, other: &Option<Arc<Instance>>) -> bool {
    other.as_ref().is_some_and(|other| Arc::ptr_eq(held, other))
}

/// The step from one instance to another with the same id and address. An update may change nothing: it
/// then says that the instance has another key.
fn difference(
    before: Option<Arc<Instance>>,
    now: Option<Arc<Instance>>,
    cause: Cause,
) -> Option<Change> {
    match (before, now) {
        (Some(before), Some(instance)) => Some(Change::Updated { instance, before }),
        (Some(instance), None) => Some(Change::Removed { instance, cause }),
        (None, Some(instance)) => Some(Change::Added(instance)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;

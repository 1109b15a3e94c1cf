//! The stores as they were, from what their members reported without a proxy.

use std::collections::BTreeMap;

use super::violation::Violation;
use crate::history::{Event, History, Keys, Kv, Line, Time, Truth};

/// All stores of a run, by era.
#[derive(Debug, Default)]
pub struct Stores(BTreeMap<u32, Store>);

/// Every state of one store.
#[derive(Debug, Default)]
pub struct Store {
    revisions: BTreeMap<i64, Revision>,
    keys: BTreeMap<String, Vec<(i64, Option<Kv>)>>,
}

/// The changes of one revision.
#[derive(Debug)]
pub struct Revision {
    /// The first time at which a member had reported it.
    pub seen: Time,
    pub events: Vec<Event>,
}

impl Stores {
    pub fn era(&self, era: u32) -> Option<&Store> {
        self.0.get(&era)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Store)> {
        self.0.iter().map(|(era, store)| (*era, store))
    }

    /// The store at the end of the run.
    pub fn last(&self) -> Option<&Store> {
        self.0.values().next_back()
    }

    /// Every change, with its era and revision.
    pub fn iter_events(&self) -> impl Iterator<Item = (u32, i64, &Revision, &Event)> {
        self.iter().flat_map(|(era, store)| {
            let revisions = store.revisions.iter();
            revisions.flat_map(move |(at, revision)| {
                let events = revision.events.iter();
                events.map(move |event| (era, *at, revision, event))
            })
        })
    }
}

impl Store {
    /// The newest revision; 1 for an empty store.
    pub fn last(&self) -> i64 {
        self.revisions.keys().next_back().copied().unwrap_or(1)
    }

    pub fn revisions(&self) -> &BTreeMap<i64, Revision> {
        &self.revisions
    }

    /// The key at a revision.
    pub fn at(&self, key: &str, revision: i64) -> Option<&Kv> {
        let changes = self.keys.get(key)?;
        let later = changes.partition_point(|(at, _)| *at <= revision);
        changes[..later].last()?.1.as_ref()
    }

    /// All changes of a key, with their revisions; `None` is a deletion.
    pub fn changes(&self, key: &str) -> &[(i64, Option<Kv>)] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// The keys of a range that ever existed, in order.
    pub fn changed_keys(&self, keys: &Keys) -> impl Iterator<Item = &str> {
        let from = self.keys.range(keys.key.clone()..);
        from.take_while(|(key, _)| keys.contains(key))
            .map(|(key, _)| key.as_str())
    }

    /// The keys of a range at a revision, in order.
    pub fn range(&self, keys: &Keys, revision: i64) -> Vec<&Kv> {
        let from = self.keys.range(keys.key.clone()..);
        let inside = from.take_while(|(key, _)| keys.contains(key));
        inside
            .filter_map(|(key, _)| self.at(key, revision))
            .collect()
    }

    fn apply(&mut self, at: i64, seen: Time, events: Vec<Event>) -> Result<(), String> {
        for event in &events {
            let key = &event.kv.key;
            let before = self.at(key, at);
            let expected = match before {
                _ if event.del => (0, 0),
                Some(kv) => (kv.create, kv.version + 1),
                None => (at, 1),
            };
            if (event.kv.create, event.kv.version) != expected {
                return Err(format!(
                    "a change of {key} has (create, version) {:?} and not {expected:?}",
                    (event.kv.create, event.kv.version)
                ));
            }
            if event.del && before.is_none() {
                return Err(format!("{key} is deleted and did not exist"));
            }
            let now = (!event.del).then(|| event.kv.clone());
            self.keys.entry(key.clone()).or_default().push((at, now));
        }
        self.revisions.insert(at, Revision { seen, events });
        Ok(())
    }
}

/// Rebuilds the stores. Members of one store must have reported the same changes, without a gap, and the last
/// list must be the last state.
pub fn stores(history: &History) -> (Stores, Vec<Violation>) {
    const RULE: &str = "truth";
    let mut found = Vec::new();
    let mut merged: BTreeMap<(u32, i64), (Time, Vec<Event>, &Truth)> = BTreeMap::new();
    // The next revision of each member.
    let mut next: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    for line in &history.truth {
        let next = next.entry((line.era, line.member)).or_insert(2);
        if line.skipped_to > 0 {
            *next = line.skipped_to;
        }
        for revision in line.events.chunk_by(|a, b| a.kv.modified == b.kv.modified) {
            let at = revision[0].kv.modified;
            if at != *next {
                let what = format!(
                    "member {} reported revision {at} after {}",
                    line.member,
                    *next - 1
                );
                found.push(Violation::new(RULE, what, &[Line::Truth(line.clone())]));
            }
            *next = at + 1;
            let (seen, events, first) = merged
                .entry((line.era, at))
                .or_insert_with(|| (line.t, revision.to_vec(), line));
            *seen = line.t.min(*seen);
            if events != revision {
                let lines = [Line::Truth((*first).clone()), Line::Truth(line.clone())];
                let what = format!("members reported different changes of revision {at}");
                found.push(Violation::new(RULE, what, &lines));
            }
        }
    }
    let mut stores = Stores::default();
    for era in &history.eras {
        stores.0.insert(era.era, Store::default());
    }
    for ((era, at), (seen, events, line)) in merged {
        let store = stores.0.entry(era).or_default();
        let expected = store.last() + 1;
        let gap = (at != expected).then(|| format!("revisions {expected} to {at} are missing"));
        let wrong = store.apply(at, seen, events).err();
        for what in gap.into_iter().chain(wrong) {
            let what = format!("era {era}: {what}");
            found.push(Violation::new(RULE, what, &[Line::Truth(line.clone())]));
        }
    }
    if let (Some(last), Some(store)) = (&history.last, stores.last()) {
        let all = Keys {
            key: String::new(),
            end: "\u{10FFFF}".to_owned(),
        };
        let state: Vec<Kv> = store
            .range(&all, last.revision)
            .into_iter()
            .cloned()
            .collect();
        if state != last.kvs {
            let what = format!(
                "the last list differs from the state at revision {}",
                last.revision
            );
            found.push(Violation::new(RULE, what, &[Line::Final(last.clone())]));
        }
    }
    (stores, found)
}

//! Mirrors, caches and views: their contents are the list at their revision, and never emptier than the truth.

use std::collections::BTreeMap;

use super::truth::{Store, Stores};
use super::violation::Violation;
use crate::history::{History, Kv, Line, Shot, ShotKind, Time};

/// The time within which a member reports a change.
const REPORTED_WITHIN: Time = 2_000_000_000;

/// Checks all contents that were read.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last: BTreeMap<&str, &Shot> = BTreeMap::new();
    let mut shots: Vec<&Shot> = history.shots.iter().collect();
    shots.sort_by_key(|shot| shot.t0);
    for shot in shots {
        let mut eras: Vec<u32> = history.eras_within(shot.t0, shot.t1).collect();
        // A replica notices the loss of a store later, and shows the old contents until then.
        let older = history.eras.iter().map(|era| era.era);
        eras.extend(
            older
                .filter(|era| eras.first().is_some_and(|first| era < first))
                .collect::<Vec<_>>(),
        );
        let explained = |era: &u32| stores.era(*era).is_some_and(|store| is_list(store, shot));
        let held = shot.kind == ShotKind::View && is_held(history, stores, shot);
        if !eras.iter().any(explained) && !held {
            let what = what(stores, &eras, shot);
            found.push(Violation::new(
                "replica: list",
                what,
                &[Line::Shot(shot.clone())],
            ));
        }
        if let Some(before) = last.insert(&shot.name, shot)
            && before.revision > shot.revision
            && !history
                .eras
                .iter()
                .any(|era| era.from <= shot.t1 && era.from > 0 && era.era > 0)
        {
            let lines = [Line::Shot(before.clone()), Line::Shot(shot.clone())];
            found.push(Violation::new(
                "replica: ordered",
                "its revision went back",
                &lines,
            ));
        }
    }
    for shot in last.values() {
        let end = history.last();
        let current = history
            .last()
            .kvs
            .iter()
            .filter(|kv| shot.keys.contains(&kv.key));
        let is_last = shot.t0 >= end.t && keys(&shot.kvs) == keys(current) && !shot.stale;
        if !is_last {
            let what = format!("{} does not show the last list in the end", shot.name);
            found.push(Violation::new(
                "replica: live",
                what,
                &[Line::Shot((*shot).clone())],
            ));
        }
    }
    found
}

fn keys<'a>(kvs: impl IntoIterator<Item = &'a Kv>) -> Vec<&'a str> {
    kvs.into_iter().map(|kv| kv.key.as_str()).collect()
}

fn is_list(store: &Store, shot: &Shot) -> bool {
    let list = store.range(&shot.keys, shot.revision);
    shot.revision <= store.last()
        && match shot.kind {
            ShotKind::Mirror => list.into_iter().eq(&shot.kvs),
            ShotKind::View => keys(list) == keys(&shot.kvs) || is_ahead(store, shot),
        }
}

/// Whether a view shows an instance whose removal it cannot explain yet, and each other one as at its revision or later.
/// Its revision is the one before that removal, and it shows later changes.
fn is_ahead(store: &Store, shot: &Shot) -> bool {
    let shown = keys(&shot.kvs);
    let next = store.revisions().get(&(shot.revision + 1));
    let mut events = next.iter().flat_map(|next| &next.events);
    if !events.any(|event| event.del && shown.contains(&event.kv.key.as_str())) {
        return false;
    }
    // The members may report a change after the view has it.
    let known = shot.t1 + REPORTED_WITHIN;
    let mut revisions = store.revisions().iter().rev();
    let newest = revisions.find(|(_, reported)| reported.seen <= known);
    let newest = newest.map_or(shot.revision, |(revision, _)| *revision);
    let mut all: Vec<&str> = store.changed_keys(&shot.keys).collect();
    all.extend(&shown);
    all.into_iter().all(|key| {
        let is_shown = shown.contains(&key);
        let later = store.changes(key).iter();
        let mut later = later.filter(|(at, _)| shot.revision < *at && *at <= newest);
        store.at(key, shot.revision).is_some() == is_shown
            || later.any(|(_, kv)| kv.is_some() == is_shown)
    })
}

/// Whether a view shows at least what a store has that replaced another one.
fn is_held(history: &History, stores: &Stores, shot: &Shot) -> bool {
    let Some(era) = history
        .eras_within(shot.t0, shot.t1)
        .last()
        .filter(|era| *era > 0)
    else {
        return false;
    };
    let Some(store) = stores
        .era(era)
        .filter(|store| shot.revision <= store.last())
    else {
        return false;
    };
    let shown = keys(&shot.kvs);
    keys(store.range(&shot.keys, shot.revision))
        .iter()
        .all(|key| shown.contains(key))
}

fn what(stores: &Stores, eras: &[u32], shot: &Shot) -> String {
    let Some(store) = eras.iter().find_map(|era| stores.era(*era)) else {
        return "no store existed at that time".to_owned();
    };
    let list = store.range(&shot.keys, shot.revision);
    let missing = list
        .iter()
        .filter(|kv| !shot.kvs.iter().any(|shown| shown.key == kv.key));
    let missing = keys(missing.copied());
    format!(
        "{} shows {} keys at revision {}, and the store has {} of {}; not shown: {missing:?}",
        shot.name,
        shot.kvs.len(),
        shot.revision,
        list.len(),
        store.last(),
    )
}

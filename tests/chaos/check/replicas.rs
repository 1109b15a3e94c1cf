//! Mirrors, caches and views: their contents are the list at their revision, and never emptier than the truth.

use std::collections::BTreeMap;

use super::truth::{Store, Stores};
use super::violation::Violation;
use crate::history::{History, Kv, Line, Shot, ShotKind};

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
            ShotKind::View => keys(list) == keys(&shot.kvs),
        }
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

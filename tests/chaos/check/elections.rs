//! Elections: one leader per term, and observers are told terms in order.

use std::collections::BTreeMap;

use super::locks::tokens;
use super::truth::Stores;
use super::violation::Violation;
use crate::history::{History, Hold, Leader, Line};

/// Checks all elections.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut seats: BTreeMap<&str, Vec<&Hold>> = BTreeMap::new();
    for hold in history.holds.iter().filter(|hold| hold.election) {
        seats.entry(&hold.seat).or_default().push(hold);
    }
    for holds in seats.values() {
        found.extend(tokens("election: term", history, holds));
    }
    let mut told: BTreeMap<&str, &Leader> = BTreeMap::new();
    for leader in &history.leaders {
        let line = Line::Leader(leader.clone());
        let before = told.insert(&leader.observer, leader);
        if let Some(before) = before.filter(|before| before.token > leader.token) {
            // The terms of a store that replaced another one begin anew.
            let replaced = history.eras.iter().any(|era| {
                era.era > 0 && era.from <= leader.t && before.t <= era.from + history.run().recovery
            });
            if !replaced {
                let what = "a former leader leads again";
                let lines = [Line::Leader(before.clone()), line.clone()];
                found.push(Violation::new("election: ordered", what, &lines));
            }
        }
        let mut eras = history.eras.iter().filter(|era| era.from <= leader.t);
        let said = eras.any(|era| is_said(stores, era.era, leader));
        if !said {
            let what = format!("no leader of term {} said {:?}", leader.token, leader.value);
            found.push(Violation::new("election: said", what, &[line]));
        }
        let holder = leader.value.split(' ').next().unwrap_or_default();
        let other = seats.get(leader.seat.as_str()).and_then(|holds| {
            holds
                .iter()
                .find(|hold| hold.token == leader.token && hold.holder != holder)
        });
        if let Some(other) = other.filter(|_| history.eras.len() == 1) {
            let lines = [Line::Hold((*other).clone()), Line::Leader(leader.clone())];
            found.push(Violation::new(
                "election: term",
                "one term has two leaders",
                &lines,
            ));
        }
    }
    found
}

/// Whether the key of a term had the value that the observer was told.
fn is_said(stores: &Stores, era: u32, leader: &Leader) -> bool {
    let Some(store) = stores.era(era) else {
        return false;
    };
    let revision = store.revisions().get(&leader.token);
    let mut created = revision.iter().flat_map(|revision| &revision.events);
    let key = created.find(|event| event.kv.key.starts_with(&leader.seat));
    key.is_some_and(|event| {
        let values = store.changes(&event.kv.key).iter();
        let mut values = values.filter_map(|(_, kv)| kv.as_ref());
        values.any(|kv| kv.create == leader.token && kv.value == leader.value)
    })
}

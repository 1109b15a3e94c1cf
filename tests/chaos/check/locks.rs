//! Locks: fencing tokens strictly increase, nobody holds a lock that etcd gave to another, and guarded writes never
//! interleave.

use std::collections::BTreeMap;

use super::registrations::{caused, gone};
use super::truth::Stores;
use super::violation::Violation;
use crate::history::{History, Hold, Line};

/// The prefix of the keys that holders write; the rest is the name of the lock, the value begins with the token.
const GUARDED: &str = "guarded/";

/// Checks all locks.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let mut found = interleaved(stores);
    let mut seats: BTreeMap<(&str, bool), Vec<&Hold>> = BTreeMap::new();
    for hold in &history.holds {
        seats
            .entry((&hold.seat, hold.election))
            .or_default()
            .push(hold);
        found.extend(held(history, stores, hold));
    }
    for holds in seats.values().filter(|holds| !holds[0].election) {
        found.extend(tokens("lock: fencing", history, holds));
    }
    found
}

/// Each token is given once, and a hold that begins after another one was acquired has a greater one.
pub(super) fn tokens(rule: &'static str, history: &History, holds: &[&Hold]) -> Vec<Violation> {
    let mut found = Vec::new();
    // Tokens of a store that was replaced begin anew.
    let era = |hold: &Hold| {
        let eras: Vec<u32> = history.eras_within(hold.call, hold.ret).collect();
        (eras.len() == 1).then(|| eras[0])
    };
    let mut by_era: BTreeMap<u32, Vec<&Hold>> = BTreeMap::new();
    for hold in holds {
        if let Some(era) = era(hold) {
            by_era.entry(era).or_default().push(hold);
        }
    }
    for holds in by_era.values() {
        let lines = |a: &Hold, b: &Hold| [Line::Hold(a.clone()), Line::Hold(b.clone())];
        let mut by_token: BTreeMap<i64, &Hold> = BTreeMap::new();
        for hold in holds {
            if let Some(other) = by_token.insert(hold.token, hold) {
                let what = format!("two holders have the token {}", hold.token);
                found.push(Violation::new(rule, what, &lines(other, hold)));
            }
        }
        let mut by_ret = holds.clone();
        by_ret.sort_by_key(|hold| hold.ret);
        let mut by_call = holds.clone();
        by_call.sort_by_key(|hold| hold.call);
        let (mut acquired, mut highest) = (by_ret.into_iter().peekable(), None::<&Hold>);
        for hold in by_call {
            while let Some(before) = acquired.next_if(|before| before.ret < hold.call) {
                if highest.is_none_or(|highest| highest.token < before.token) {
                    highest = Some(before);
                }
            }
            if let Some(before) = highest.filter(|before| before.token >= hold.token) {
                let what = format!("token {} was given after {}", hold.token, before.token);
                found.push(Violation::new(rule, what, &lines(before, hold)));
            }
        }
    }
    found
}

/// No check says that a lock is held after its key was gone, unless the client could not know.
fn held(history: &History, stores: &Stores, hold: &Hold) -> Option<Violation> {
    let rule = if hold.election {
        "election: held"
    } else {
        "lock: held"
    };
    let fail = |what: String| Some(Violation::new(rule, what, &[Line::Hold(hold.clone())]));
    let created = |era: u32| {
        let revision = stores.era(era)?.revisions().get(&hold.token)?;
        revision
            .events
            .iter()
            .find(|event| event.kv.key == hold.key && !event.del)
    };
    let known = history
        .eras_within(hold.call, hold.ret)
        .any(|era| created(era).is_some());
    if !known {
        return fail(format!("its key was not created at {}", hold.token));
    }
    let gone = gone(history, stores, &hold.key, hold.token, hold.ret)?;
    let late = hold
        .held_at
        .iter()
        .filter_map(|t| t.checked_sub(gone))
        .max()?;
    match caused(history, hold.lease, &hold.key, gone) {
        false => fail(format!(
            "held {} us after its key was gone, without a cause but the clock",
            late / 1000
        )),
        true if late > history.run().grace => fail(format!(
            "held {} ms after its key was gone",
            late / 1_000_000
        )),
        true => None,
    }
}

/// The tokens in the values of a guarded key never decrease.
fn interleaved(stores: &Stores) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last: BTreeMap<(u32, &str), i64> = BTreeMap::new();
    for (era, at, _, event) in stores.iter_events() {
        if !event.kv.key.starts_with(GUARDED) || event.del {
            continue;
        }
        let token = event
            .kv
            .value
            .split(' ')
            .next()
            .and_then(|token| token.parse().ok());
        let before = last.entry((era, &event.kv.key)).or_default();
        if token.is_none_or(|token| token < *before) {
            let what = format!(
                "{} at {at} follows a write with token {before}: {:?}",
                event.kv.key, event.kv.value
            );
            found.push(Violation::new("lock: guarded", what, &[]));
        }
        *before = token.unwrap_or(*before).max(*before);
    }
    found
}

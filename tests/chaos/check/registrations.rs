//! Registrations: none says that it is registered after etcd let it go, and all are back in time.

use std::collections::BTreeMap;

use super::truth::Stores;
use super::violation::Violation;
use crate::history::{History, Kv, Line, Sample, Time};

const REGISTERED: &str = "Registered";

/// The first time at which a store was seen without the key that was put at a revision; `None` while it is there.
pub(super) fn gone(
    history: &History,
    stores: &Stores,
    key: &str,
    revision: i64,
    t: Time,
) -> Option<Time> {
    let mut latest = None;
    for era in history.eras.iter().filter(|era| era.from <= t) {
        let store = stores.era(era.era)?;
        let put = store.at(key, revision).filter(|kv| kv.modified == revision);
        let Some(put) = put else { continue };
        let other = |kv: &Option<Kv>| kv.as_ref().is_none_or(|kv| kv.create != put.create);
        let mut changes = store.changes(key).iter();
        let removed = changes.find(|(at, kv)| *at > revision && other(kv));
        let seen = removed.map(|(at, _)| store.revisions()[at].seen);
        // A key of an older store may have the same revision.
        latest = Some(seen.into_iter().chain(era.to).min()?).max(latest);
    }
    latest
}

/// Whether something other than the clock ended this lease or key at a time: its client could not know at once.
pub(super) fn caused(history: &History, lease: i64, key: &str, gone: Time) -> bool {
    let lost = history.eras.iter().any(|era| era.to == Some(gone));
    lost || history.causes.iter().any(|cause| {
        let of_lease = (cause.lease == 0 || cause.lease == lease) && cause.key.is_empty();
        cause.t <= gone && gone <= cause.to && (of_lease || cause.key == key)
    })
}

/// Checks all samples.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last: BTreeMap<&str, &Sample> = BTreeMap::new();
    let mut back: BTreeMap<&str, Time> = BTreeMap::new();
    let quiet = history.last().quiet;
    for sample in &history.samples {
        last.insert(&sample.name, sample);
        if sample.state != REGISTERED {
            back.remove(sample.name.as_str());
            continue;
        }
        back.entry(&sample.name).or_insert(sample.t1);
        found.extend(registered(history, stores, sample));
    }
    for (name, sample) in last {
        let lines = [Line::Registration(sample.clone())];
        let Some(since) = back.get(name) else {
            let what = format!("{name} is {} in the end", sample.state);
            found.push(Violation::new("registration: back", what, &lines));
            continue;
        };
        let late = since.saturating_sub(quiet);
        if late > history.run().recovery {
            let what = format!(
                "{name} is back {} ms after the faults ended",
                late / 1_000_000
            );
            found.push(Violation::new("registration: back", what, &lines));
        }
        let stored = history.last().kvs.iter().find(|kv| kv.key == sample.key);
        if stored.is_none_or(|kv| kv.lease != sample.lease) {
            let what = format!("{name} says that it is registered, and etcd has {stored:?}");
            found.push(Violation::new("registration: true", what, &lines));
        }
    }
    found
}

/// A sample that says `Registered`.
fn registered(history: &History, stores: &Stores, sample: &Sample) -> Option<Violation> {
    let fail = |what: String| {
        let lines = [Line::Registration(sample.clone())];
        Some(Violation::new("registration: true", what, &lines))
    };
    if sample.until < sample.t0 {
        return fail(format!(
            "{} is registered after its own deadline",
            sample.name
        ));
    }
    let gone = gone(history, stores, &sample.key, sample.revision, sample.t0)?;
    let late = sample.t0.checked_sub(gone)?;
    if !caused(history, sample.lease, &sample.key, gone) {
        return fail(format!(
            "{} is registered {} us after etcd let it go, without a cause but the clock",
            sample.name,
            late / 1000
        ));
    }
    if late > history.run().grace {
        return fail(format!(
            "{} is registered {} ms after etcd let it go",
            sample.name,
            late / 1_000_000
        ));
    }
    None
}

//! Reads and writes: each answer is explained by one store at its revision, in the order of real time, and each
//! change was made by an operation that may have made it.

use std::collections::{BTreeMap, HashMap};

use super::truth::{Store, Stores};
use super::violation::Violation;
use crate::history::{Answer, Call, Event, Guard, History, Kv, Line, Op, Outcome, Time};

/// The prefixes of keys that only recorded operations change.
const OWNED: [&str; 2] = ["kv/", "guarded/"];

/// The highest revision that was known to exist before each time.
#[derive(Debug, Default)]
struct Floor(Vec<(Time, i64)>);

impl Floor {
    fn new(mut known: Vec<(Time, i64)>) -> Self {
        known.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut known {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Floor(known)
    }

    fn before(&self, t: Time) -> i64 {
        let later = self.0.partition_point(|(at, _)| *at < t);
        later.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Checks all operations.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let mut found = Vec::new();
    let homes: Vec<Option<u32>> = history
        .ops
        .iter()
        .map(|op| home(history, stores, op))
        .collect();
    let floors = floors(history, stores, &homes);
    let no_floor = Floor::default();
    let mut writers: BTreeMap<(u32, i64), &Op> = BTreeMap::new();
    for (op, home) in history.ops.iter().zip(&homes) {
        let (Some(answer), Some(ret)) = (op.answer(), op.ret) else {
            continue;
        };
        let mut eras: Vec<u32> = home.iter().copied().collect();
        if eras.is_empty() {
            eras = history.eras_within(op.call, ret).collect();
        }
        let explain = |era: &u32| {
            let store = stores.era(*era).ok_or("no store served it")?;
            let floor = floors.get(era).unwrap_or(&no_floor).before(op.call);
            explain(op, answer, store).and_then(|()| in_time(op, answer, floor))
        };
        let verdicts: Vec<_> = eras.iter().map(explain).collect();
        if verdicts.iter().all(Result::is_err) {
            let first = verdicts.into_iter().next().and_then(Result::err);
            let what = first.unwrap_or_else(|| "no store existed at that time".to_owned());
            found.push(Violation::new(
                "kv: explained",
                what,
                &[Line::Op(op.clone())],
            ));
        } else if let (Some(era), true) = (home, has_changed(op, answer))
            && let Some(other) = writers.insert((*era, answer.revision), op)
        {
            let lines = [Line::Op(other.clone()), Line::Op(op.clone())];
            found.push(Violation::new(
                "kv: unique",
                "two writes have one revision",
                &lines,
            ));
        }
    }
    found.extend(changes(history, stores, &floors, &writers));
    found
}

/// The era of an answered operation: the only one that may have served it, or the one in which its write is.
fn home(history: &History, stores: &Stores, op: &Op) -> Option<u32> {
    let answer = op.answer()?;
    let eras: Vec<u32> = history.eras_within(op.call, op.ret?).collect();
    match eras[..] {
        [only] => Some(only),
        _ if !has_changed(op, answer) => None,
        _ => eras.into_iter().find(|era| {
            stores
                .era(*era)
                .is_some_and(|s| explain(op, answer, s).is_ok())
        }),
    }
}

fn floors(history: &History, stores: &Stores, homes: &[Option<u32>]) -> BTreeMap<u32, Floor> {
    let mut known: BTreeMap<u32, Vec<(Time, i64)>> = BTreeMap::new();
    for (era, store) in stores.iter() {
        let seen = store
            .revisions()
            .iter()
            .map(|(at, revision)| (revision.seen, *at));
        known.entry(era).or_default().extend(seen);
    }
    for (op, home) in history.ops.iter().zip(homes) {
        if let (Some(era), Some(ret), Some(answer)) = (home, op.ret, op.answer()) {
            known.entry(*era).or_default().push((ret, answer.revision));
        }
    }
    known
        .into_iter()
        .map(|(era, known)| (era, Floor::new(known)))
        .collect()
}

/// Whether the answer says that the operation changed the store.
fn has_changed(op: &Op, answer: &Answer) -> bool {
    match &op.op {
        Call::Range { .. } => false,
        Call::Put { .. } => true,
        Call::Delete { .. } => answer.deleted > 0,
        Call::Txn { then, .. } => {
            answer.succeeded && then.iter().any(|write| write.value.is_some())
        }
    }
}

fn is_same(event: &Event, key: &str, value: &Option<String>) -> bool {
    event.kv.key == key
        && event.del == value.is_none()
        && value.as_ref().is_none_or(|v| *v == event.kv.value)
}

/// Whether the events of a revision are exactly the changes of an operation; a key that did not exist is not
/// deleted.
fn made(op: &Op, store: &Store, revision: i64) -> bool {
    let Some(there) = store.revisions().get(&revision) else {
        return false;
    };
    let mut changes = op.op.changes();
    changes
        .retain(|change| change.value.is_some() || store.at(&change.key, revision - 1).is_some());
    changes.len() == there.events.len()
        && changes.iter().all(|change| {
            there
                .events
                .iter()
                .any(|e| is_same(e, &change.key, &change.value))
        })
}

fn holds(guard: &Guard, store: &Store, revision: i64) -> bool {
    let kv = store.at(&guard.key, revision);
    let field = |kv: &Kv| if guard.create { kv.create } else { kv.modified };
    kv.map_or(0, field) == guard.revision
}

fn same(read: &[Kv], state: &[&Kv]) -> bool {
    read.len() == state.len() && read.iter().zip(state).all(|(a, b)| a == *b)
}

/// Whether the store, as it was at the revision of the answer, gives this answer.
fn explain(op: &Op, answer: &Answer, store: &Store) -> Result<(), String> {
    let at = answer.revision;
    let fail = |why: &str| Err(format!("{why} at revision {at}"));
    if at > store.last() {
        return fail("the store never was");
    }
    match &op.op {
        Call::Range { keys, revision, .. } => {
            let read_at = if *revision > 0 { *revision } else { at };
            if !same(&answer.kvs, &store.range(keys, read_at)) {
                return fail("the store had other contents than were read");
            }
        }
        Call::Put { .. } if !made(op, store, at) => {
            return fail("the store has not exactly this write");
        }
        Call::Put { .. } => {}
        Call::Delete { key } => match answer.deleted {
            0 if store.at(key, at).is_some() => {
                return fail("nothing was deleted, but the key exists");
            }
            0 => {}
            _ if store.at(key, at - 1) != answer.kvs.first() => {
                return fail("another value was deleted");
            }
            _ if !made(op, store, at) => return fail("the store has not exactly this deletion"),
            _ => {}
        },
        Call::Txn { when, .. } if answer.succeeded => {
            let base = if has_changed(op, answer) { at - 1 } else { at };
            if !when.iter().all(|guard| holds(guard, store, base)) {
                return fail("the transaction succeeded, but a guard did not hold");
            }
            if has_changed(op, answer) && !made(op, store, at) {
                return fail("the store has not exactly this transaction");
            }
        }
        Call::Txn { when, .. } => {
            if when.iter().all(|guard| holds(guard, store, at)) {
                return fail("the transaction was refused, but all guards held");
            }
            let state: Vec<&Kv> = when.iter().filter_map(|g| store.at(&g.key, at)).collect();
            if !same(&answer.kvs, &state) {
                return fail("the refused transaction read other contents");
            }
        }
    }
    Ok(())
}

/// Whether the revision is in the order of real time: not older than what was known before the call, and for a
/// write newer.
fn in_time(op: &Op, answer: &Answer, floor: i64) -> Result<(), String> {
    let at = answer.revision;
    let serializable = matches!(
        &op.op,
        Call::Range {
            serializable: true,
            ..
        }
    );
    if has_changed(op, answer) && at <= floor {
        return Err(format!(
            "the write has revision {at}, but {floor} was known before its call"
        ));
    }
    if !serializable && at < floor {
        return Err(format!(
            "the read is of revision {at}, but {floor} was known before its call"
        ));
    }
    Ok(())
}

/// Each change of the keys that only recorded operations change has one operation that may have made it.
fn changes(
    history: &History,
    stores: &Stores,
    floors: &BTreeMap<u32, Floor>,
    writers: &BTreeMap<(u32, i64), &Op>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_value: HashMap<(&str, &str), &Op> = HashMap::new();
    let written = history
        .ops
        .iter()
        .map(|op| (op, op.op.changes()))
        .collect::<Vec<_>>();
    for (op, changes) in &written {
        for change in changes {
            if let Some(value) = &change.value {
                by_value.insert((&change.key, value), op);
            }
        }
    }
    let mut executed: HashMap<(u32, u64), (u32, i64)> = HashMap::new();
    let mut deleted: BTreeMap<&str, Vec<(u32, i64, Time)>> = BTreeMap::new();
    for (era, at, revision, event) in stores.iter_events() {
        let key = event.kv.key.as_str();
        if !OWNED.iter().any(|prefix| key.starts_with(prefix)) || writers.contains_key(&(era, at)) {
            continue;
        }
        if event.del {
            // A transaction that also puts is found by its put.
            if revision.events.iter().all(|event| event.del) {
                deleted
                    .entry(key)
                    .or_default()
                    .push((era, at, revision.seen));
            }
            continue;
        }
        let evidence = |op: &Op| [Line::Op(op.clone())];
        let Some(op) = by_value.get(&(key, event.kv.value.as_str())) else {
            let what = format!("nobody wrote {key} at revision {at}: {:?}", event.kv);
            found.push(Violation::new("kv: written", what, &[]));
            continue;
        };
        let floor = floors.get(&era).map_or(0, |floor| floor.before(op.call));
        if let Outcome::Err {
            maybe_applied: false,
            ..
        } = op.res
        {
            let what = format!("executed at revision {at}, but the error says that it was not");
            found.push(Violation::new("kv: not executed", what, &evidence(op)));
        } else if op.answer().is_some() {
            let what = format!("also executed at revision {at} of era {era}");
            found.push(Violation::new("kv: once", what, &evidence(op)));
        } else if revision.seen < op.call || at <= floor {
            let what = format!("executed at revision {at} before its call");
            found.push(Violation::new("kv: unknown", what, &evidence(op)));
        } else if !stores.era(era).is_some_and(|store| made(op, store, at)) {
            let what = format!("executed in part at revision {at}");
            found.push(Violation::new("kv: unknown", what, &evidence(op)));
        }
        let first = *executed.entry((op.client, op.id)).or_insert((era, at));
        if first != (era, at) {
            let what = format!("executed at {first:?} and at {:?}", (era, at));
            found.push(Violation::new("kv: once", what, &evidence(op)));
        }
    }
    for (key, mut deletions) in deleted {
        let mut unknown: Vec<&Op> = history
            .ops
            .iter()
            .filter(|op| op.is_unknown() && matches!(&op.op, Call::Delete { key: of } if of == key))
            .collect();
        unknown.sort_by_key(|op| op.call);
        deletions.sort_by_key(|(_, _, seen)| *seen);
        let mut unknown = unknown.into_iter();
        for (era, at, seen) in deletions {
            if unknown.next().is_none_or(|op| op.call > seen) {
                let what = format!("nobody deleted {key} at revision {at} of era {era}");
                found.push(Violation::new("kv: written", what, &[]));
            }
        }
    }
    found
}

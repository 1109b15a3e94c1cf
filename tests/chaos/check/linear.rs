//! Linearizability of each key, as a second opinion that knows nothing of revisions.

use std::collections::{BTreeSet, HashMap};

use super::violation::Violation;
use super::wgl::{Action, Entry, Verdict, decide};
use crate::history::{Answer, Call, History, Line, Op, Time};

/// The keys that are checked.
const PREFIX: &str = "kv/";
/// The number of operations after which a window may end.
const WINDOW: usize = 400;
/// The steps of one search.
const BUDGET: u64 = 3_000_000;

/// What was checked.
#[derive(Debug, Default)]
pub struct Checked {
    pub keys: usize,
    pub windows: usize,
    pub operations: usize,
    /// Windows whose search was given up.
    pub undecided: usize,
}

/// An entry, and its operation, unless it is the loss of the store.
type Named<'a> = (Entry, Option<&'a Op>);

/// Checks all keys.
pub fn check(history: &History) -> (Checked, Vec<Violation>) {
    let (mut checked, mut found) = (Checked::default(), Vec::new());
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for op in &history.ops {
        match &op.op {
            Call::Put { key, .. } | Call::Delete { key } => drop(keys.insert(key)),
            Call::Txn { when, then } => {
                keys.extend(when.iter().map(|guard| guard.key.as_str()));
                keys.extend(then.iter().map(|change| change.key.as_str()));
            }
            Call::Range { keys: range, .. } if range.end.is_empty() => {
                keys.insert(&range.key);
            }
            Call::Range { .. } => {}
        }
    }
    for key in keys.into_iter().filter(|key| key.starts_with(PREFIX)) {
        let (entries, seen) = entries(history, key);
        checked.keys += 1;
        for window in windows(&entries, &seen) {
            checked.windows += 1;
            checked.operations += window.len();
            let plain: Vec<Entry> = window.iter().map(|(entry, _)| *entry).collect();
            match decide(&plain, BUDGET) {
                Verdict::Linearizable => {}
                Verdict::Undecided => checked.undecided += 1,
                Verdict::Not => {
                    let ops = shortest(&window);
                    let what = format!("{key}: no order of these operations is possible");
                    found.push(Violation::new("linearizable", what, &ops));
                }
            }
        }
    }
    (checked, found)
}

/// The operations on one key, by call, and when each value was seen last. An operation of unknown result whose value
/// nobody saw is left out: it may not have been executed.
fn entries<'a>(history: &'a History, key: &str) -> (Vec<Named<'a>>, HashMap<u32, Time>) {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut number = |value: Option<&'a str>| match value {
        None => 0,
        Some(value) => {
            let next = numbers.len() as u32 + 1;
            *numbers.entry(value).or_insert(next)
        }
    };
    let mut all: Vec<Named<'a>> = Vec::new();
    for op in &history.ops {
        if !op.is_unknown() && op.answer().is_none() {
            continue;
        }
        if let Some(action) = action(op, key, &mut number) {
            let ret = op.answer().and(op.ret);
            let call = op.call;
            all.push((Entry { call, ret, action }, Some(op)));
        }
    }
    // A loss of the store deletes everything.
    for pair in history.eras.windows(2) {
        if let Some(end) = pair[0].to {
            let (call, ret) = (end, Some(pair[1].from));
            let action = Action::Write(0);
            all.push((Entry { call, ret, action }, None));
        }
    }
    let seen = seen(&all);
    all.retain(|(entry, _)| {
        entry.ret.is_some() || result(entry.action).is_some_and(|v| seen.contains_key(&v))
    });
    all.sort_by_key(|(entry, _)| entry.call);
    (all, seen)
}

/// When each value was seen last. An operation of unknown result that may have been executed has seen its old value.
fn seen(all: &[Named<'_>]) -> HashMap<u32, Time> {
    let mut seen: HashMap<u32, Time> = HashMap::new();
    loop {
        let before = seen.clone();
        for (entry, _) in all {
            let (Action::Read(value) | Action::Swap(value, _)) = entry.action else {
                continue;
            };
            let last = result(entry.action).and_then(|new| before.get(&new).copied());
            if let Some(at) = entry.ret.or(last) {
                let last = seen.entry(value).or_default();
                *last = at.max(*last);
            }
        }
        if seen == before {
            return seen;
        }
    }
}

/// The value that an action leaves.
fn result(action: Action) -> Option<u32> {
    match action {
        Action::Read(_) => None,
        Action::Write(value) | Action::Swap(_, value) => Some(value),
    }
}

/// What an operation did to one key.
fn action<'a>(
    op: &'a Op,
    key: &str,
    number: &mut impl FnMut(Option<&'a str>) -> u32,
) -> Option<Action> {
    let read = |answer: &'a Answer| {
        let found = answer.kvs.iter().find(|kv| kv.key == key);
        found.map(|kv| kv.value.as_str())
    };
    match (&op.op, op.answer()) {
        (
            Call::Range {
                keys,
                serializable,
                revision,
            },
            answer,
        ) => {
            let answer =
                answer.filter(|_| !serializable && *revision == 0 && keys.contains(key))?;
            Some(Action::Read(number(read(answer))))
        }
        (Call::Put { key: of, value }, _) => {
            (of == key).then(|| Action::Write(number(Some(value))))
        }
        (Call::Delete { key: of }, answer) => (of == key).then(|| match answer {
            None => Action::Write(0),
            Some(answer) if answer.deleted == 0 => Action::Read(0),
            Some(answer) => Action::Swap(number(answer.kvs.first().map(|kv| kv.value.as_str())), 0),
        }),
        (Call::Txn { when, then }, answer) => {
            let guard = when.iter().find(|guard| guard.key == key && !guard.create);
            let change = then.iter().find(|change| change.key == key);
            if answer.is_some_and(|answer| !answer.succeeded) {
                guard?;
                return Some(Action::Read(number(read(answer?))));
            }
            let old = guard.map(|guard| number(guard.value.as_deref()));
            match (old, change) {
                (Some(old), Some(change)) => {
                    Some(Action::Swap(old, number(change.value.as_deref())))
                }
                (Some(old), None) => answer.map(|_| Action::Read(old)),
                (None, Some(change)) => Some(Action::Write(number(change.value.as_deref()))),
                (None, None) => None,
            }
        }
    }
}

/// Cuts a long history where a write overlaps no other operation: the value after it is known. An operation of
/// unknown result is in each window in which its value may still be seen.
fn windows<'a>(entries: &[Named<'a>], seen: &HashMap<u32, Time>) -> Vec<Vec<Named<'a>>> {
    let required: Vec<Named<'a>> = entries
        .iter()
        .filter(|(e, _)| e.ret.is_some())
        .copied()
        .collect();
    let optional: Vec<Named<'a>> = entries
        .iter()
        .filter(|(e, _)| e.ret.is_none())
        .copied()
        .collect();
    let (mut windows, mut window, mut returned) = (Vec::new(), Vec::new(), 0);
    let mut finish = |window: Vec<Named<'a>>| {
        let from = window.first().map_or(0, |(entry, _)| entry.call);
        let to = window
            .iter()
            .filter_map(|(entry, _)| entry.ret)
            .max()
            .unwrap_or_default();
        let visible = |(entry, _): &&Named<'a>| {
            let last = result(entry.action).and_then(|value| seen.get(&value));
            entry.call <= to && last.is_some_and(|last| *last >= from)
        };
        let mut all: Vec<Named<'a>> = optional.iter().filter(visible).copied().collect();
        all.extend(window);
        windows.push(all);
    };
    for (n, named) in required.iter().enumerate() {
        let (entry, _) = named;
        let ret = entry.ret.unwrap_or(Time::MAX);
        let next = required.get(n + 1).map_or(Time::MAX, |(next, _)| next.call);
        let alone = returned < entry.call && ret < next;
        window.push(*named);
        if window.len() >= WINDOW && alone && matches!(entry.action, Action::Write(_)) {
            finish(std::mem::replace(&mut window, vec![*named]));
        }
        returned = ret.max(returned);
    }
    finish(window);
    windows
}

/// The last operations of a short beginning that is not linearizable. A search by halves, so it may not be the
/// shortest one.
fn shortest(window: &[Named<'_>]) -> Vec<Line> {
    let mut sorted: Vec<_> = window.to_vec();
    sorted.sort_by_key(|(entry, _)| entry.ret.unwrap_or(entry.call));
    let fails = |length: usize| {
        let plain: Vec<Entry> = sorted[..length].iter().map(|(entry, _)| *entry).collect();
        decide(&plain, BUDGET) == Verdict::Not
    };
    let (mut good, mut bad) = (0, sorted.len());
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        match fails(middle) {
            true => bad = middle,
            false => good = middle,
        }
    }
    let ops = sorted[..bad].iter().rev().filter_map(|(_, op)| *op);
    let mut ops: Vec<Line> = ops.take(8).map(|op| Line::Op(op.clone())).collect();
    ops.reverse();
    ops
}

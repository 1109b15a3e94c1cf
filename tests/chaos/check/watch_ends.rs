//! The promises of watches together: no silent gap, equal events, ends with a reason, and everything delivered in
//! the end.

use std::collections::{BTreeMap, HashMap};

use super::truth::Stores;
use super::violation::Violation;
use super::watches::{Stream, of_era, streams};
use crate::history::{Event, History, Item, Line};

/// Checks all watches.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let streams = streams(history);
    let mut found = equal(history, stores, &streams);
    let mut chains: BTreeMap<u32, &Stream<'_>> = BTreeMap::new();
    for stream in &streams {
        // The watches of a reader are in the order of their creation.
        let last = chains.insert(stream.watch.chain, stream);
        if let Some(last) = last.filter(|last| last.end.is_none()) {
            let what = "its reader began another watch, and this one did not end";
            found.push(Violation::new("watch: end", what, &lines(last)));
        }
        found.extend(justified(history, stores, stream));
    }
    found.extend(
        chains
            .values()
            .filter_map(|stream| complete(history, stores, stream)),
    );
    found
}

fn lines(stream: &Stream<'_>) -> Vec<Line> {
    let mut watch = stream.watch.clone();
    watch.listed = None;
    let mut lines = vec![Line::Watch(watch)];
    lines.extend(stream.items.last().map(|item| Line::Item((*item).clone())));
    lines.extend(stream.end.map(|end| Line::WatchEnd(end.clone())));
    lines
}

/// The watches of one store report the same change of a key at a revision.
fn equal(history: &History, stores: &Stores, streams: &[Stream<'_>]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut first: HashMap<(u32, i64, &str), (&Event, &Item)> = HashMap::new();
    for stream in streams {
        let Some((era, _)) = of_era(history, stores, stream) else {
            continue;
        };
        for (item, event) in stream.events() {
            let (other, elsewhere) = *first
                .entry((era, event.kv.modified, event.kv.key.as_str()))
                .or_insert((event, item));
            if (other.del, &other.kv) != (event.del, &event.kv) {
                let lines = [Line::Item(elsewhere.clone()), Line::Item(item.clone())];
                found.push(Violation::new("watch: equal", "two watches differ", &lines));
            }
        }
    }
    found
}

/// A watch ends only because its next revision was compacted, or because the store was replaced.
fn justified(history: &History, stores: &Stores, stream: &Stream<'_>) -> Option<Violation> {
    let end = stream.end?;
    let next = stream.reached() + 1;
    let compacted = |c: &crate::history::Compaction| c.t <= end.t && c.revision >= next;
    let (era, _) = of_era(history, stores, stream)?;
    let replaced = history
        .eras
        .iter()
        .any(|new| new.era > era && new.from <= end.t);
    let justified = match end.kind.as_str() {
        "Compacted" => history.compactions.iter().any(compacted),
        "Rewound" => replaced,
        _ => false,
    };
    let what = format!(
        "it ended with {} without a cause, at revision {next}",
        end.kind
    );
    (!justified).then(|| Violation::new("watch: end", what, &lines(stream)))
}

/// The last watch of each reader lives, and has everything up to the end, in time.
fn complete(history: &History, stores: &Stores, stream: &Stream<'_>) -> Option<Violation> {
    let last = history.last();
    let fail = |rule, what: String| Some(Violation::new(rule, what, &lines(stream)));
    if stream.end.is_some() {
        return fail(
            "watch: live",
            "it ended, and its reader has no other watch".to_owned(),
        );
    }
    let era = history.eras.last().map(|era| era.era)?;
    let store = stores.era(era)?;
    if of_era(history, stores, stream).is_none_or(|(own, _)| own != era) {
        return fail(
            "watch: no silent gap",
            "it watches a store that was replaced".to_owned(),
        );
    }
    let changes = store.revisions().range(..=last.revision).rev();
    let mut changes =
        changes.flat_map(|(at, revision)| revision.events.iter().map(move |e| (*at, e)));
    let newest = changes
        .find(|(_, event)| stream.takes(event))
        .map(|(at, _)| at);
    let newest = newest.filter(|at| *at >= stream.watch.from)?;
    if stream.reached() < newest {
        let what = format!("it has reached {} of {newest}", stream.reached());
        return fail("watch: no silent gap", what);
    }
    let folded = stream
        .watch
        .listed
        .as_ref()
        .filter(|_| !stream.watch.no_put && !stream.watch.no_delete);
    if let Some(listed) = folded {
        let mut state: BTreeMap<_, _> = listed.iter().map(|kv| (&kv.key, kv)).collect();
        for (_, event) in stream
            .events()
            .filter(|(_, e)| e.kv.modified <= last.revision)
        {
            match event.del {
                true => state.remove(&event.kv.key),
                false => state.insert(&event.kv.key, &event.kv),
            };
        }
        let end = last
            .kvs
            .iter()
            .filter(|kv| stream.watch.keys.contains(&kv.key));
        if !state.into_values().eq(end) {
            return fail(
                "watch: no silent gap",
                "its contents are not the last list".to_owned(),
            );
        }
    }
    let came = stream.items.iter().find(|item| item.revision >= newest)?.t;
    let late = came.saturating_sub(last.quiet);
    if late > history.run().recovery {
        let what = format!(
            "the last event came {} ms after the faults ended",
            late / 1_000_000
        );
        return fail("watch: live", what);
    }
    None
}

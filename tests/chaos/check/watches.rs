//! The promises of each watch on its own: filter, ordered, unique, atomic, reliable, resumable, bookmarkable,
//! previous values and creations.

use std::collections::HashMap;

use super::truth::{Store, Stores};
use super::violation::Violation;
use crate::history::{Event, History, Item, Line, Time, Watch, WatchEnd};

/// A watch with its items and its end.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) watch: &'a Watch,
    pub(super) items: Vec<&'a Item>,
    pub(super) end: Option<&'a WatchEnd>,
}

impl Stream<'_> {
    pub(super) fn events(&self) -> impl Iterator<Item = (&Item, &Event)> {
        self.items
            .iter()
            .flat_map(|item| item.events.iter().map(|event| (*item, event)))
    }

    /// Whether an event belongs to the watch.
    pub(super) fn takes(&self, event: &Event) -> bool {
        let filtered = if event.del {
            self.watch.no_delete
        } else {
            self.watch.no_put
        };
        self.watch.keys.contains(&event.kv.key) && !filtered
    }

    /// The revision up to which everything was delivered.
    pub(super) fn reached(&self) -> i64 {
        let last = self.items.iter().map(|item| item.revision).max();
        last.unwrap_or(0).max(self.watch.from - 1)
    }

    /// The eras whose store may have been watched. The items were received until the last time.
    pub(super) fn eras(&self, history: &History) -> Vec<u32> {
        let until = self.items.last().map(|item| item.t);
        let until = until.unwrap_or(self.watch.t).max(self.watch.t);
        history.eras_within(self.watch.t, until).collect()
    }
}

/// All watches, by the order of their creation.
pub(super) fn streams(history: &History) -> Vec<Stream<'_>> {
    let index = history.watches.iter().enumerate();
    let index: HashMap<u64, usize> = index.map(|(at, watch)| (watch.watch, at)).collect();
    let watches = history.watches.iter().map(|watch| Stream {
        watch,
        items: Vec::new(),
        end: None,
    });
    let mut streams: Vec<Stream<'_>> = watches.collect();
    for item in &history.items {
        streams[index[&item.watch]].items.push(item);
    }
    for end in &history.watch_ends {
        streams[index[&end.watch]].end = Some(end);
    }
    streams
}

/// Checks all watches.
pub fn check(history: &History, stores: &Stores) -> Vec<Violation> {
    let streams = streams(history);
    let mut found = Vec::new();
    for stream in &streams {
        found.extend(alone(stream));
        if let Some((_, wrong)) = of_era(history, stores, stream) {
            found.extend(wrong);
        } else {
            let lines = [Line::Watch(stream.watch.clone())];
            found.push(Violation::new(
                "watch: era",
                "no store existed at that time",
                &lines,
            ));
        }
    }
    found
}

/// The era whose store explains the watch best, and what it does not explain.
pub(super) fn of_era(
    history: &History,
    stores: &Stores,
    stream: &Stream<'_>,
) -> Option<(u32, Vec<Violation>)> {
    let eras = stream.eras(history).into_iter();
    let verdicts = eras.filter_map(|era| {
        let store = stores.era(era)?;
        Some((era, against(history, store, stream)))
    });
    // The newest of equally good ones: the reader that lists again sees the new store.
    verdicts.min_by_key(|(era, found)| (found.len(), std::cmp::Reverse(*era)))
}

fn violation(rule: &'static str, what: String, stream: &Stream<'_>, items: &[&Item]) -> Violation {
    let mut watch = stream.watch.clone();
    watch.listed = None;
    let mut lines = vec![Line::Watch(watch)];
    lines.extend(items.iter().map(|item| Line::Item((*item).clone())));
    Violation::new(rule, what, &lines)
}

/// What the items show without the store.
fn alone(stream: &Stream<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut reached = if stream.watch.or_earlier {
        0
    } else {
        stream.watch.from - 1
    };
    let mut before: Option<&Item> = None;
    let mut seen: HashMap<(i64, &str), &Item> = HashMap::new();
    for item in &stream.items {
        let lines: Vec<&Item> = before.into_iter().chain([*item]).collect();
        for event in &item.events {
            if !stream.takes(event) {
                let what = format!("{:?} does not belong to the watch", event.kv);
                found.push(violation("watch: filter", what, stream, &[item]));
            }
            if let Some(first) = seen.insert((event.kv.modified, &event.kv.key), item) {
                let what = format!("{} at {} came twice", event.kv.key, event.kv.modified);
                found.push(violation("watch: unique", what, stream, &[first, item]));
            }
        }
        let revisions: Vec<i64> = item.events.iter().map(|event| event.kv.modified).collect();
        if !revisions.is_sorted() {
            found.push(violation(
                "watch: ordered",
                format!("{revisions:?}"),
                stream,
                &[item],
            ));
        }
        let (first, last) = match (revisions.first(), revisions.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => (item.revision, item.revision),
        };
        if !item.events.is_empty() {
            if first < reached {
                let what = format!("revision {first} came after {reached}");
                found.push(violation("watch: ordered", what, stream, &lines));
            } else if first == reached && before.is_some_and(|before| !before.events.is_empty()) {
                let what = format!("revision {first} was split over two items");
                found.push(violation("watch: atomic", what, stream, &lines));
            } else if first == reached {
                let what = format!("revision {first} came after progress to {reached}");
                found.push(violation("watch: bookmarkable", what, stream, &lines));
            }
            if item.revision != last {
                let what = format!(
                    "the item has revision {} and ends with {last}",
                    item.revision
                );
                found.push(violation("watch: bookmarkable", what, stream, &[item]));
            }
        } else if item.revision < reached {
            let what = format!("progress to {} after {reached}", item.revision);
            found.push(violation("watch: bookmarkable", what, stream, &lines));
        }
        reached = last.max(reached);
        before = Some(item);
    }
    found
}

/// What the items show against the changes of one store.
fn against(history: &History, store: &Store, stream: &Stream<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let watch = stream.watch;
    if let Some(listed) = &watch.listed {
        let state: Vec<_> = store.range(&watch.keys, watch.from - 1);
        if watch.from - 1 > store.last() || !listed.iter().eq(state) {
            let what = format!("the list at {} differs from the store", watch.from - 1);
            found.push(Violation::new(
                "watch: listed",
                what,
                &[Line::Watch(watch.clone())],
            ));
        }
    }
    let mut expected = store
        .revisions()
        .range(watch.from.max(0)..)
        .flat_map(|(_, revision)| &revision.events)
        .filter(|event| stream.takes(event))
        .peekable();
    let mut any = false;
    for item in &stream.items {
        if item.events.is_empty() {
            if let Some(next) = expected
                .peek()
                .filter(|next| next.kv.modified <= item.revision)
            {
                let what = format!(
                    "progress to {}, but {:?} was not delivered",
                    item.revision, next.kv
                );
                found.push(violation("watch: bookmarkable", what, stream, &[item]));
                return found;
            }
            if item.revision > store.last() {
                let what = format!("progress to {}, which never existed", item.revision);
                found.push(violation("watch: bookmarkable", what, stream, &[item]));
            }
        }
        for event in &item.events {
            let optional = watch.or_earlier && event.kv.modified < watch.from;
            let next = if optional {
                stored(store, event)
            } else {
                expected.next()
            };
            let same = next.is_some_and(|next| next.del == event.del && next.kv == event.kv);
            if !same {
                let rule = if any {
                    "watch: reliable"
                } else {
                    "watch: resumable"
                };
                let what = format!(
                    "{:?} came, and the next change is {:?}",
                    event.kv,
                    next.map(|next| &next.kv)
                );
                found.push(violation(rule, what, stream, &[item]));
                return found;
            }
            any = true;
            found.extend(previous(history, store, stream, item, event));
        }
    }
    found
}

fn stored<'a>(store: &'a Store, event: &Event) -> Option<&'a Event> {
    let revision = store.revisions().get(&event.kv.modified)?;
    revision
        .events
        .iter()
        .find(|stored| stored.kv.key == event.kv.key)
}

/// The previous value is the one before the revision; it is missing only if it was requested and the history before
/// was compacted.
fn previous(
    history: &History,
    store: &Store,
    stream: &Stream<'_>,
    item: &Item,
    event: &Event,
) -> Option<Violation> {
    let at = event.kv.modified;
    let before = store.at(&event.kv.key, at - 1);
    let creates = event.kv.create == at;
    if !event.del && creates != before.is_none() {
        let what = format!("{:?} says {creates} for a creation", event.kv);
        return Some(violation("watch: isCreate", what, stream, &[item]));
    }
    let compacted = |t: Time| {
        history
            .compactions
            .iter()
            .any(|c| c.t <= t && c.revision >= at - 1)
    };
    let right = match &event.prev {
        Some(prev) => stream.watch.prev_kv && Some(prev) == before,
        None => !stream.watch.prev_kv || before.is_none() || compacted(item.t),
    };
    (!right).then(|| {
        let what = format!(
            "{} at {at} has {:?} before it, and not {before:?}",
            event.kv.key, event.prev
        );
        violation("watch: prevKV", what, stream, &[item])
    })
}

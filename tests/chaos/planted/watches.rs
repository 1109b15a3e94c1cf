//! Planted faults of watches.

use super::assert_caught;
use crate::history::{Event, History, Item, Kv, Watch, WatchEnd};

/// The index of a random item that fits.
fn item(
    history: &History,
    random: &mut fastrand::Rng,
    fits: impl Fn(&Item, &Watch) -> bool,
) -> Option<usize> {
    let fitting: Vec<usize> = (0..history.items.len())
        .filter(|n| {
            let item = &history.items[*n];
            let watch = history
                .watches
                .iter()
                .find(|watch| watch.watch == item.watch);
            fits(item, watch.unwrap())
        })
        .collect();
    random.choice(fitting)
}

/// Two items with events, one after the other in one watch.
fn pair(history: &History, random: &mut fastrand::Rng) -> Option<(usize, usize)> {
    let first = item(history, random, |item, _| !item.events.is_empty())?;
    let watch = history.items[first].watch;
    let later = (first + 1..history.items.len()).filter(|n| history.items[*n].watch == watch);
    let second = later
        .into_iter()
        .find(|n| !history.items[*n].events.is_empty())?;
    Some((first, second))
}

fn some(found: Option<()>) -> bool {
    found.is_some()
}

const LOST: &[&str] = &[
    "watch: reliable",
    "watch: resumable",
    "watch: no silent gap",
    "watch: bookmarkable",
];

#[test]
fn every_planted_fault_of_delivery_is_caught() {
    assert_caught(&[
        ("an event is dropped", LOST, |history, random| {
            some(
                item(history, random, |item, _| item.events.len() > 1)
                    .map(|n| drop(history.items[n].events.remove(0))),
            )
        }),
        ("an item is dropped", LOST, |history, random| {
            some(
                item(history, random, |item, _| !item.events.is_empty())
                    .map(|n| drop(history.items.remove(n))),
            )
        }),
        (
            "the first item is dropped",
            &["watch: resumable"],
            |history, _| {
                let watch = history.watches[0].watch;
                let first = history
                    .items
                    .iter()
                    .position(|item| item.watch == watch && !item.events.is_empty());
                history
                    .items
                    .retain(|item| item.watch != watch || !item.events.is_empty());
                some(first.map(|_| {
                    let first = history
                        .items
                        .iter()
                        .position(|item| item.watch == watch)
                        .unwrap();
                    history.items.remove(first);
                }))
            },
        ),
        (
            "the last item is dropped",
            &["watch: no silent gap"],
            |history, _| {
                let watch = history.watches[0].watch;
                history
                    .items
                    .retain(|item| item.watch != watch || !item.events.is_empty());
                let last = history.items.iter().rposition(|item| item.watch == watch);
                some(last.map(|last| drop(history.items.remove(last))))
            },
        ),
        (
            "an event is delivered twice in an item",
            &["watch: unique"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        let again = history.items[n].events[0].clone();
                        history.items[n].events.insert(0, again);
                    }),
                )
            },
        ),
        (
            "an item is delivered twice",
            &["watch: unique"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        let again = history.items[n].clone();
                        history.items.push(again);
                    }),
                )
            },
        ),
        (
            "two items are exchanged",
            &["watch: ordered"],
            |history, random| some(pair(history, random).map(|(a, b)| history.items.swap(a, b))),
        ),
        (
            "the events of an item are reversed",
            &["watch: ordered"],
            |history, random| {
                let long = |item: &Item, _: &Watch| {
                    let revisions: Vec<i64> =
                        item.events.iter().map(|event| event.kv.modified).collect();
                    revisions.first() != revisions.last()
                };
                some(item(history, random, long).map(|n| history.items[n].events.reverse()))
            },
        ),
        (
            "a revision is split over two items",
            &["watch: atomic"],
            |history, random| {
                let wide = |item: &Item, _: &Watch| {
                    let mut pairs = item.events.windows(2);
                    pairs.any(|pair| pair[0].kv.modified == pair[1].kv.modified)
                };
                some(item(history, random, wide).map(|n| {
                    let events = &mut history.items[n].events;
                    let cut = events
                        .windows(2)
                        .position(|p| p[0].kv.modified == p[1].kv.modified)
                        .unwrap()
                        + 1;
                    let rest = events.split_off(cut);
                    let revision = history.items[n].revision;
                    history.items[n].revision = history.items[n].events[cut - 1].kv.modified;
                    let second = Item {
                        events: rest,
                        revision,
                        ..history.items[n].clone()
                    };
                    history.items.insert(n + 1, second);
                }))
            },
        ),
        (
            "a foreign key is delivered",
            &["watch: filter"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        history.items[n].events[0].kv.key = "other".to_owned();
                    }),
                )
            },
        ),
        (
            "a filtered deletion is delivered",
            &["watch: filter"],
            |history, random| {
                some(
                    item(history, random, |item, watch| {
                        watch.no_delete && !item.events.is_empty()
                    })
                    .map(|n| {
                        history.items[n].events[0].del = true;
                    }),
                )
            },
        ),
    ]);
}

#[test]
fn every_forged_item_is_caught() {
    assert_caught(&[
        (
            "a forged event",
            &["watch: reliable", "watch: resumable"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        let events = &mut history.items[n].events;
                        let kv = Kv {
                            key: "kv/forged".to_owned(),
                            ..events[0].kv.clone()
                        };
                        let forged = Event {
                            kv,
                            ..events[0].clone()
                        };
                        events.insert(0, forged);
                    }),
                )
            },
        ),
        (
            "a forged value",
            &["watch: reliable", "watch: resumable"],
            |history, random| {
                let puts = |item: &Item, _: &Watch| item.events.iter().any(|event| !event.del);
                some(item(history, random, puts).map(|n| {
                    let put = history.items[n].events.iter_mut().find(|event| !event.del);
                    put.unwrap().kv.value.push('x');
                }))
            },
        ),
        (
            "progress too early",
            &["watch: bookmarkable"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        let forged = Item {
                            events: Vec::new(),
                            ..history.items[n].clone()
                        };
                        history.items.insert(n, forged);
                    }),
                )
            },
        ),
        (
            "progress that goes back",
            &["watch: bookmarkable"],
            |history, random| {
                some(
                    item(history, random, |item, _| !item.events.is_empty()).map(|n| {
                        let revision = history.items[n].revision - 1;
                        let forged = Item {
                            events: Vec::new(),
                            revision,
                            ..history.items[n].clone()
                        };
                        history.items.insert(n + 1, forged);
                    }),
                )
            },
        ),
        (
            "progress of the future",
            &["watch: bookmarkable"],
            |history, _| {
                let forged = history.items.last().cloned();
                some(forged.map(|forged| {
                    let revision = forged.revision + 1_000_000;
                    history.items.push(Item {
                        events: Vec::new(),
                        revision,
                        ..forged
                    });
                }))
            },
        ),
        (
            "another previous value",
            &["watch: prevKV"],
            |history, random| {
                let has =
                    |item: &Item, _: &Watch| item.events.iter().any(|event| event.prev.is_some());
                some(item(history, random, has).map(|n| {
                    let prev = history.items[n]
                        .events
                        .iter_mut()
                        .find_map(|event| event.prev.as_mut());
                    prev.unwrap().value.push('x');
                }))
            },
        ),
        (
            "no previous value",
            &["watch: prevKV"],
            |history, random| {
                let has =
                    |item: &Item, _: &Watch| item.events.iter().any(|event| event.prev.is_some());
                some(item(history, random, has).map(|n| {
                    let event = history.items[n]
                        .events
                        .iter_mut()
                        .find(|event| event.prev.is_some());
                    event.unwrap().prev = None;
                }))
            },
        ),
        (
            "a change that claims to create",
            &["watch: isCreate", "watch: reliable", "watch: resumable"],
            |history, random| {
                let has = |item: &Item, _: &Watch| {
                    item.events
                        .iter()
                        .any(|e| !e.del && e.kv.create < e.kv.modified)
                };
                some(item(history, random, has).map(|n| {
                    let events = &mut history.items[n].events;
                    let event = events
                        .iter_mut()
                        .find(|e| !e.del && e.kv.create < e.kv.modified)
                        .unwrap();
                    event.kv.create = event.kv.modified;
                }))
            },
        ),
        (
            "one watch differs from the others",
            &["watch: equal"],
            |history, random| {
                let puts = |item: &Item, _: &Watch| item.events.iter().any(|event| !event.del);
                some(item(history, random, puts).map(|n| {
                    let put = history.items[n].events.iter_mut().find(|event| !event.del);
                    put.unwrap().kv.version += 1;
                }))
            },
        ),
        (
            "another list before the watch",
            &["watch: listed", "watch: no silent gap"],
            |history, _| {
                let watch = history
                    .watches
                    .iter_mut()
                    .find(|watch| watch.listed.is_some());
                some(watch.map(|watch| {
                    let forged = Kv {
                        key: "kv/zz".to_owned(),
                        ..Kv::default()
                    };
                    watch.listed.as_mut().unwrap().push(forged);
                }))
            },
        ),
        ("an end without a cause", &["watch: end"], |history, _| {
            history.watch_ends.push(WatchEnd {
                watch: history.watches[0].watch,
                t: history.last().t,
                kind: "Compacted".to_owned(),
                text: String::new(),
            });
            true
        }),
        (
            "everything came too late",
            &["watch: live"],
            |history, _| {
                let late = history.last().t + history.run().recovery;
                let watch = history.watches[0].watch;
                let last = history
                    .items
                    .iter_mut()
                    .rfind(|item| item.watch == watch && !item.events.is_empty());
                let last = some(last.map(|item| item.t = late));
                history
                    .items
                    .retain(|item| item.watch != watch || !item.events.is_empty());
                last
            },
        ),
    ]);
}

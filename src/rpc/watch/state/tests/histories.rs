//! Many random histories of the model.

use crate::error::ErrorKind;
use crate::rpc::watch::state::tests::model::{Faults, World};
use crate::types::key_range::KeyRange;

/// Counts of what happened in the histories.
#[derive(Debug, Default)]
struct Seen {
    items: usize,
    pauses: usize,
    streams: usize,
    compacted: usize,
    rewound: usize,
    void: usize,
    too_large: usize,
}

fn histories(count: u64, faults: Faults) -> Seen {
    let mut seen = Seen::default();
    for seed in 0..count {
        let mut world = World::new(seed, faults);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.run(300);
            world.check();
        }));
        assert!(checked.is_ok(), "seed {seed} with {faults:?}");
        let ended = |kind| {
            world
                .readers
                .values()
                .filter(|r| r.error == Some(kind))
                .count()
        };
        seen.items += world.readers.values().map(|r| r.got.len()).sum::<usize>();
        seen.pauses += world.pauses;
        seen.streams += world.opens;
        seen.too_large += world.too_large;
        seen.compacted += ended(ErrorKind::Compacted);
        seen.rewound += ended(ErrorKind::Rewound);
        seen.void += usize::from(world.void);
    }
    seen
}

#[test]
fn no_event_is_missing_or_duplicated_without_faults() {
    let seen = histories(300, Faults::default());
    assert!(seen.items > 10_000 && seen.pauses > 300, "{seen:?}");
    assert_eq!((seen.compacted, seen.rewound), (0, 0));
}

#[test]
fn no_event_is_missing_or_duplicated_after_disconnects() {
    let cuts = true;
    let seen = histories(
        600,
        Faults {
            cuts,
            ..Faults::default()
        },
    );
    assert!(seen.streams > 3000 && seen.rewound == 0, "{seen:?}");
}

#[test]
fn no_event_is_missing_or_duplicated_when_a_server_repeats_events() {
    let (cuts, resent) = (true, true);
    let seen = histories(
        400,
        Faults {
            cuts,
            resent,
            ..Faults::default()
        },
    );
    assert!(seen.items > 10_000, "{seen:?}");
}

#[test]
fn no_event_is_missing_or_duplicated_when_tokens_expire() {
    let (cuts, expiry) = (true, true);
    let seen = histories(
        400,
        Faults {
            cuts,
            expiry,
            ..Faults::default()
        },
    );
    assert!(seen.items > 10_000 && seen.streams > 2000, "{seen:?}");
}

// Fault: Q5
#[test]
fn oversized_responses_do_not_delay_or_lose_events() {
    for cuts in [false, true] {
        let seen = histories(
            600,
            Faults {
                cuts,
                large: true,
                resent: cuts,
                ..Faults::default()
            },
        );
        assert!(seen.items > 10_000 && seen.too_large > 1000, "{seen:?}");
    }
}

#[test]
fn a_gap_from_a_compaction_is_always_reported() {
    let (cuts, compaction) = (true, true);
    let seen = histories(
        600,
        Faults {
            cuts,
            compaction,
            ..Faults::default()
        },
    );
    assert!(seen.compacted > 100, "{seen:?}");
}

#[test]
fn a_rewound_store_is_always_reported() {
    let (cuts, wipes) = (true, true);
    let seen = histories(
        800,
        Faults {
            cuts,
            wipes,
            ..Faults::default()
        },
    );
    assert!(seen.rewound > 100 && seen.void < 400, "{seen:?}");
}

#[test]
fn a_watch_without_a_reader_delays_no_other_watch() {
    for seed in 0..200 {
        let mut world = World::new(seed, Faults::default());
        let stuck = world.add_watch(KeyRange::all(), Some(1), true);
        world.run(300);
        world.check();
        assert!(
            world
                .readers
                .get(&stuck)
                .is_none_or(|reader| reader.error.is_none())
        );
    }
}

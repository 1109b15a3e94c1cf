//! Tests of the identity of the store.

use proptest::prelude::*;

use super::Consistency::{Applied, Linearizable, Local};
use super::*;

fn at(revision: i64, term: u64) -> StorePosition {
    StorePosition {
        cluster: 7,
        revision,
        term,
    }
}

/// An identity that has recorded revision 100 in term 4.
fn seen() -> StoreIdentity {
    let mut store = StoreIdentity::default();
    let first = store.known();
    assert_eq!(
        store.check(at(100, 4), Linearizable, first),
        StoreVerdict::Same
    );
    store
}

fn ask(store: &mut StoreIdentity, answer: StorePosition, consistency: Consistency) -> StoreVerdict {
    let known_when_sent = store.known();
    store.check(answer, consistency, known_when_sent)
}

#[test]
fn another_cluster_id_is_another_store_at_any_consistency() {
    for consistency in [Local, Linearizable, Applied] {
        let mut store = seen();
        let other = StorePosition {
            cluster: 8,
            ..at(500, 9)
        };
        assert_eq!(ask(&mut store, other, consistency), StoreVerdict::Another);
        assert_eq!(store.known().epoch, 1);
        assert_eq!(ask(&mut store, other, Linearizable), StoreVerdict::Same);
        // A header without an id changes nothing.
        let silent = StorePosition::default();
        assert_eq!(ask(&mut store, silent, consistency), StoreVerdict::Same);
        assert_eq!(
            ask(&mut store, at(600, 9), consistency),
            StoreVerdict::Another
        );
    }
}

#[test]
fn a_store_can_be_replaced_repeatedly_and_each_replacement_is_described() {
    let mut store = seen();
    assert_eq!(store.last_replacement(), None);
    let mut replaced = |answer, verdict| {
        assert_eq!(ask(&mut store, answer, Applied), verdict);
        // One read that is older than the new store is not a proof.
        let early = at(answer.revision - 1, answer.term);
        let read = StorePosition {
            cluster: answer.cluster,
            ..early
        };
        assert_eq!(
            ask(&mut store, read, Linearizable),
            StoreVerdict::RewindSuspected
        );
        assert_eq!(ask(&mut store, answer, Applied), StoreVerdict::Same);
        store.last_replacement().unwrap().to_string()
    };
    let rewound = "the store lost data or was restored: its";
    let text = replaced(at(99, 5), StoreVerdict::Rewound);
    assert_eq!(text, format!("{rewound} revision is 99 and was 100"));
    let text = replaced(at(500, 3), StoreVerdict::Rewound);
    assert_eq!(text, format!("{rewound} raft term is 3 and was 5"));
    let other = StorePosition {
        cluster: 0xab,
        ..at(500, 3)
    };
    let text = replaced(other, StoreVerdict::Another);
    assert_eq!(text, "another cluster answers: its id is ab and was 7");
    assert_eq!(store.known().epoch, 3);
    // The earlier headers did not report the cluster id.
    let mut store = StoreIdentity::default();
    let nameless = StorePosition {
        cluster: 0,
        ..at(100, 4)
    };
    assert_eq!(ask(&mut store, nameless, Applied), StoreVerdict::Same);
    assert_eq!(ask(&mut store, at(99, 4), Applied), StoreVerdict::Rewound);
    let text = store.last_replacement().unwrap().to_string();
    assert_eq!(text, format!("{rewound} revision is 99 and was 100"));
}

#[test]
fn an_election_does_not_change_the_store() {
    let mut store = seen();
    assert_eq!(
        ask(&mut store, at(100, 5), Linearizable),
        StoreVerdict::Same
    );
    assert_eq!(store.known().epoch, 0);
}

#[test]
fn a_lower_revision_or_term_is_a_rewind_after_one_write_or_two_reads() {
    for older in [at(99, 4), at(99, 5), at(200, 3), at(1, 2)] {
        let mut store = seen();
        assert_eq!(
            ask(&mut store, older, Applied),
            StoreVerdict::Rewound,
            "{older:?}"
        );
        let mut store = seen();
        assert_eq!(
            ask(&mut store, older, Linearizable),
            StoreVerdict::RewindSuspected
        );
        assert_eq!(store.known().epoch, 0, "one read is no proof");
        assert_eq!(ask(&mut store, older, Linearizable), StoreVerdict::Rewound);
        assert_eq!(store.known().epoch, 1);
        assert_eq!(ask(&mut store, older, Linearizable), StoreVerdict::Same);
    }
}

#[test]
fn a_single_older_read_is_no_rewind() {
    let mut store = seen();
    assert_eq!(
        ask(&mut store, at(99, 3), Linearizable),
        StoreVerdict::RewindSuspected
    );
    assert_eq!(
        ask(&mut store, at(100, 5), Linearizable),
        StoreVerdict::Same
    );
    assert_eq!(
        ask(&mut store, at(99, 4), Linearizable),
        StoreVerdict::RewindSuspected
    );
    assert_eq!(store.known().epoch, 0);
}

#[test]
fn a_local_answer_does_not_end_the_suspicion_of_a_rewind() {
    let mut store = seen();
    assert_eq!(
        ask(&mut store, at(99, 4), Linearizable),
        StoreVerdict::RewindSuspected
    );
    for answer in [at(100, 4), at(99, 4), StorePosition::default()] {
        ask(&mut store, answer, Local);
        assert!(store.known().is_rewind_suspected());
    }
    assert_eq!(
        ask(&mut store, at(99, 4), Linearizable),
        StoreVerdict::Rewound
    );
    assert!(!store.known().is_rewind_suspected());
}

#[test]
fn two_reads_that_were_sent_together_are_one_observation() {
    let mut store = seen();
    let known_when_sent = store.known();
    for _ in 0..2 {
        let verdict = store.check(at(99, 4), Linearizable, known_when_sent);
        assert_eq!(verdict, StoreVerdict::RewindSuspected);
    }
}

#[test]
fn an_older_answer_of_a_member_that_may_lag_is_no_rewind() {
    let mut store = seen();
    for older in [at(99, 4), at(100, 3), at(1, 1)] {
        assert_eq!(ask(&mut store, older, Local), StoreVerdict::Lagging);
        assert_eq!(ask(&mut store, older, Local), StoreVerdict::Lagging);
    }
    assert_eq!(store.known().epoch, 0);
    assert_eq!(ask(&mut store, at(100, 4), Applied), StoreVerdict::Same);
}

#[test]
fn an_answer_is_compared_with_what_was_known_when_its_request_was_sent() {
    let mut store = seen();
    let known_when_sent = store.known();
    assert_eq!(ask(&mut store, at(101, 5), Applied), StoreVerdict::Same);
    assert_eq!(
        store.check(at(100, 4), Applied, known_when_sent),
        StoreVerdict::Same
    );
    assert_eq!(ask(&mut store, at(1, 2), Applied), StoreVerdict::Rewound);
    // The request was sent to the replaced store: its answer neither restores that store nor
    // replaces the new one.
    assert_eq!(
        store.check(at(102, 5), Applied, known_when_sent),
        StoreVerdict::Lagging
    );
    assert_eq!(store.known().epoch, 1);
}

#[test]
fn missing_header_fields_prove_nothing() {
    let mut store = seen();
    for silent in [StorePosition::default(), at(0, 0), at(0, 4), at(100, 0)] {
        assert_eq!(ask(&mut store, silent, Applied), StoreVerdict::Same);
    }
}

proptest! {
    /// Writes and elections of one cluster, reported by members that lag, with requests that
    /// overtake each other: never a replacement. The next write detects a rollback, unless the
    /// rewound store reached the same revision and term.
    #[test]
    fn a_healthy_cluster_is_always_the_same_store(
        steps in prop::collection::vec((0..6u8, 0..4usize), 1..80),
        rollback in any::<bool>(),
    ) {
        let mut store = StoreIdentity::default();
        let (mut revision, mut term) = (10, 2);
        let mut history = vec![at(revision, term)];
        let mut flying = Vec::new();
        for (step, lag) in steps {
            match step {
                0 => revision += 1,
                1 => term += 1,
                2 => flying.push((store.known(), history.len())),
                3 if !flying.is_empty() => {
                    // The answer shows any state since the request.
                    let (known_when_sent, since) = flying.swap_remove(lag % flying.len());
                    let shown = history[(since - 1 + lag).min(history.len() - 1)];
                    prop_assert_eq!(store.check(shown, Linearizable, known_when_sent), StoreVerdict::Same);
                }
                4 => {
                    let shown = history[history.len().saturating_sub(1 + lag)];
                    let known_when_sent = store.known();
                    let verdict = store.check(shown, Local, known_when_sent);
                    prop_assert!(matches!(verdict, StoreVerdict::Same | StoreVerdict::Lagging));
                }
                _ => {
                    revision += 1;
                    let known_when_sent = store.known();
                    prop_assert_eq!(store.check(at(revision, term), Applied, known_when_sent), StoreVerdict::Same);
                }
            }
            history.push(at(revision, term));
        }
        prop_assert_eq!(store.known().epoch, 0);
        if rollback {
            let known = store.known();
            let older = at(known.newest.revision - 1, 1);
            if older.is_older_than(known.newest) && older.revision > 0 {
                prop_assert_eq!(store.check(older, Applied, known), StoreVerdict::Rewound);
            }
        }
    }
}

/// A store with a key that was put at revision 50 and is known until 60.
fn with_key() -> (StoreIdentity, SeenKey) {
    let mut store = seen();
    store.listed(0, b"k", 50, 60);
    let key = store.seen().unwrap();
    (store, key)
}

fn known(store: &StoreIdentity) -> Option<(i64, i64)> {
    store.seen().map(|seen| (seen.modified, seen.at))
}

#[test]
fn an_unchanged_key_shows_the_same_store_and_is_known_until_now() {
    let (mut store, key) = with_key();
    let verdict = store.compare(&key, Some(50), at(101, 4));
    assert_eq!(verdict, StoreVerdict::Same);
    assert_eq!(known(&store), Some((50, 101)));
    assert_eq!(store.known().epoch, 0);
    // A watch has reported a newer one meanwhile, which stays.
    store.watched(0, b"other", 102);
    store.compare(&key, Some(50), at(103, 4));
    assert_eq!(known(&store), Some((102, 102)));
}

#[test]
fn a_member_that_lags_behind_the_key_proves_nothing() {
    for found in [None, Some(40), Some(50)] {
        let (mut store, key) = with_key();
        let verdict = store.compare(&key, found, at(59, 4));
        assert_eq!(verdict, StoreVerdict::Lagging);
        assert_eq!((store.known().epoch, known(&store)), (0, Some((50, 60))));
        // At the revision of the key it does not lag.
        let verdict = store.compare(&key, Some(50), at(60, 4));
        assert_eq!(verdict, StoreVerdict::Same);
    }
}

#[test]
fn a_key_with_another_modification_until_then_is_a_replacement() {
    for found in [1, 49, 51, 60] {
        let (mut store, key) = with_key();
        let verdict = store.compare(&key, Some(found), at(101, 4));
        assert_eq!(verdict, StoreVerdict::Rewound, "{found}");
        assert_eq!((store.known().epoch, store.seen()), (1, None));
        let text = store.last_replacement().unwrap().to_string();
        assert!(
            text.contains("its contents at revision 60 are not"),
            "{text}"
        );
        // The key of the lost store says nothing about the new one.
        let verdict = store.compare(&key, Some(found), at(101, 4));
        assert_eq!(verdict, StoreVerdict::Lagging);
        let verdict = store.compare_past(&key, Some(None), None, at(101, 4));
        assert_eq!(verdict, StoreVerdict::Lagging);
        assert_eq!(store.known().epoch, 1);
    }
}

#[test]
fn the_past_of_a_key_that_was_changed_or_deleted_decides() {
    for present in [None, Some(61), Some(90)] {
        let (mut store, key) = with_key();
        let verdict = store.compare(&key, present, at(101, 4));
        assert_eq!(verdict, StoreVerdict::RewindSuspected);
        assert_eq!(known(&store), Some((50, 60)));
        let verdict = store.compare_past(&key, Some(Some(50)), present, at(101, 4));
        assert_eq!(verdict, StoreVerdict::Same);
        let until_now = present.map(|modified| (modified, 101));
        assert_eq!(known(&store), until_now.or(Some((50, 60))));
        for past in [None, Some(49), Some(55)] {
            let (mut store, key) = with_key();
            let verdict = store.compare_past(&key, Some(past), present, at(101, 4));
            assert_eq!(verdict, StoreVerdict::Rewound);
            assert_eq!((store.known().epoch, store.seen()), (1, None));
        }
    }
}

#[test]
fn a_key_whose_past_is_compacted_makes_room_for_another() {
    let (mut store, key) = with_key();
    let verdict = store.compare_past(&key, None, Some(90), at(101, 4));
    assert_eq!(verdict, StoreVerdict::Same);
    assert_eq!(known(&store), Some((90, 101)));

    let (mut store, key) = with_key();
    store.compare_past(&key, None, None, at(101, 4));
    assert_eq!(known(&store), None);
    store.listed(0, b"next", 70, 101);
    // Another comparison of the first key changes nothing.
    store.compare_past(&key, None, None, at(102, 4));
    assert_eq!(known(&store), Some((70, 101)));
    assert_eq!(store.known().epoch, 0);
}

#[test]
fn a_newer_key_of_a_watch_replaces_the_seen_one_and_a_list_does_not() {
    let mut store = seen();
    store.listed(0, b"a", 10, 60);
    assert_eq!(known(&store), Some((10, 60)));
    store.listed(0, b"b", 20, 70);
    store.watched(0, b"c", 60);
    assert_eq!(store.seen().unwrap().key, b"a");
    store.watched(0, b"d", 61);
    assert_eq!(known(&store), Some((61, 61)));
}

#[test]
fn keys_of_another_epoch_long_keys_and_impossible_revisions_are_not_kept() {
    let mut store = seen();
    store.watched(1, b"k", 50);
    store.listed(1, b"k", 50, 60);
    store.watched(0, &[b'k'; MAX_KEY + 1], 50);
    store.watched(0, b"k", 0);
    store.listed(0, b"k", 61, 60);
    assert_eq!(store.seen(), None);
    store.watched(0, &[b'k'; MAX_KEY], 1);
    assert!(store.seen().is_some());
    assert_eq!(ask(&mut store, at(99, 4), Applied), StoreVerdict::Rewound);
    assert_eq!(store.seen(), None, "it was lost with its store");
}

#[test]
fn a_replacement_names_what_is_lower_than_before() {
    let text = |revision, term| {
        let position = |revision, term| StorePosition {
            cluster: 0xa,
            revision,
            term,
        };
        let (before, after) = (position(5, 9), position(revision, term));
        let differs_at = None;
        Replacement {
            before,
            after,
            differs_at,
        }
        .to_string()
    };
    assert!(text(4, 3).ends_with("its revision is 4 and was 5"));
    assert!(text(5, 3).ends_with("its raft term is 3 and was 9"));
}

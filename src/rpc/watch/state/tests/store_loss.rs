//! Stores that were rewound or replaced.

use super::*;

#[test]
fn a_rewound_store_ends_the_watch_before_it_is_created_again() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    let actions = reopened(&mut state, now, 19);
    assert_eq!(
        (starts(&actions), last_error(&actions)),
        (vec![], Some(ErrorKind::Rewound))
    );
    let text = format!("{actions:?}");
    assert!(text.contains("19") && text.contains("20"), "{text}");
}

#[test]
fn a_read_that_comes_too_early_once_is_asked_again() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    state.on(Input::Ended(StreamEnd::Eof), now, 0.0);
    state.on(Input::Opened, now, 0.5);
    let actions = state.on(Input::Read(Ok(19)), now, 0.5);
    assert!(matches!(actions[..], [Action::Read(_)]));
    assert_eq!(starts(&state.on(Input::Read(Ok(20)), now, 0.5)), [21]);
}

#[test]
fn a_paused_watch_learns_of_a_rewind_from_the_read_of_another() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    state.on(Input::Full(1, 20), now, 0.5);
    state.on(Input::Add(2, Watch::key("x")), now, 0.5);
    let actions = reopened(&mut state, now, 3);
    assert!(matches!(&actions[0], Action::Finish(1, error) if error.kind() == ErrorKind::Rewound));
    assert_eq!(
        starts(&actions),
        [4],
        "the new one begins with the store as it is"
    );
}

/// Reports that the store was replaced.
fn replaced(state: &mut Watches, now: Instant) {
    let why = "its raft term is 2 and was 4".into();
    let actions = state.on(Input::Replaced { epoch: 1, why }, now, 0.0);
    assert!(actions.is_empty(), "the read that follows ends the watches");
}

// Fault: R11
#[test]
fn a_store_that_was_replaced_ends_its_watches_although_it_has_grown_past_them() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    state.on(Input::Ended(StreamEnd::Eof), now, 0.0);
    state.on(Input::Add(2, Watch::key("x")), now, 0.5);
    state.on(Input::Opened, now, 0.0);
    replaced(&mut state, now);
    let actions = state.on(Input::Read(Ok(99)), now, 0.0);
    assert_eq!(last_error(&actions), Some(ErrorKind::Rewound));
    assert!(format!("{actions:?}").contains("raft term"), "it says why");
    assert_eq!(
        starts(&actions),
        [100],
        "the new one begins with this store"
    );
    // Only once: a watch of the new store goes on.
    state.on(created(0, 99), now, 0.0);
    assert_eq!(starts(&reopened(&mut state, now, 99)), [100]);
}

#[test]
fn a_watch_goes_on_from_a_store_that_was_replaced_only_if_it_knows_the_new_one() {
    for (epoch, ends) in [(0, true), (1, false)] {
        let now = Instant::now();
        let mut state = Watches::new(KIND, now);
        let watch = Watch::key("k").after(Revision::new(30)).of_epoch(epoch);
        state.on(Input::Add(1, watch), now, 0.5);
        state.on(Input::Opened, now, 0.5);
        replaced(&mut state, now);
        let actions = state.on(Input::Read(Ok(99)), now, 0.5);
        assert_eq!(last_error(&actions).is_some(), ends, "{actions:?}");
        assert_eq!(starts(&actions).is_empty(), ends, "{actions:?}");
    }
}

#[test]
fn a_paused_watch_of_a_store_that_was_replaced_is_not_resumed() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    state.on(Input::Full(1, 20), now, 0.5);
    state.on(Input::Add(2, Watch::key("x")), now, 0.5);
    replaced(&mut state, now);
    let actions = state.on(Input::Read(Ok(99)), now, 0.5);
    assert!(matches!(&actions[0], Action::Finish(1, error) if error.kind() == ErrorKind::Rewound));
}

#[test]
fn what_the_caller_knows_counts_before_the_watch_is_created() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(
        Input::Add(1, Watch::key("k").after(Revision::new(30))),
        now,
        0.5,
    );
    assert!(
        starts(&state.on(Input::Opened, now, 0.5)).is_empty(),
        "it reads first"
    );
    state.on(Input::Read(Ok(29)), now, 0.5);
    let actions = state.on(Input::Read(Ok(29)), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Rewound));
}

#[test]
fn a_start_in_the_future_is_not_a_rewind() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(
        Input::Add(1, Watch::key("k").start_revision(Revision::new(99))),
        now,
        0.5,
    );
    assert_eq!(starts(&state.on(Input::Opened, now, 0.5)), [99]);
    state.on(created(0, 10), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 10)), [99]);
}

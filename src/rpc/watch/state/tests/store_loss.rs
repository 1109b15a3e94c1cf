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
fn a_read_with_a_lower_revision_is_repeated_once() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[20], false), now, 0.5);
    state.on(Input::Ended(StreamEnd::Eof), now, 0.0);
    state.on(Input::Opened, now, 0.5);
    let actions = state.on(Input::Read(Ok(19)), now, 0.5);
    assert!(matches!(actions[..], [Action::Read(_)]));
    assert_eq!(starts(&state.on(Input::Read(Ok(20)), now, 0.5)), [21]);
}

#[test]
fn a_paused_watch_ends_when_the_read_of_another_watch_shows_a_rewind() {
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
fn a_replaced_store_ends_watches_even_at_a_higher_revision() {
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
fn a_watch_continues_in_a_replaced_store_only_with_a_revision_of_that_store() {
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
fn a_requested_revision_above_that_of_the_store_is_a_rewind() {
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

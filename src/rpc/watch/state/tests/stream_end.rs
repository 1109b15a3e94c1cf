//! Streams that end, and streams that are silent.

use super::*;

#[test]
fn a_watch_moves_away_from_a_member_without_a_leader() {
    let no_leader = ServerError::read(14, "etcdserver: no leader");
    for input in [
        canceled(0, false, "etcdserver: no leader"),
        Input::Ended(StreamEnd::Answer(no_leader)),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        let actions = state.on(input, now, 0.5);
        assert!(
            matches!(
                actions[..],
                [
                    Action::Down(1),
                    Action::Close(MemberCondition::Unable),
                    Action::Open
                ]
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn a_refused_stream_ends_every_watch() {
    let (mut state, now) = one_live(Watch::key("k"));
    let refused = ServerError::read(12, "unknown service");
    let actions = state.on(Input::Ended(StreamEnd::Answer(refused)), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Unimplemented));
    assert_eq!(state.deadline(), None);
}

#[test]
fn the_last_watch_closes_the_stream() {
    let (mut state, now) = one_live(Watch::key("k"));
    let actions = state.on(Input::Remove(1), now, 0.5);
    assert!(matches!(
        actions.last(),
        Some(Action::Close(MemberCondition::Healthy))
    ));
    assert_eq!(state.deadline(), None);
}

#[test]
fn a_silent_stream_is_checked_and_then_abandoned() {
    let (mut state, begun) = one_live(Watch::key("k"));
    // Without events, the watch would be created again after the first silence, with a time limit of its own.
    state.on(events(0, 11, &[11], false), begun, 0.5);
    let mut asked = Vec::new();
    loop {
        let due = state.deadline().expect("a deadline");
        let actions = state.on(Input::Tick, due, 0.5);
        if actions
            .iter()
            .any(|action| matches!(action, Action::Close(MemberCondition::Silent)))
        {
            assert_eq!(due, begun + Duration::from_secs(60));
            break;
        }
        if !actions.is_empty() {
            asked.push((due - begun).as_secs());
        }
    }
    assert_eq!(asked, [30, 40, 50]);
}

#[test]
fn a_tick_in_the_window_sends_the_progress_request_early() {
    for (after, asked) in [(19, false), (20, true), (29, true)] {
        let (mut state, begun) = one_live(Watch::key("k"));
        let from = state.tick_from().expect("a time");
        assert_eq!(from, begun + Duration::from_secs(20));
        assert_eq!(state.deadline(), Some(begun + Duration::from_secs(30)));
        let now = begun + Duration::from_secs(after);
        assert_eq!(
            !state.on(Input::Tick, now, 0.5).is_empty(),
            asked,
            "{after}"
        );
        // The next request is not early.
        let again = if asked { after + 10 } else { 30 };
        let again = begun + Duration::from_secs(again);
        assert_eq!(state.deadline(), Some(again));
        assert_eq!(state.tick_from() == Some(again), asked);
    }
}

#[test]
fn streams_to_a_server_that_ends_each_of_them_are_opened_at_a_bounded_rate() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    let (begun, mut opens) = (now, 0);
    while now < begun + Duration::from_secs(60) {
        let mut actions = state.on(Input::Ended(StreamEnd::Eof), now, 0.5);
        while !actions.iter().any(|action| matches!(action, Action::Open)) {
            now = state.deadline().expect("a time to try again");
            actions = state.on(Input::Tick, now, 0.5);
        }
        opens += 1;
        state.on(Input::Opened, now, 0.5);
        state.on(Input::Read(Ok(10)), now, 0.5);
        state.on(created(0, 10), now, 0.5);
    }
    assert!(opens <= 90, "{opens} streams in a minute");
}

#[test]
fn a_short_stream_that_delivered_an_event_resets_the_backoff() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    for revision in 11..40 {
        state.on(events(0, revision, &[revision], false), now, 0.5);
        let mut actions = state.on(Input::Ended(StreamEnd::Eof), now, 1.0);
        while !actions.iter().any(|action| matches!(action, Action::Open)) {
            let due = state.deadline().expect("a time to try again");
            assert!(due <= now + Duration::from_millis(50), "no longer wait");
            now = due;
            actions = state.on(Input::Tick, now, 1.0);
        }
        state.on(Input::Opened, now, 0.5);
        state.on(Input::Read(Ok(revision)), now, 0.5);
        state.on(created(0, revision), now, 0.5);
    }
}

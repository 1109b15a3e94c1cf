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

/// When a stream is closed for its silence, in whole seconds after `begun`, if it is within a time.
fn silent_after(state: &mut Watches, begun: Instant, within: u64) -> Option<u64> {
    // More steps than it has reasons to wake up.
    for _ in 0..1000 {
        let due = state.deadline()?;
        let after = (due - begun).as_secs();
        if after > within {
            return None;
        }
        let actions = state.on(Input::Tick, due, 0.0);
        let is_close = |action: &Action| matches!(action, Action::Close(MemberCondition::Silent));
        if actions.iter().any(is_close) {
            return Some(after);
        }
    }
    panic!("it wakes up all the time");
}

/// Opens the stream again, and creates the only watch, which has everything before the revision of the store.
fn created_again(state: &mut Watches, now: Instant) {
    state.on(Input::Opened, now, 0.5);
    state.on(Input::Read(Ok(12)), now, 0.5);
    state.on(created(0, 12), now, 0.5);
}

#[test]
fn a_server_that_never_answers_costs_one_stream_and_one_that_did_costs_one_more() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    state.on(events(0, 11, &[11], false), now, 0.5);
    assert_eq!(silent_after(&mut state, now, 300), Some(60));
    now += Duration::from_secs(60);
    created_again(&mut state, now);
    assert_eq!(silent_after(&mut state, now, 300), None);
    now += Duration::from_secs(300);
    state.on(events(-1, 12, &[], false), now, 0.5);
    assert_eq!(silent_after(&mut state, now, 300), Some(60));
    // It answered on that stream, so the next one is closed as well.
    now += Duration::from_secs(60);
    created_again(&mut state, now);
    assert_eq!(silent_after(&mut state, now, 300), Some(60));
}

/// The watches that are reported as up again.
fn ups(actions: &[Action]) -> Vec<u64> {
    let up = |action: &Action| match action {
        Action::Up(id) | Action::Deliver { id, up: true, .. } => Some(*id),
        _ => None,
    };
    actions.iter().filter_map(up).collect()
}

#[test]
fn a_watch_is_up_again_when_it_was_created_by_a_server_whose_progress_is_not_reliable() {
    for orders_progress in [true, false] {
        // The version is known before the watch is created, or after it.
        for is_known_first in [true, false] {
            let (mut state, now) = one_live(Watch::key("k"));
            reopened(&mut state, now, 20);
            let mut inputs = [Input::Version { orders_progress }, created(0, 20)];
            if !is_known_first {
                inputs.reverse();
            }
            let mut up = Vec::new();
            for input in inputs {
                up.extend(ups(&state.on(input, now, 0.5)));
            }
            assert_eq!(up.is_empty(), orders_progress);
            // Events that it missed are delivered, and it is not up a second time.
            let actions = state.on(events(0, 20, &[20], false), now, 0.5);
            assert_eq!(ups(&actions).is_empty(), !orders_progress);
        }
    }
}

#[test]
fn a_watch_counts_as_up_again_after_5_s_only_if_no_progress_is_answered() {
    for is_answered in [false, true] {
        let (mut state, begun) = one_live(Watch::key("k"));
        reopened(&mut state, begun, 20);
        state.on(created(0, 20), begun, 0.5);
        let orders_progress = true;
        state.on(Input::Version { orders_progress }, begun, 0.5);
        if is_answered {
            // The answer to a request from before the watch.
            state.on(Input::Progress(1), begun, 0.5);
            state.progress_requests.answered += 1;
        }
        let mut up = None;
        while let Some(due) = state.deadline()
            && due <= begun + Duration::from_secs(20)
        {
            if !ups(&state.on(Input::Tick, due, 0.5)).is_empty() {
                assert_eq!(up.replace((due - begun).as_secs()), None, "once");
            }
        }
        assert_eq!(up, (!is_answered).then_some(5));
    }
}

#[test]
fn a_stream_that_could_not_connect_is_tried_again_soon_and_one_that_was_refused_at_once() {
    let text = || "no".to_owned();
    for (end, waits) in [
        (StreamEnd::Unconnected(text()), true),
        (StreamEnd::TlsFailed(text()), true),
        (StreamEnd::Broken(text()), false),
        (StreamEnd::Eof, false),
    ] {
        let now = Instant::now();
        let mut state = Watches::new(KIND, now);
        state.on(Input::Add(1, Watch::key("k")), now, 0.5);
        let actions = state.on(Input::Ended(end), now, 0.5);
        let opens = |action: &Action| matches!(action, Action::Open);
        assert_eq!(actions.iter().any(opens), !waits, "{actions:?}");
        let soon = now + Duration::from_millis(20);
        assert_eq!(state.deadline(), waits.then_some(soon));
    }
}

//! Tests of the revision at which a watch resumes, and of progress.

use super::*;
use crate::rpc::namespace::Namespace;

#[test]
fn a_watch_resumes_after_its_last_event_and_not_after_the_header() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 500, &[11, 12], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 500)), [13]);
}

#[test]
fn progress_of_a_watch_moves_its_resume_revision() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 40, &[], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 40)), [41]);
}

#[test]
fn requested_progress_is_used_only_from_servers_that_order_it() {
    for (orders_progress, start) in [(true, 41), (false, 11)] {
        let (mut state, now) = one_live(Watch::key("k"));
        state.on(Input::Version { orders_progress }, now, 0.5);
        state.on(Input::Progress(1), now, 0.5);
        state.on(events(-1, 40, &[], false), now, 0.5);
        assert_eq!(starts(&reopened(&mut state, now, 40)), [start]);
    }
}

#[test]
fn a_late_progress_response_does_not_apply_to_a_newer_watch() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(Input::Progress(1), now, 0.5);
    // A watch of history that is created after the request; the answer comes after its creation.
    let history = Watch::key("k").start_revision(Revision::new(2));
    assert_eq!(starts(&state.on(Input::Add(2, history), now, 0.5)), [2]);
    state.on(created(1, 10), now, 0.5);
    state.on(events(-1, 10, &[], false), now, 0.5);
    let mut again = starts(&reopened(&mut state, now, 10));
    again.sort_unstable();
    assert_eq!(again, [2, 11]);
}

#[test]
fn a_late_progress_response_covers_a_newer_watch_if_the_store_has_grown_since() {
    for (start, revision, resumed) in [
        (2, 9, 2),
        (2, 10, 2),
        (9, 10, 9),
        (10, 10, 10),
        (11, 10, 11),
        (2, 12, 13),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        state.on(Input::Progress(1), now, 0.5);
        let newer = Watch::key("k").start_revision(Revision::new(start));
        state.on(Input::Add(2, newer), now, 0.5);
        state.on(created(1, 10), now, 0.5);
        state.on(events(-1, revision, &[], false), now, 0.5);
        let mut again = starts(&reopened(&mut state, now, 20));
        again.sort_unstable();
        let mut expected = [resumed, 11.max(revision + 1)];
        expected.sort_unstable();
        assert_eq!(again, expected, "{start} at {revision}");
    }
}

#[test]
fn a_progress_response_covers_the_watches_from_before_its_request() {
    let (mut state, now) = one_live(Watch::key("k"));
    let history = Watch::key("k").start_revision(Revision::new(5));
    state.on(Input::Add(2, history), now, 0.5);
    state.on(created(1, 10), now, 0.5);
    state.on(Input::Progress(1), now, 0.5);
    state.on(events(-1, 10, &[], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 10)), [11, 11]);
}

#[test]
fn progress_of_no_revision_of_the_store_changes_nothing() {
    for revision in [-1, 0, i64::MAX] {
        let (mut state, now) = one_live(Watch::key("k").progress_notify());
        let actions = state.on(events(0, revision, &[], false), now, 0.5);
        assert!(actions.is_empty(), "{actions:?}");
        assert_eq!(starts(&reopened(&mut state, now, i64::MAX)), [11]);
    }
}

// Fault: F28
#[test]
fn fragments_are_joined_and_discarded_with_their_stream() {
    let (mut state, now) = one_live(Watch::key("k"));
    assert!(
        state
            .on(events(0, 20, &[11, 12], true), now, 0.5)
            .is_empty()
    );
    let whole = state.on(events(0, 20, &[12, 13], false), now, 0.5);
    assert!(
        matches!(&whole[..], [Action::Deliver { response, .. }] if response.events().len() == 4)
    );
    state.on(events(0, 20, &[14], true), now, 0.5);
    // Progress between fragments does not cover them.
    state.on(events(0, 40, &[], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 40)), [14]);
    state.on(created(0, 40), now, 0.5);
    let again = state.on(events(0, 40, &[14], false), now, 0.5);
    assert!(
        matches!(&again[..], [Action::Deliver { response, .. }] if response.events().len() == 1)
    );
}

#[test]
fn a_watch_that_has_caught_up_answers_a_progress_request_with_a_read() {
    let (mut state, now) = one_live(Watch::key("k"));
    let actions = state.on(Input::Progress(1), now, 0.5);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Read(_)))
    );
    let actions = state.on(Input::Read(Ok(10)), now, 0.5);
    assert!(
        matches!(&actions[..], [Action::Deliver { response, .. }] if response.revision().get() == 10)
    );
    // A watch that has not caught up waits for the answer of the server.
    state.on(Input::Progress(1), now, 0.5);
    assert!(state.on(Input::Read(Ok(11)), now, 0.5).is_empty());
}

#[test]
fn events_in_a_namespace_are_delivered_without_its_prefix() {
    let namespace = Namespace::new("app/".into()).unwrap();
    let (mut state, now) = one_live(Watch::prefix("").within(&namespace));
    let message = WatchResponse {
        header: header(20),
        events: vec![event(11, "app/k"), event(12, "k")],
        ..Default::default()
    };
    let actions = state.on(Input::Message(message), now, 0.5);
    let [Action::Deliver { response, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    let keys: Vec<_> = response.events().iter().map(|event| event.key()).collect();
    assert_eq!(keys, ["k"]);
}

#[test]
fn events_outside_the_range_are_not_delivered() {
    let (mut state, now) = one_live(Watch::key("other"));
    assert!(state.on(events(0, 20, &[11], false), now, 0.5).is_empty());
}

// Fault: F35
#[test]
fn a_watch_created_after_unanswered_progress_requests_has_progress_soon_after_the_first_answer() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    state.on(events(0, 11, &[11], false), now, 0.5);
    let asked = |actions: &[Action]| {
        let is_progress = |action: &&Action| match action {
            Action::Send(request) => {
                matches!(
                    request.request_union,
                    Some(RequestUnion::ProgressRequest(_))
                )
            }
            _ => false,
        };
        actions.iter().filter(is_progress).count()
    };
    // The server answers none of them while a watch of the stream catches up.
    let mut unanswered = asked(&state.on(Input::Progress(1), now, 0.5));
    while unanswered < 5 {
        now = state.deadline().unwrap();
        unanswered += asked(&state.on(Input::Tick, now, 0.5));
    }
    let history = Watch::key("k").start_revision(Revision::new(2));
    state.on(Input::Add(2, history), now, 0.5);
    state.on(created(1, 11), now, 0.5);
    state.on(Input::Progress(2), now, 0.5);
    // From now on it answers each one at once. Nobody writes, so the revision is that of the creation.
    let (begun, mut answers) = (now, 0);
    loop {
        now = state.deadline().unwrap();
        if asked(&state.on(Input::Tick, now, 0.5)) == 0 {
            continue;
        }
        answers += 1;
        let actions = state.on(events(-1, 11, &[], false), now, 0.5);
        let delivered = |action: &Action| matches!(action, Action::Deliver { id: 2, .. });
        if actions.iter().any(delivered) {
            break;
        }
    }
    assert_eq!(answers, 6, "an answer more than there were requests");
    let took = now - begun;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

//! Tests of the revision at which a watch resumes, and of progress.

use super::*;

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
    assert_eq!(starts(&reopened(&mut state, now, 20)), [14]);
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

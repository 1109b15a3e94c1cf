//! Creating and cancelling watches, and the reads before that.

use super::*;
use crate::types::key_range::KeyRange;

#[test]
fn the_watch_id_of_a_refused_create_is_ignored() {
    for wire in [-1, 0] {
        let (mut state, now) = one_live(Watch::key("k"));
        state.on(
            Input::Add(2, Watch::key("x").start_revision(Revision::new(5))),
            now,
            0.5,
        );
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        let actions = state.on(canceled(wire, true, reason), now, 0.5);
        assert!(
            matches!(&actions[..], [Action::Finish(2, error)] if error.kind() == ErrorKind::PermissionDenied)
        );
        let actions = state.on(events(0, 11, &[11], false), now, 0.5);
        assert!(matches!(&actions[..], [Action::Deliver { id: 1, .. }]));
    }
}

#[test]
fn each_mark_of_a_refusal_is_enough() {
    for (canceled, watch_id, reason) in [(true, 5, ""), (false, -1, ""), (false, 5, "no")] {
        let (mut state, now) = one_live(Watch::key("k"));
        let watch = Watch::key("x").start_revision(Revision::new(5));
        state.on(Input::Add(2, watch), now, 0.5);
        let refusal = Input::Message(WatchResponse {
            header: header(10),
            watch_id,
            created: true,
            canceled,
            cancel_reason: reason.into(),
            ..Default::default()
        });
        let actions = state.on(refusal, now, 0.5);
        assert!(matches!(actions[..], [Action::Finish(2, _)]), "{actions:?}");
    }
}

#[test]
fn cancel_reasons_are_mapped_to_error_kinds() {
    for (reason, kind) in [
        ("mvcc: watcher range is empty", ErrorKind::InvalidArgument),
        (
            "mvcc: required revision has been compacted",
            ErrorKind::Compacted,
        ),
        ("", ErrorKind::Server),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        assert_eq!(
            last_error(&state.on(canceled(0, false, reason), now, 0.5)),
            Some(kind)
        );
    }
}

// Fault: W12
#[test]
fn a_watch_that_ended_by_a_compaction_is_cancelled() {
    let (mut state, now) = one_live(Watch::key("k"));
    let message = WatchResponse {
        watch_id: 0,
        compact_revision: 9,
        header: header(20),
        ..Default::default()
    };
    let actions = state.on(Input::Message(message), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Compacted));
    assert_eq!(cancels(&actions), [0]);
    // The answer is to no other watch.
    assert!(state.on(canceled(0, false, ""), now, 0.5).is_empty());
}

#[test]
fn a_watch_cancelled_while_it_is_created_is_cancelled_when_it_is() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(
        Input::Add(2, Watch::key("x").start_revision(Revision::new(5))),
        now,
        0.5,
    );
    assert!(state.on(Input::Remove(2), now, 0.5).is_empty());
    let actions = state.on(created(7, 10), now, 0.5);
    assert_eq!((cancels(&actions), actions.len()), (vec![7], 1));
}

#[test]
fn an_unknown_watch_is_cancelled_once() {
    let (mut state, now) = one_live(Watch::key("k"));
    assert_eq!(
        cancels(&state.on(events(5, 11, &[11], false), now, 0.5)),
        [5]
    );
    assert!(state.on(events(5, 12, &[12], false), now, 0.5).is_empty());
}

#[test]
fn creates_are_pipelined_up_to_a_limit_and_answered_in_order() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    for id in 0..700 {
        state.on(
            Input::Add(id, Watch::key("k").start_revision(Revision::new(1))),
            now,
            0.5,
        );
    }
    assert_eq!(starts(&state.on(Input::Opened, now, 0.5)).len(), 500);
    for id in 0..700 {
        let actions = state.on(created(id as i64, 1), now, 0.5);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Created(of) if *of == id))
        );
    }
}

#[test]
fn watches_share_a_read_that_was_sent_after_they_were_added() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(Input::Add(1, Watch::key("a")), now, 0.5);
    state.on(Input::Opened, now, 0.5);
    state.on(Input::Add(2, Watch::key("b")), now, 0.5);
    state.on(Input::Add(3, Watch::key("c")), now, 0.5);
    let actions = state.on(Input::Read(Ok(7)), now, 0.5);
    assert_eq!(starts(&actions), [8], "{actions:?}");
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Read(_)))
    );
    assert_eq!(starts(&state.on(Input::Read(Ok(9)), now, 0.5)), [10, 10]);
}

#[test]
fn a_denied_read_ends_only_its_own_watch() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(Input::Add(1, Watch::key("a")), now, 0.5);
    state.on(Input::Add(2, Watch::key("b")), now, 0.5);
    state.on(Input::Opened, now, 0.5);
    let denied = ServerError::read(7, "etcdserver: permission denied");
    let actions = state.on(Input::Read(Err(StreamEnd::Answer(denied))), now, 0.5);
    assert!(matches!(&actions[..], [Action::Finish(1, _), Action::Read(key)] if key == "b"));
}

#[test]
fn a_read_that_fails_for_another_reason_ends_the_stream_and_no_watch() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(Input::Add(1, Watch::key("a")), now, 0.5);
    state.on(Input::Opened, now, 0.5);
    let failed = StreamEnd::Answer(ServerError::read(14, "etcdserver: no leader"));
    let actions = state.on(Input::Read(Err(failed)), now, 0.5);
    assert!(
        matches!(actions[..], [Action::Close(_), Action::Open]),
        "{actions:?}"
    );
}

#[test]
fn a_watch_that_pauses_during_its_read_is_not_created() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 20, &[11, 12], false), now, 0.5);
    state.on(Input::Ended(StreamEnd::Eof), now, 0.0);
    state.on(Input::Opened, now, 0.5);
    state.on(Input::Full(1, 12), now, 0.5);
    let actions = state.on(Input::Read(Ok(20)), now, 0.5);
    assert!(actions.is_empty(), "{actions:?}");
    // With room it is read for again.
    let actions = state.on(Input::Room(1), now, 0.5);
    assert!(matches!(actions[..], [Action::Read(_)]), "{actions:?}");
    assert_eq!(starts(&state.on(Input::Read(Ok(20)), now, 0.5)), [12]);
}

#[test]
fn an_unanswered_create_abandons_the_stream() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(
        Input::Add(1, Watch::key("a").start_revision(Revision::new(1))),
        now,
        0.5,
    );
    state.on(Input::Opened, now, 0.5);
    let due = state.deadline().expect("a deadline");
    assert_eq!(due, now + Duration::from_secs(10));
    let actions = state.on(Input::Tick, due, 0.5);
    assert!(
        matches!(
            actions[..],
            [Action::Close(MemberCondition::Silent), Action::Open]
        ),
        "{actions:?}"
    );
}

#[test]
fn an_answer_to_a_create_may_wait_behind_a_long_message() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    let watch = Watch::key("a").start_revision(Revision::new(1));
    state.on(Input::Add(1, watch), now, 0.5);
    state.on(Input::Opened, now, 0.5);
    for seconds in [9, 18, 27] {
        let now = now + Duration::from_secs(seconds);
        assert!(state.on(Input::Arriving, now, 0.5).is_empty());
        assert_eq!(state.deadline(), Some(now + Duration::from_secs(10)));
    }
    let due = state.deadline().expect("a deadline");
    let actions = state.on(Input::Tick, due, 0.5);
    assert!(matches!(
        actions[..],
        [Action::Close(MemberCondition::Silent), Action::Open]
    ));
}

#[test]
fn a_create_refused_as_too_large_ends_only_the_watch_with_the_longest_range() {
    let key = |key: &str| KeyRange::key(key.to_owned());
    let range = |start: &str, end: &str| KeyRange::range(start.to_owned(), end.to_owned());
    for (short, long) in [
        (key("short"), key(&"long".repeat(99))),
        // By the sum of both parts.
        (range("aaaa", "bbbb"), key("aaaaaaaaaaaa")),
        (range("aaaa", "bbbb"), range("a", "bbbbbbbbb")),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        for (id, range) in [(2, &short), (3, &long), (4, &short)] {
            let watch = Watch::range(range.clone()).start_revision(Revision::new(5));
            state.on(Input::Add(id, watch), now, 0.5);
        }
        let refused = ServerError::read(8, "grpc: received message larger than max (9 vs. 4)");
        let actions = state.on(Input::Ended(StreamEnd::Answer(refused)), now, 0.0);
        let ended = actions.iter().filter_map(|action| match action {
            Action::Finish(id, error) => Some((*id, error.kind())),
            _ => None,
        });
        assert!(ended.eq([(3, ErrorKind::TooLarge)]), "{actions:?}");
    }
}

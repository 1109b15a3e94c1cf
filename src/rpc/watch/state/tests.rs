//! The state against single messages.

mod histories;
pub(super) mod model;
mod tokens;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Action, Doubt, Ending, Input, Kind, Watches};
use crate::error::{ErrorKind, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::grpc::etcd_rs_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::rpc::watch::request::Watch;
use crate::rpc::watch::state::tests::model::event;
use crate::types::Revision;

const KIND: Kind = Kind {
    fragments: false,
    limit: 1 << 20,
};

/// A state with one watch that is created, as wire id 0, on a stream at revision 10.
fn one_live(watch: Watch) -> (Watches, Instant) {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    assert!(matches!(
        state.on(Input::Add(1, watch), now, 0.5)[..],
        [Action::Open]
    ));
    state.on(Input::Opened, now, 0.5);
    state.on(
        Input::Version {
            orders_progress: true,
        },
        now,
        0.5,
    );
    state.on(Input::Read(Ok(10)), now, 0.5);
    let actions = state.on(created(0, 10), now, 0.5);
    assert!(matches!(actions[..], [Action::Created(1)]), "{actions:?}");
    (state, now)
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

fn created(watch_id: i64, revision: i64) -> Input {
    Input::Message(WatchResponse {
        header: header(revision),
        watch_id,
        created: true,
        ..Default::default()
    })
}

fn canceled(watch_id: i64, created: bool, reason: &str) -> Input {
    Input::Message(WatchResponse {
        header: header(10),
        watch_id,
        created,
        canceled: true,
        cancel_reason: reason.into(),
        ..Default::default()
    })
}

fn events(watch_id: i64, revision: i64, revisions: &[i64], fragment: bool) -> Input {
    Input::Message(WatchResponse {
        header: header(revision),
        watch_id,
        fragment,
        events: revisions
            .iter()
            .map(|revision| event(*revision, "k"))
            .collect(),
        ..Default::default()
    })
}

/// The start revisions of the create requests among `actions`.
fn starts(actions: &[Action]) -> Vec<i64> {
    let start = |action: &Action| match action {
        Action::Send(request) => match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(create.start_revision),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn cancels(actions: &[Action]) -> Vec<i64> {
    let wire = |action: &Action| match action {
        Action::Send(request) => match &request.request_union {
            Some(RequestUnion::CancelRequest(cancel)) => Some(cancel.watch_id),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(wire).collect()
}

fn last_error(actions: &[Action]) -> Option<ErrorKind> {
    actions.iter().find_map(|action| match action {
        Action::Finish(_, error) => Some(error.kind()),
        _ => None,
    })
}

/// Cuts the stream, and opens another on a store at `revision`; returns what is then sent.
fn reopened(state: &mut Watches, now: Instant, revision: i64) -> Vec<Action> {
    let mut actions = state.on(Input::Ended(Ending::Eof), now, 0.0);
    assert!(
        matches!(actions.last(), Some(Action::Open)),
        "the first retry is at once"
    );
    actions = state.on(Input::Opened, now, 0.0);
    assert!(matches!(actions[..], [Action::Read(_)]));
    actions = state.on(Input::Read(Ok(revision)), now, 0.0);
    if let [Action::Read(_)] = actions[..] {
        actions = state.on(Input::Read(Ok(revision)), now, 0.0);
    }
    actions
}

#[test]
fn a_watch_resumes_after_its_last_event_and_not_after_the_header() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 500, &[11, 12], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 500)), [13]);
}

#[test]
fn progress_of_the_watch_itself_moves_its_point() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 40, &[], false), now, 0.5);
    assert_eq!(starts(&reopened(&mut state, now, 40)), [41]);
}

#[test]
fn requested_progress_counts_only_from_servers_that_order_it() {
    for (orders_progress, start) in [(true, 41), (false, 11)] {
        let (mut state, now) = one_live(Watch::key("k"));
        state.on(Input::Version { orders_progress }, now, 0.5);
        state.on(Input::Progress(1), now, 0.5);
        state.on(events(-1, 40, &[], false), now, 0.5);
        assert_eq!(starts(&reopened(&mut state, now, 40)), [start]);
    }
}

#[test]
fn a_late_answer_to_an_older_question_says_nothing_about_a_newer_watch() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(Input::Progress(1), now, 0.5);
    // A watch of history, created after the question; the answer comes after its creation.
    let history = Watch::key("k").start_revision(Revision::new(2));
    assert_eq!(starts(&state.on(Input::Add(2, history), now, 0.5)), [2]);
    state.on(created(1, 10), now, 0.5);
    state.on(events(-1, 10, &[], false), now, 0.5);
    let mut again = starts(&reopened(&mut state, now, 10));
    again.sort_unstable();
    assert_eq!(again, [2, 11]);
}

#[test]
fn fragments_are_one_item_and_end_with_their_stream() {
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
    state.on(Input::Ended(Ending::Eof), now, 0.0);
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

/// Tells the state that the store was replaced.
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
    state.on(Input::Ended(Ending::Eof), now, 0.0);
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
    // Once: what follows the new store goes on.
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
fn a_quiet_watch_at_the_end_of_the_store_answers_for_itself() {
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
    // WatchEntry that is behind waits for the word of the server.
    state.on(Input::Progress(1), now, 0.5);
    assert!(state.on(Input::Read(Ok(11)), now, 0.5).is_empty());
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

#[test]
fn a_refusal_names_no_watch_whatever_id_it_carries() {
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
fn reasons_have_kinds() {
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

#[test]
fn a_member_without_a_leader_is_left_and_the_watch_lives() {
    let no_leader = ServerError::read(14, "etcdserver: no leader");
    for input in [
        canceled(0, false, "etcdserver: no leader"),
        Input::Ended(Ending::Answer(no_leader)),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        let actions = state.on(input, now, 0.5);
        assert!(
            matches!(
                actions[..],
                [Action::Down(1), Action::Close(Doubt::Unable), Action::Open]
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn a_refused_stream_ends_every_watch() {
    let (mut state, now) = one_live(Watch::key("k"));
    let refused = ServerError::read(12, "unknown service");
    let actions = state.on(Input::Ended(Ending::Answer(refused)), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Unimplemented));
    assert_eq!(state.deadline(), None);
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
fn the_last_watch_closes_the_stream() {
    let (mut state, now) = one_live(Watch::key("k"));
    let actions = state.on(Input::Remove(1), now, 0.5);
    assert!(matches!(actions.last(), Some(Action::Close(Doubt::None))));
    assert_eq!(state.deadline(), None);
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
fn watches_share_a_read_that_began_after_they_were_asked_for() {
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
fn a_forbidden_read_ends_only_the_watch_it_was_for() {
    let now = Instant::now();
    let mut state = Watches::new(KIND, now);
    state.on(Input::Add(1, Watch::key("a")), now, 0.5);
    state.on(Input::Add(2, Watch::key("b")), now, 0.5);
    state.on(Input::Opened, now, 0.5);
    let denied = ServerError::read(7, "etcdserver: permission denied");
    let actions = state.on(Input::Read(Err(Ending::Answer(denied))), now, 0.5);
    assert!(matches!(&actions[..], [Action::Finish(1, _), Action::Read(key)] if key == "b"));
}

#[test]
fn a_create_without_an_answer_gives_the_stream_up() {
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
        matches!(actions[..], [Action::Close(Doubt::Silent), Action::Open]),
        "{actions:?}"
    );
}

#[test]
fn a_silent_stream_is_asked_and_then_given_up() {
    let (mut state, begun) = one_live(Watch::key("k"));
    let mut asked = 0;
    loop {
        let due = state.deadline().expect("a deadline");
        let actions = state.on(Input::Tick, due, 0.5);
        if actions
            .iter()
            .any(|action| matches!(action, Action::Close(Doubt::Silent)))
        {
            assert_eq!(due, begun + Duration::from_secs(60));
            break;
        }
        asked += actions.len();
    }
    assert!((4..=6).contains(&asked), "{asked}");
}

#[test]
fn a_server_that_breaks_every_stream_is_not_stormed() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    let (begun, mut opens) = (now, 0);
    while now < begun + Duration::from_secs(60) {
        let mut actions = state.on(Input::Ended(Ending::Eof), now, 0.5);
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
fn streams_that_deliver_have_worked_however_short_they_are() {
    let (mut state, mut now) = one_live(Watch::key("k"));
    for revision in 11..40 {
        state.on(events(0, revision, &[revision], false), now, 0.5);
        let mut actions = state.on(Input::Ended(Ending::Eof), now, 1.0);
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
        [Action::Close(Doubt::Silent), Action::Open]
    ));
}

#[test]
fn a_create_that_the_server_finds_too_large_ends_only_the_longest() {
    let (mut state, now) = one_live(Watch::key("k"));
    for (id, key) in [(2, "short".to_owned()), (3, "long".repeat(99))] {
        let watch = Watch::key(key).start_revision(Revision::new(5));
        state.on(Input::Add(id, watch), now, 0.5);
    }
    let refused = ServerError::read(8, "grpc: received message larger than max (9 vs. 4)");
    let actions = state.on(Input::Ended(Ending::Answer(refused)), now, 0.0);
    let ended = actions.iter().filter_map(|action| match action {
        Action::Finish(id, error) => Some((*id, error.kind())),
        _ => None,
    });
    assert!(ended.eq([(3, ErrorKind::TooLarge)]), "{actions:?}");
}

#[test]
fn streams_that_make_no_sense_are_given_up() {
    let nonsense = [
        created(3, 10),
        events(0, 20, &[0], false),
        events(0, 20, &[-4], false),
        events(0, 20, &[13, 12], false),
        Input::Message(WatchResponse {
            events: vec![Default::default()],
            ..Default::default()
        }),
    ];
    for input in nonsense {
        let (mut state, now) = one_live(Watch::key("k"));
        let actions = state.on(input, now, 0.5);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Close(_))),
            "{actions:?}"
        );
    }
}

#[test]
fn events_outside_the_range_are_not_delivered() {
    let (mut state, now) = one_live(Watch::key("other"));
    assert!(state.on(events(0, 20, &[11], false), now, 0.5).is_empty());
}

fn any_message() -> impl Strategy<Value = WatchResponse> {
    let number = || prop_oneof![-2i64..6, any::<i64>()];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let reason = prop_oneof![Just(""), Just("etcdserver: no leader"), Just("x")];
    let list = prop::collection::vec(prop_oneof![1i64..20, any::<i64>()], 0..4);
    (number(), number(), flags, number(), reason, list).prop_map(
        |(watch_id, revision, (created, canceled, fragment, headed), compact, reason, list)| {
            WatchResponse {
                header: headed.then(|| header(revision)).flatten(),
                watch_id,
                created,
                canceled: canceled && created,
                compact_revision: if canceled { compact } else { 0 },
                cancel_reason: reason.into(),
                fragment,
                events: list
                    .into_iter()
                    .map(|revision| event(revision, "k"))
                    .collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn no_message_makes_it_panic_or_deliver_out_of_order(
        messages in prop::collection::vec(any_message(), 1..40),
    ) {
        let (mut state, mut now) = one_live(Watch::key("k"));
        let mut told = 0;
        for message in messages {
            now += Duration::from_millis(700);
            let mut inputs = vec![Input::Message(message)];
            while let Some(input) = inputs.pop() {
                for action in state.on(input, now, 0.5) {
                    match action {
                        Action::Open => inputs.push(Input::Opened),
                        Action::Read(_) => inputs.push(Input::Read(Ok(i64::MAX))),
                        Action::Deliver { id: 1, response, .. } => {
                            prop_assert!(response.revision().get() >= told);
                            told = response.revision().get();
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

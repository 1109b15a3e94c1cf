//! Tokens that expire while a stream is open.

use super::*;
use crate::error::{RetryHint, TokenRejection};

const INVALID: &str = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

/// Adds a second watch, with id 2.
fn one_more(state: &mut Watches, now: Instant) {
    let watch = Watch::key("x").start_revision(Revision::new(5));
    let actions = state.on(Input::Add(2, watch), now, 0.5);
    assert!(matches!(actions[..], [Action::Send(_)]), "{actions:?}");
}

fn rejection(action: &Action) -> Option<TokenRejection> {
    match action {
        Action::RenewToken(refused) => match refused.retry_hint {
            RetryHint::NewToken(rejection) => Some(rejection),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn a_refused_token_moves_all_watches_to_a_stream_with_a_new_token() {
    for (reason, why) in [
        (INVALID, TokenRejection::Invalid),
        (
            "etcdserver: revision of auth store is old",
            TokenRejection::Old,
        ),
        ("etcdserver: user name is empty", TokenRejection::Missing),
    ] {
        let (mut state, now) = one_live(Watch::key("k"));
        one_more(&mut state, now);
        let actions = state.on(canceled(-1, true, reason), now, 0.5);
        assert!(
            matches!(
                &actions[..],
                [Action::Down(1), renew, Action::Close(MemberCondition::Healthy), Action::Open]
                    if rejection(renew) == Some(why)
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn a_running_watch_resumes_after_the_loss_of_its_token() {
    let (mut state, now) = one_live(Watch::key("k"));
    let actions = state.on(canceled(0, false, INVALID), now, 0.5);
    assert_eq!(rejection(&actions[1]), Some(TokenRejection::Invalid));
    let (mut state, now) = one_live(Watch::key("k"));
    let ended = StreamEnd::Answer(ServerError::read(16, "etcdserver: invalid auth token"));
    let actions = state.on(Input::Ended(ended), now, 0.5);
    assert_eq!(rejection(&actions[1]), Some(TokenRejection::Invalid));
}

#[test]
fn every_watch_ends_when_no_new_token_can_be_obtained() {
    let (mut state, now) = one_live(Watch::key("k"));
    let actions = state.on(canceled(0, false, INVALID), now, 0.5);
    assert!(matches!(actions.last(), Some(Action::Open)));
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let refused = StreamEnd::Answer(ServerError::read(3, text));
    let actions = state.on(Input::Ended(refused), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Unauthenticated));
    assert_eq!(state.deadline(), None);
}

#[test]
fn watches_end_when_a_refused_token_cannot_be_replaced() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(canceled(0, false, INVALID), now, 0.5);
    let refused = StreamEnd::Answer(ServerError::read(16, "etcdserver: invalid auth token"));
    let actions = state.on(Input::Ended(refused), now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Unauthenticated));
}

#[test]
fn watches_end_after_many_refused_tokens() {
    let (mut state, begun) = one_live(Watch::key("k"));
    let mut now = begun;
    let mut actions = state.on(canceled(0, false, INVALID), now, 1.0);
    let mut refusals = 1;
    while last_error(&actions).is_none() {
        if let Some(due) = state.deadline() {
            now = now.max(due);
            state.on(Input::Tick, now, 1.0);
        }
        state.on(Input::Opened, now, 1.0);
        let refused = ServerError::read(16, "etcdserver: invalid auth token");
        actions = state.on(Input::Ended(StreamEnd::Answer(refused)), now, 1.0);
        refusals += 1;
        assert!(refusals < 100, "it goes on for ever");
    }
    assert_eq!(last_error(&actions), Some(ErrorKind::Unauthenticated));
    assert!((6..30).contains(&refusals), "{refusals}");
    assert!(now - begun >= Duration::from_secs(10));
}

#[test]
fn a_denied_watch_ends_at_once_unless_the_token_may_be_the_reason() {
    for orders_progress in [true, false] {
        let (mut state, now) = one_live(Watch::key("k"));
        state.on(Input::Version { orders_progress }, now, 0.5);
        one_more(&mut state, now);
        let actions = state.on(canceled(0, true, DENIED), now, 0.5);
        if orders_progress {
            assert!(
                matches!(&actions[..], [Action::Finish(2, _)]),
                "{actions:?}"
            );
            continue;
        }
        assert_eq!(rejection(&actions[1]), Some(TokenRejection::Denied));
        state.on(Input::Opened, now, 0.5);
        state.on(Input::Version { orders_progress }, now, 0.5);
        state.on(Input::Read(Ok(10)), now, 0.5);
        // It is created first: its start revision needs no read.
        let actions = state.on(canceled(0, true, DENIED), now, 0.5);
        let denied = matches!(&actions[..], [Action::Finish(2, error)] if error.kind() == ErrorKind::PermissionDenied);
        assert!(denied, "{actions:?}");
    }
}

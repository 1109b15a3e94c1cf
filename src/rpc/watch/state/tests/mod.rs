//! The state machine against single messages, and against a model.

mod ahead;
mod create;
mod histories;
mod hostile;
mod large;
pub(super) mod model;
mod resume;
mod store_loss;
mod stream_end;
mod tokens;

use std::time::{Duration, Instant};

use super::watches::{StreamKind, Watches};
use super::{Action, Input, StreamEnd};
use crate::error::{ErrorKind, ServerError};
use crate::grpc::MemberCondition;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::grpc::etcd_rs_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::rpc::watch::state::tests::model::event;
use crate::rpc::watch::watch_request::Watch;
use crate::types::Revision;

const KIND: StreamKind = StreamKind {
    fragments: false,
    limit: 1 << 20,
};

/// A state with one watch that the server created with id 0 on a stream at revision 10.
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

/// Ends the stream and opens another one to a store at `revision`; returns the actions.
fn reopened(state: &mut Watches, now: Instant, revision: i64) -> Vec<Action> {
    let mut actions = state.on(Input::Ended(StreamEnd::Eof), now, 0.0);
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

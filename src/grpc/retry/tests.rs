//! Every failure, in every request class.

use super::RequestClass::{Forwarded, Repeatable, Write};
use super::*;
use crate::error::{ServerError, all_messages};
use crate::grpc::connect::connect_error::ConnectError;

fn read(text: &str) -> AttemptFailure {
    AttemptFailure::Status(ServerError::read(2, text))
}

fn broken(sent: RequestSent) -> AttemptFailure {
    AttemptFailure::Broken(ConnectError {
        sent,
        kind: ErrorKind::Unavailable,
        hung_up: false,
        text: String::new(),
    })
}

/// Temporary, and returned before the request is executed: writes are repeated too.
const PASSING: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: rpc not supported for learner",
    "etcdserver: too many requests",
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
    "raft proposal dropped",
];

/// Temporary, but not a proof: reads are repeated, and writes have an unknown outcome.
const DOUBTFUL: &[&str] = &[
    "etcdserver: watch canceled",
    "etcdserver: leader changed",
    "etcdserver: server stopped",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: request timed out, waiting for the applied index took too long",
    "raft: stopped",
    "not a primary lessor",
    "lost watcher waiting for delete",
];

/// Permanent, and not a proof.
const FINAL_AND_DOUBTFUL: &[&str] = &[
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: can only promote a learner member",
    "etcdserver: request timed out, leader transfer took too long",
    "etcdserver: request canceled",
    "etcdserver: context deadline exceeded",
    "context canceled",
];

#[test]
fn every_error_of_etcd_has_a_decision_in_every_class() {
    let mut seen = 0;
    for message in all_messages() {
        let text = message.to_string();
        let listed = |list: &[&str]| list.contains(&text.as_str());
        let (retried, proven) = match () {
            () if listed(PASSING) => (true, true),
            () if listed(DOUBTFUL) => (true, false),
            () if listed(FINAL_AND_DOUBTFUL) => (false, false),
            () => (false, true),
        };
        seen += usize::from(retried || !proven);
        let decision = |class| {
            let decision = decide(&read(&text), class);
            (decision.retry, decision.maybe_executed)
        };
        assert_eq!(decision(Repeatable), (retried, false), "{text}");
        assert_eq!(decision(Write), (retried && proven, !proven), "{text}");
        let forwarded = proven && text != "etcdserver: no leader";
        assert_eq!(
            decision(Forwarded),
            (retried && forwarded, !forwarded),
            "{text}"
        );
    }
    let listed = PASSING.len() + DOUBTFUL.len() + FINAL_AND_DOUBTFUL.len();
    assert_eq!(seen, listed, "a text of these lists is none of etcd's");
}

#[test]
fn a_transport_failure_is_repeated_unless_the_request_may_have_been_executed() {
    let proven = [
        AttemptFailure::NoConnection(ConnectError::unconnected("")),
        broken(RequestSent::No),
    ];
    for failure in &proven {
        for class in [Repeatable, Write, Forwarded] {
            let decision = decide(failure, class);
            assert!(decision.retry && !decision.maybe_executed, "{failure:?}");
        }
    }
    for failure in [broken(RequestSent::Maybe), AttemptFailure::Silence] {
        assert!(decide(&failure, Repeatable).retry, "{failure:?}");
        for class in [Write, Forwarded] {
            let decision = decide(&failure, class);
            assert!(!decision.retry && decision.maybe_executed, "{failure:?}");
        }
    }
}

#[test]
fn a_code_alone_is_no_proof() {
    for code in 1..=16 {
        let failure = AttemptFailure::Status(ServerError::read(code, "said by a proxy"));
        assert!(decide(&failure, Write).maybe_executed, "{code}");
        assert!(!decide(&failure, Write).retry, "{code}");
    }
}

#[test]
fn a_tls_failure_is_not_repeated() {
    for class in [Repeatable, Write, Forwarded] {
        let decision = decide(
            &AttemptFailure::NoConnection(ConnectError::tls("expired")),
            class,
        );
        assert!(!decision.retry && !decision.maybe_executed);
    }
}

//! The interpretation of etcd's texts and of other texts.

use super::*;

#[test]
fn the_message_decides_the_kind_and_not_the_code() {
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    for code in [2, 11, 14] {
        assert_eq!(ServerError::read(code, compacted).kind, Compacted);
    }
    assert_eq!(ServerError::read(11, "something else").kind, Server);
}

#[test]
fn a_method_that_the_server_does_not_have_was_not_executed() {
    let unknown = ServerError::read(12, "unknown service etcdserverpb.Lease");
    assert_eq!((unknown.kind, unknown.executed), (Unimplemented, No));
    let unknown = ServerError::read(12, "not here");
    assert_eq!((unknown.kind, unknown.executed), (Unimplemented, Unknown));
}

#[test]
fn a_status_inside_a_text_is_recognised_by_its_description() {
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(ServerError::read(2, reason).kind, PermissionDenied);
}

#[test]
fn all_token_failures_request_a_new_token_and_prove_that_nothing_was_executed() {
    for (text, rejection) in [
        ("etcdserver: invalid auth token", TokenRejection::Invalid),
        (
            "etcdserver: revision of auth store is old",
            TokenRejection::Old,
        ),
        ("etcdserver: user name is empty", TokenRejection::Missing),
        ("auth: invalid auth token", TokenRejection::Invalid),
        ("auth: revision in header is old", TokenRejection::Old),
        ("auth: user name is empty", TokenRejection::Missing),
    ] {
        let error = ServerError::read(2, text);
        assert_eq!(
            (error.kind, error.executed),
            (Unauthenticated, No),
            "{text}"
        );
        assert_eq!(error.retry_hint, RetryHint::NewToken(rejection), "{text}");
    }
}

#[test]
fn a_wrong_password_is_not_retried() {
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let error = ServerError::read(3, text);
    assert_eq!(
        (error.kind, error.retry_hint),
        (Unauthenticated, RetryHint::None)
    );
}

#[test]
fn a_learner_is_recognised_with_both_codes() {
    for code in [9, 14] {
        let error = ServerError::read(code, "etcdserver: rpc not supported for learner");
        assert_eq!((error.retry_hint, error.executed), (RetryHint::Learner, No));
    }
}

#[test]
fn an_error_is_a_proof_only_if_etcd_never_returns_it_after_execution() {
    let executed = |text: &str| ServerError::read(14, &format!("etcdserver: {text}")).executed;
    assert_eq!(executed("no leader"), No);
    assert_eq!(executed("too many requests"), No);
    assert_eq!(executed("request timed out"), Unknown);
    assert_eq!(executed("leader changed"), Unknown);
    assert_eq!(executed("server stopped"), Unknown);
    assert_eq!(executed("mvcc: database space exceeded"), Unknown);
    assert_eq!(executed("corrupt cluster"), No);
}

#[test]
fn errors_of_the_servers_lock_and_election_services_are_recognised() {
    for text in ["election: not leader", "election: no leader"] {
        assert_eq!(ServerError::read(2, text).kind, NotFound);
    }
    let expired = ServerError::read(2, "mutex: session is expired");
    assert_eq!(expired.kind, LeaseExpired);
}

#[test]
fn a_server_text_is_truncated_and_escaped() {
    let error = ServerError::read(2, &"\u{1b}[2J\u{202e}".repeat(1000));
    assert!(error.text.len() < 1100, "{}", error.text.len());
    assert!(!error.text.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn the_code_is_the_kind_of_an_unknown_text() {
    for (code, kind) in [
        (2, Server),
        (3, InvalidArgument),
        (4, Timeout),
        (5, NotFound),
        (6, AlreadyExists),
        (7, PermissionDenied),
        (8, RateLimited),
        (9, FailedPrecondition),
        (12, Unimplemented),
        (14, Unavailable),
        (16, Unauthenticated),
    ] {
        let error = ServerError::read(code, "a proxy says no");
        assert_eq!((error.kind, error.executed), (kind, Unknown), "{code}");
    }
    let large = ServerError::read(8, "grpc: received message larger than max (5 vs. 4)");
    assert_eq!((large.kind, large.executed), (TooLarge, No));
}

#[test]
fn disabled_authentication_is_recognised_by_kind_and_text() {
    let disabled = ServerError::read(9, "etcdserver: authentication is not enabled");
    assert!(disabled.is_auth_disabled());
    let other = ServerError::read(9, "a proxy says no");
    assert_eq!(other.kind, FailedPrecondition);
    assert!(!other.is_auth_disabled());
    let of_another_kind = ServerError::read(14, "here, authentication is not enabled");
    assert!(!of_another_kind.is_auth_disabled());
}

#[test]
fn only_a_status_is_removed_from_a_text() {
    let text = "no desc = etcdserver: permission denied";
    let error = ServerError::read(2, text);
    assert_eq!((error.kind, error.text.as_str()), (Server, text));
}

//! The error texts of etcd: the kind of each, and whether the request may have been executed.
//!
//! The third column follows from the place where etcd returns the error (`server/etcdserver`, 3.4
//! to 3.7). A write passes the interceptors and checks of the API, is proposed to consensus, and is
//! applied by the member that received it. An error before the proposal proves that nothing was
//! executed. So does an error during the apply, because etcd checks permissions, leases, revisions
//! and names before it changes anything. The quota is an exception: it is checked before the
//! proposal and again after the apply, with the same text.

use std::fmt;

use super::ErrorKind::{self, *};
use Executed::{No, Unknown};

/// Whether the server may have executed a request that it answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    /// The answer proves that it did not.
    No,
    /// It may have: the answer followed the proposal to consensus.
    Unknown,
}

/// The prefix of etcd's errors.
const PREFIX: &str = "etcdserver: ";

/// A known error text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    prefix: &'static str,
    /// The text without the prefix.
    pub(crate) text: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) executed: Executed,
}

/// The complete text, as the API of etcd returns it.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.text)
    }
}

/// Finds the error with exactly this text.
pub(super) fn find(message: &str) -> Option<Message> {
    if let Some(text) = message.strip_prefix(PREFIX) {
        return row(ETCD, PREFIX, text);
    }
    match message.strip_prefix("auth: ") {
        Some(own) => row(ETCD, PREFIX, renamed(own)),
        None => row(OTHERS, "", message),
    }
}

type Row = (&'static str, ErrorKind, Executed);

fn row(table: &'static [Row], prefix: &'static str, text: &str) -> Option<Message> {
    let (text, kind, executed) = *table.iter().find(|(known, ..)| *known == text)?;
    Some(Message {
        prefix,
        text,
        kind,
        executed,
    })
}

/// Maps a text of the auth store to the text of the API. Authenticate, and the maintenance methods
/// of some releases, return errors of the auth store directly, with the prefix `auth: `.
fn renamed(own: &str) -> &str {
    match own {
        "revision in header is old" => "revision of auth store is old",
        "user already exists" => "user name already exists",
        "user not found" => "user name not found",
        "role already exists" => "role name already exists",
        "role not found" => "role name not found",
        same => same,
    }
}

/// All errors in the tables.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = Message> {
    let etcd = ETCD.iter().map(|row| (PREFIX, row));
    let others = OTHERS.iter().map(|row| ("", row));
    etcd.chain(others)
        .map(|(prefix, &(text, kind, executed))| Message {
            prefix,
            text,
            kind,
            executed,
        })
}

#[rustfmt::skip]
const ETCD: &[Row] = &[
    // Invalid requests and exceeded limits. Checked before the proposal.
    ("key is not provided", InvalidArgument, No),
    ("value is provided", InvalidArgument, No),
    ("lease is provided", InvalidArgument, No),
    ("too many operations in txn request", InvalidArgument, No),
    ("duplicate key given in txn request", InvalidArgument, No),
    ("invalid client api version", InvalidArgument, No),
    ("invalid sort option", InvalidArgument, No),
    ("request is too large", TooLarge, No),
    ("too many requests", RateLimited, No),

    // Keys, revisions and leases. Checked during the apply, before any change.
    ("key not found", NotFound, No),
    ("mvcc: required revision has been compacted", Compacted, No),
    ("mvcc: required revision is a future revision", FutureRevision, No),
    ("requested lease not found", LeaseNotFound, No),
    ("lease already exists", AlreadyExists, No),
    ("too large lease TTL", InvalidArgument, No),
    ("watch canceled", Unavailable, Unknown),

    // etcd executes the request that exceeds the quota, and answers with this text. It rejects the
    // other requests with the same text.
    ("mvcc: database space exceeded", NoSpace, Unknown),
    // While the alarm is active, etcd answers with this error instead of applying the request.
    ("corrupt cluster", Corrupt, No),

    // Members. Checked before the proposal, or during the apply before the change.
    ("member ID already exist", AlreadyExists, No),
    ("Peer URLs already exists", AlreadyExists, No),
    ("re-configuration failed due to not enough started members", FailedPrecondition, No),
    ("unhealthy cluster", Unavailable, No),
    ("given member URLs are invalid", InvalidArgument, No),
    ("member not found", NotFound, No),
    // A follower forwards a promotion to the leader, and again when the leader's answer is lost:
    // then there is no learner left to promote.
    ("can only promote a learner member", FailedPrecondition, Unknown),
    ("can only promote a learner member which is in sync with leader", FailedPrecondition, No),
    ("too many learner members in cluster", FailedPrecondition, No),
    ("cluster ID mismatch", FailedPrecondition, No),

    // Users and roles. Permissions are checked during the apply, before any change.
    ("root user does not exist", FailedPrecondition, No),
    ("root user does not have root role", FailedPrecondition, No),
    ("user name already exists", AlreadyExists, No),
    ("user name is empty", Unauthenticated, No),
    ("user name not found", NotFound, No),
    ("role name already exists", AlreadyExists, No),
    ("role name not found", NotFound, No),
    ("role name is empty", InvalidArgument, No),
    ("authentication failed, invalid user ID or password", Unauthenticated, No),
    ("authentication failed, password was given for no password user", Unauthenticated, No),
    ("permission not given", InvalidArgument, No),
    ("permission denied", PermissionDenied, No),
    ("role is not granted to the user", NotFound, No),
    ("permission is not granted to the role", NotFound, No),
    ("authentication is not enabled", FailedPrecondition, No),
    ("invalid auth token", Unauthenticated, No),
    ("invalid auth management", InvalidArgument, No),
    ("revision of auth store is old", Unauthenticated, No),

    // This member cannot serve. Returned by an interceptor, before the request is processed.
    ("no leader", Unavailable, No),
    ("rpc not supported for learner", Unavailable, No),
    ("not capable", FailedPrecondition, No),

    // The member stopped waiting for a request that it had proposed.
    ("leader changed", Unavailable, Unknown),
    ("server stopped", Unavailable, Unknown),
    ("request timed out", Unavailable, Unknown),
    ("request timed out, possibly due to previous leader failure", Unavailable, Unknown),
    ("request timed out, possibly due to connection lost", Unavailable, Unknown),
    ("request timed out, waiting for the applied index took too long", Unavailable, Unknown),
    ("request timed out, leader transfer took too long", Timeout, Unknown),
    ("request canceled", Unavailable, Unknown),
    ("context deadline exceeded", Timeout, Unknown),

    // Leaders and releases. Checked before the proposal.
    ("not leader", FailedPrecondition, No),
    ("bad leader transferee", InvalidArgument, No),
    ("wrong downgrade target version format", InvalidArgument, No),
    ("invalid downgrade target version", InvalidArgument, No),
    ("cluster version not found during downgrade", FailedPrecondition, No),
    ("cluster has a downgrade job in progress", FailedPrecondition, No),
    ("no inflight downgrade job", FailedPrecondition, No),
];

/// Errors of the libraries inside etcd, which the API returns unchanged.
#[rustfmt::skip]
const OTHERS: &[Row] = &[
    // Raft drops the proposal: its leader transfers leadership, or too many proposals are not
    // written yet.
    ("raft proposal dropped", Unavailable, No),
    // Raft stopped while the request waited, possibly after it was proposed.
    ("raft: stopped", Unavailable, Unknown),
    ("context canceled", Unavailable, Unknown),
    // A leader that lost its quorum answers renewals with this error.
    ("not a primary lessor", Unavailable, Unknown),
    // The lock and election services of the server.
    ("election: not leader", NotFound, No),
    ("election: no leader", NotFound, No),
    ("mutex: session is expired", LeaseExpired, No),
    ("lost watcher waiting for delete", Unavailable, Unknown),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_tables_are_complete_and_without_duplicates() {
        let mut texts: Vec<_> = all().map(|message| message.to_string()).collect();
        assert_eq!((ETCD.len(), texts.len()), (65, 73));
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 73);
        for message in all() {
            assert_eq!(find(&message.to_string()), Some(message));
        }
    }

    #[test]
    fn errors_of_the_auth_store_are_recognised() {
        let store = [
            "root user does not exist",
            "root user does not have root role",
            "user already exists",
            "user name is empty",
            "user not found",
            "role already exists",
            "role not found",
            "role name is empty",
            "permission not given",
            "authentication failed, invalid user ID or password",
            "authentication failed, password was given for no password user",
            "permission denied",
            "role is not granted to the user",
            "permission is not granted to the role",
            "authentication is not enabled",
            "revision in header is old",
            "invalid auth token",
            "invalid auth management",
        ];
        for text in store {
            assert!(find(&format!("auth: {text}")).is_some(), "{text}");
        }
    }

    #[test]
    fn similar_texts_are_not_recognised_as_errors_of_etcd() {
        for text in [
            "permission denied",
            "etcdserver: raft proposal dropped",
            "etcdserver: no leader.",
            "auth: raft: stopped",
            "",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}

//! The errors of etcd, by their text: what each means, and whether the request may have taken effect.
//!
//! The third column is decided by where etcd says it (`server/etcdserver`, 3.4 to 3.7). A request that
//! writes passes the interceptors and checks of its API, is proposed to consensus, and is applied by the
//! member that was asked. What is said before the proposal proves that nothing happened. So does what is
//! found when applying, because etcd checks all of a request before it changes anything: permissions,
//! leases, revisions, names. The quota is the exception: it is checked before the proposal, and again
//! after the request was applied, with one text for both.

use std::fmt;

use super::ErrorKind::{self, *};
use Executed::{No, Unknown};

/// Whether the server may have executed the request that it answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    /// The answer proves that it did not.
    No,
    /// It may have: the answer came after the request was handed to consensus.
    Unknown,
}

/// What etcd puts before its errors.
const PREFIX: &str = "etcdserver: ";

/// An error whose text is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    prefix: &'static str,
    /// Without the prefix.
    pub(crate) text: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) executed: Executed,
}

/// The whole text, as etcd's API says it.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.text)
    }
}

/// Finds the error that has exactly this text.
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

/// The auth store's own words for what the API says otherwise. Authenticate, and the maintenance calls
/// of some releases, pass the store's errors on as they are, behind `auth: `.
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

/// Every error that the tables hold.
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
    // What a request asks for makes no sense, or is against a limit. Checked before the proposal.
    ("key is not provided", InvalidArgument, No),
    ("value is provided", InvalidArgument, No),
    ("lease is provided", InvalidArgument, No),
    ("too many operations in txn request", InvalidArgument, No),
    ("duplicate key given in txn request", InvalidArgument, No),
    ("invalid client api version", InvalidArgument, No),
    ("invalid sort option", InvalidArgument, No),
    ("request is too large", TooLarge, No),
    ("too many requests", RateLimited, No),

    // Keys, revisions and leases. Found when applying, before anything is changed.
    ("key not found", NotFound, No),
    ("mvcc: required revision has been compacted", Compacted, No),
    ("mvcc: required revision is a future revision", FutureRevision, No),
    ("requested lease not found", LeaseNotFound, No),
    ("lease already exists", AlreadyExists, No),
    ("too large lease TTL", InvalidArgument, No),
    ("watch canceled", Unavailable, Unknown),

    // The request that takes the database over its quota is executed, and answered with this. Those
    // before and after it are refused in the same words.
    ("mvcc: database space exceeded", NoSpace, Unknown),
    // While the alarm is on, requests are answered with this in place of being applied.
    ("corrupt cluster", Corrupt, No),

    // Members. Checked before the change is proposed, or when it is applied, before it is made.
    ("member ID already exist", AlreadyExists, No),
    ("Peer URLs already exists", AlreadyExists, No),
    ("re-configuration failed due to not enough started members", FailedPrecondition, No),
    ("unhealthy cluster", Unavailable, No),
    ("given member URLs are invalid", InvalidArgument, No),
    ("member not found", NotFound, No),
    // A follower sends a promotion to the leader, and again when the leader's answer is lost: then it
    // finds that there is nothing left to promote.
    ("can only promote a learner member", FailedPrecondition, Unknown),
    ("can only promote a learner member which is in sync with leader", FailedPrecondition, No),
    ("too many learner members in cluster", FailedPrecondition, No),
    ("cluster ID mismatch", FailedPrecondition, No),

    // Users and roles. Permissions are checked when applying, before anything is changed.
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

    // This member cannot serve. Said by an interceptor, before the request is looked at.
    ("no leader", Unavailable, No),
    ("rpc not supported for learner", Unavailable, No),
    ("not capable", FailedPrecondition, No),

    // The member gave up waiting for a request that it had proposed.
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

/// Errors of the libraries inside etcd, which its API passes on as they are.
#[rustfmt::skip]
const OTHERS: &[Row] = &[
    // Raft takes no proposals: its leader hands over, or too much is proposed and not yet written.
    ("raft proposal dropped", Unavailable, No),
    // Raft ended while the request waited; whether in front of it or in it, nobody knows.
    ("raft: stopped", Unavailable, Unknown),
    ("context canceled", Unavailable, Unknown),
    // A leader that lost its quorum answers renewals with it.
    ("not a primary lessor", Unavailable, Unknown),
    // The locks and elections that run inside the server.
    ("election: not leader", NotFound, No),
    ("election: no leader", NotFound, No),
    ("mutex: session is expired", LeaseExpired, No),
    ("lost watcher waiting for delete", Unavailable, Unknown),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_complete_and_have_no_text_twice() {
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
    fn the_auth_store_is_understood_in_its_own_words() {
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
    fn what_only_resembles_an_error_of_etcd_is_none() {
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

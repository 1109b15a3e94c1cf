//! What a gRPC status means: the only place that interprets one.
//!
//! etcd's errors are told apart by their exact text. Codes will not do: they changed between
//! releases (the learner refusal was `Unavailable` until 3.6), and one code has several meanings
//! (`OutOfRange` is "compacted", "a future revision", and a codec's "reply too large").

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

/// What to do about an error, besides reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: the answer is the answer.
    None,
    /// This member cannot serve now; another one may.
    Elsewhere,
    /// This member is a learner, and will refuse until it is promoted.
    Learner,
    /// Something is wrong with the token: fetch a new one.
    Token(Complaint),
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The server does not know it (any more): it expired, the server was restarted, or the user's
    /// password was changed.
    Invalid,
    /// Users or roles changed since it was made, or while the request was under way.
    Old,
    /// There was none.
    Missing,
    /// Its user may not do this. Watches are refused like this, too, for a token that expired, by
    /// servers before 3.4.22 and 3.5.6.
    Denied,
}

/// A gRPC status, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) kind: ErrorKind,
    pub(crate) executed: Executed,
    pub(crate) remedy: Remedy,
    pub(crate) text: String,
}

/// The longest error text taken from a server.
const LONGEST_TEXT: usize = 1024;

impl ServerError {
    /// Understands a status by its text first, and by its code only when the text is unknown.
    pub(crate) fn read(code: i32, message: &str) -> Self {
        let message = dressed(bare(message));
        let known = message
            .strip_prefix("etcdserver: ")
            .and_then(|text| TABLE.iter().find(|(known, ..)| *known == text));
        let (kind, executed) = match known {
            Some((_, kind, executed)) => (*kind, *executed),
            None => by_recipe(message).unwrap_or_else(|| by_code(code, message)),
        };
        ServerError {
            kind,
            executed,
            remedy: remedy(kind, message),
            text: printable(message),
        }
    }

    /// An answer that is not gRPC, or not protobuf.
    pub(crate) fn rubbish(text: &str) -> Self {
        ServerError {
            kind: Protocol,
            executed: Unknown,
            remedy: Remedy::None,
            text: printable(text),
        }
    }

    /// An answer over the client's own limit: the request itself was served.
    pub(crate) fn too_large(text: String) -> Self {
        ServerError {
            kind: TooLarge,
            executed: Unknown,
            remedy: Remedy::None,
            text,
        }
    }
}

/// Watches carry the whole rendering of a status as their cancel reason
/// (`rpc error: code = PermissionDenied desc = etcdserver: permission denied`); the text is its tail.
fn bare(message: &str) -> &str {
    match message.split_once(" desc = ") {
        Some((head, tail)) if head.starts_with("rpc error: code = ") => tail,
        _ => message,
    }
}

/// What the auth store itself says. Some calls of some releases (snapshot, defragment and others of
/// the maintenance service) pass it on as it is.
const UNDRESSED: &[(&str, &str)] = &[
    ("invalid auth token", "etcdserver: invalid auth token"),
    (
        "revision in header is old",
        "etcdserver: revision of auth store is old",
    ),
    ("user name is empty", "etcdserver: user name is empty"),
    ("permission denied", "etcdserver: permission denied"),
    (
        "authentication failed, invalid user ID or password",
        "etcdserver: authentication failed, invalid user ID or password",
    ),
    (
        "authentication is not enabled",
        "etcdserver: authentication is not enabled",
    ),
];

fn dressed(message: &str) -> &str {
    let own = message.strip_prefix("auth: ");
    own.and_then(|own| UNDRESSED.iter().find(|(text, _)| *text == own))
        .map_or(message, |(_, known)| known)
}

fn remedy(kind: ErrorKind, message: &str) -> Remedy {
    match message.strip_prefix("etcdserver: ") {
        Some("rpc not supported for learner") => Remedy::Learner,
        Some("invalid auth token") => Remedy::Token(Complaint::Invalid),
        Some("revision of auth store is old") => Remedy::Token(Complaint::Old),
        Some("user name is empty") => Remedy::Token(Complaint::Missing),
        // The cluster is, for every member: nobody else would do it.
        Some("request canceled" | "unhealthy cluster") => Remedy::None,
        _ if kind == Unavailable => Remedy::Elsewhere,
        // A leader that lost its quorum answers renewals with this bare text.
        _ if message == "not a primary lessor" => Remedy::Elsewhere,
        _ => Remedy::None,
    }
}

/// How the codec begins what it says about a reply that is not gRPC, or not protobuf.
const RUBBISH: &[&str] = &[
    "failed to decode Protobuf message",
    "protocol error: ",
    "Missing response message",
    "Unexpected EOF decoding stream",
    "Error deserializing status message header",
    "grpc-status header missing",
];

/// What the recipes that run inside the server say, with the code `Unknown`.
fn by_recipe(message: &str) -> Option<(ErrorKind, Executed)> {
    match message {
        "election: not leader" | "election: no leader" => Some((NotFound, No)),
        "mutex: session is expired" => Some((LeaseExpired, No)),
        _ => None,
    }
}

fn by_code(code: i32, message: &str) -> (ErrorKind, Executed) {
    match code {
        // 14 among them is a proxy that says that nobody is behind it (502, 503, 504).
        code if code != 14 && RUBBISH.iter().any(|text| message.starts_with(text)) => {
            (Protocol, Unknown)
        }
        3 => (InvalidArgument, No),
        4 => (Timeout, Unknown),
        5 => (NotFound, No),
        6 => (AlreadyExists, No),
        7 => (PermissionDenied, No),
        // grpc-go's own size check, made before the request reaches etcd.
        8 if message.starts_with("grpc: received message larger than max") => (TooLarge, No),
        8 => (RateLimited, Unknown),
        9 => (FailedPrecondition, Unknown),
        // The codec's receive limit: the request itself was served.
        11 if message.contains("message length too large") => (TooLarge, Unknown),
        12 => (Unimplemented, No),
        14 => (Unavailable, Unknown),
        16 => (Unauthenticated, No),
        _ if message == "not a primary lessor" => (Unavailable, Unknown),
        _ => (Server, Unknown),
    }
}

/// Server text goes to terminals and logs: no control characters, and not without end.
fn printable(message: &str) -> String {
    message
        .trim_end_matches('.')
        .chars()
        .take(LONGEST_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Every error of etcd: its text behind `etcdserver: `, its kind, and whether it comes after the
/// request may have taken effect.
#[rustfmt::skip]
const TABLE: &[(&str, ErrorKind, Executed)] = &[
    ("key is not provided", InvalidArgument, No),
    ("key not found", NotFound, No),
    ("value is provided", InvalidArgument, No),
    ("lease is provided", InvalidArgument, No),
    ("too many operations in txn request", InvalidArgument, No),
    ("duplicate key given in txn request", InvalidArgument, No),
    ("invalid client api version", InvalidArgument, No),
    ("invalid sort option", InvalidArgument, No),
    ("mvcc: required revision has been compacted", Compacted, No),
    ("mvcc: required revision is a future revision", FutureRevision, No),
    ("mvcc: database space exceeded", NoSpace, No),
    ("requested lease not found", LeaseNotFound, No),
    ("lease already exists", AlreadyExists, No),
    ("too large lease TTL", InvalidArgument, No),
    ("watch canceled", Unavailable, Unknown),
    ("member ID already exist", AlreadyExists, No),
    ("Peer URLs already exists", AlreadyExists, No),
    ("re-configuration failed due to not enough started members", FailedPrecondition, No),
    ("given member URLs are invalid", InvalidArgument, No),
    ("member not found", NotFound, No),
    ("can only promote a learner member", FailedPrecondition, No),
    ("can only promote a learner member which is in sync with leader", FailedPrecondition, No),
    ("too many learner members in cluster", FailedPrecondition, No),
    ("cluster ID mismatch", FailedPrecondition, No),
    ("request is too large", TooLarge, No),
    ("too many requests", RateLimited, No),
    ("root user does not exist", FailedPrecondition, No),
    ("root user does not have root role", FailedPrecondition, No),
    ("user name already exists", AlreadyExists, No),
    ("user name is empty", Unauthenticated, No),
    ("user name not found", NotFound, No),
    ("role name already exists", AlreadyExists, No),
    ("role name not found", NotFound, No),
    ("role name is empty", InvalidArgument, No),
    ("authentication failed, invalid user ID or password", Unauthenticated, No),
    ("permission not given", InvalidArgument, No),
    ("permission denied", PermissionDenied, No),
    ("role is not granted to the user", NotFound, No),
    ("permission is not granted to the role", NotFound, No),
    ("authentication is not enabled", FailedPrecondition, No),
    ("invalid auth token", Unauthenticated, No),
    ("invalid auth management", InvalidArgument, No),
    ("revision of auth store is old", Unauthenticated, No),
    ("no leader", Unavailable, No),
    ("not leader", FailedPrecondition, No),
    ("leader changed", Unavailable, Unknown),
    ("not capable", FailedPrecondition, No),
    ("server stopped", Unavailable, Unknown),
    ("request timed out", Unavailable, Unknown),
    ("request timed out, possibly due to previous leader failure", Unavailable, Unknown),
    ("request timed out, possibly due to connection lost", Unavailable, Unknown),
    ("request timed out, waiting for the applied index took too long", Unavailable, Unknown),
    // Said before a change of members is proposed.
    ("unhealthy cluster", Unavailable, No),
    ("corrupt cluster", Corrupt, Unknown),
    ("rpc not supported for learner", Unavailable, No),
    ("bad leader transferee", InvalidArgument, No),
    ("wrong downgrade target version format", InvalidArgument, No),
    ("invalid downgrade target version", InvalidArgument, No),
    ("cluster version not found during downgrade", FailedPrecondition, No),
    ("cluster has a downgrade job in progress", FailedPrecondition, No),
    ("no inflight downgrade job", FailedPrecondition, No),
    ("request canceled", Unavailable, Unknown),
    ("context deadline exceeded", Timeout, Unknown),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_decides_and_not_the_code() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        for code in [2, 11, 14] {
            assert_eq!(ServerError::read(code, compacted).kind, Compacted);
        }
        let large = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        assert_eq!(ServerError::read(11, large).kind, TooLarge);
        assert_eq!(ServerError::read(11, "something else").kind, Server);
    }

    #[test]
    fn a_reply_that_is_not_grpc_is_a_breach_of_protocol() {
        let rubbish = ServerError::read(13, "failed to decode Protobuf message: invalid varint");
        assert_eq!((rubbish.kind, rubbish.executed), (Protocol, Unknown));
        let missing = "grpc-status header missing, mapped from HTTP status code";
        assert_eq!(
            ServerError::read(12, &format!("{missing} 404")).kind,
            Protocol
        );
        assert_eq!(
            ServerError::read(14, &format!("{missing} 503")).kind,
            Unavailable
        );
        assert_eq!(ServerError::read(12, "unknown service").kind, Unimplemented);
    }

    #[test]
    fn a_rendered_status_is_read_by_its_tail() {
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(ServerError::read(2, reason).kind, PermissionDenied);
    }

    #[test]
    fn all_token_failures_ask_for_a_new_token_and_prove_that_nothing_happened() {
        for (text, complaint) in [
            ("etcdserver: invalid auth token", Complaint::Invalid),
            ("etcdserver: revision of auth store is old", Complaint::Old),
            ("etcdserver: user name is empty", Complaint::Missing),
            ("auth: invalid auth token", Complaint::Invalid),
            ("auth: revision in header is old", Complaint::Old),
            ("auth: user name is empty", Complaint::Missing),
        ] {
            let error = ServerError::read(2, text);
            assert_eq!(
                (error.kind, error.executed),
                (Unauthenticated, No),
                "{text}"
            );
            assert_eq!(error.remedy, Remedy::Token(complaint), "{text}");
        }
    }

    #[test]
    fn a_wrong_password_is_no_reason_to_ask_again() {
        let text = "etcdserver: authentication failed, invalid user ID or password";
        let error = ServerError::read(3, text);
        assert_eq!((error.kind, error.remedy), (Unauthenticated, Remedy::None));
    }

    #[test]
    fn a_learner_is_recognised_under_both_its_codes() {
        for code in [9, 14] {
            let error = ServerError::read(code, "etcdserver: rpc not supported for learner");
            assert_eq!((error.remedy, error.executed), (Remedy::Learner, No));
        }
    }

    #[test]
    fn only_answers_given_before_consensus_prove_that_nothing_happened() {
        let executed = |text: &str| ServerError::read(14, &format!("etcdserver: {text}")).executed;
        assert_eq!(executed("no leader"), No);
        assert_eq!(executed("too many requests"), No);
        assert_eq!(executed("request timed out"), Unknown);
        assert_eq!(executed("leader changed"), Unknown);
        assert_eq!(executed("server stopped"), Unknown);
    }

    #[test]
    fn what_the_servers_own_recipes_say_is_understood() {
        for text in ["election: not leader", "election: no leader"] {
            assert_eq!(ServerError::read(2, text).kind, NotFound);
        }
        let expired = ServerError::read(2, "mutex: session is expired");
        assert_eq!(expired.kind, LeaseExpired);
    }

    #[test]
    fn hostile_text_is_cut_and_cleaned() {
        let error = ServerError::read(2, &"\u{1b}[2J".repeat(1000));
        assert_eq!(error.text.chars().count(), LONGEST_TEXT);
        assert!(!error.text.contains('\u{1b}'));
    }

    #[test]
    fn the_table_is_complete_and_has_no_text_twice() {
        assert_eq!(TABLE.len(), 63);
        let mut texts: Vec<_> = TABLE.iter().map(|(text, ..)| text).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 63);
    }
}

//! The error type of this crate.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod messages;
mod printable;
mod status;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::types::Revision;
use crate::types::key_range::KeyRange;
pub(crate) use messages::Executed;
#[cfg(test)]
pub(crate) use messages::all as all_messages;
pub(crate) use printable::printable;
pub(crate) use status::{RetryHint, ServerError, TokenRejection};

/// The result of every verb of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of an operation. It has the size of a pointer, and its text is one line.
///
/// The text starts with the operation and names the endpoint, the attempts and the last cause:
/// `put "svc/a": no answer in 5s from http://10.0.0.1:2379 (2 attempts; last: connection refused)`.
/// It never contains a value, a password or a token. Programs should decide by
/// [`kind`](Error::kind) and the predicates, not by the text.
///
/// ```
/// use etcd_blocking::{Client, ErrorKind};
///
/// let error = Client::connect(["http://[::1"]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
/// assert!(!error.is_retryable());
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Option<Operation>,
    reason: String,
    endpoint: Option<std::sync::Arc<str>>,
    attempts: u32,
    elapsed: Duration,
    outcome_unknown: bool,
    compact_revision: Option<Revision>,
    last: Option<String>,
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

/// The kind of an [`Error`].
///
/// ```no_run
/// use etcd_blocking::ErrorKind;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// match client.put("color", "red") {
///     Ok(_) => {}
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => println!("not allowed: {error}"),
///     Err(error) if error.is_retryable() => println!("try later: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid: nothing was sent, or the server rejected it. Sending it again does
    /// not help.
    InvalidArgument,
    /// No member could be reached, or none that can serve (no leader, no quorum, stopping).
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The client was closed, or the session or other handle that kept a lease alive.
    Closed,
    /// The requested revision has been compacted: see [`Error::compact_revision`].
    Compacted,
    /// The requested revision does not exist yet.
    FutureRevision,
    /// The store does not have what was read from it before: it lost data or was restored from a backup.
    Rewound,
    /// Every member that answered is behind the last revision that was read: see
    /// [`Client::ordered`](crate::Client::ordered).
    Stale,
    /// The lease does not exist, or no longer exists.
    LeaseNotFound,
    /// The lease expired while it was kept alive: no renewal succeeded in time.
    LeaseExpired,
    /// An object of the request other than a lease does not exist: a key, a member, a user, a role.
    NotFound,
    /// An object that the request would create already exists.
    AlreadyExists,
    /// The requested object belongs to another owner, such as the key of a service instance, or was
    /// changed first.
    Conflict,
    /// Wrong user name or password, or no valid token.
    Unauthenticated,
    /// The user does not have the permission.
    PermissionDenied,
    /// The server's database is full (alarm NOSPACE): compact, defragment, then disarm the alarm.
    ///
    /// etcd executes the request that exceeds the quota, and answers it like the requests that it
    /// rejects: a write that fails with this kind has an [unknown outcome](Error::outcome_unknown).
    NoSpace,
    /// The cluster found its data corrupt (alarm CORRUPT), or a received snapshot is corrupt.
    Corrupt,
    /// A request or a reply exceeds a size limit; the text names the limit.
    TooLarge,
    /// The server reported an overload.
    RateLimited,
    /// The cluster is not in the state that the request needs.
    FailedPrecondition,
    /// The server does not have this method: it is older than the feature.
    Unimplemented,
    /// The TLS handshake failed with every endpoint: a certificate, a name, an authority or a
    /// setting is wrong on either side. Nothing was sent; the next call tries again.
    Tls,
    /// The peer is not an etcd server, or violated the protocol.
    Protocol,
    /// The process was forked after the client was made; make a new client in the child.
    Forked,
    /// A bug in this crate made the task of the call panic. Please report it.
    Panicked,
    /// A value does not have the requested type: see [`KeyValue::parse`](crate::KeyValue::parse).
    Decode,
    /// The server failed with an error that has no kind of its own.
    Server,
    /// The operating system refused a resource: a thread, a socket, a file, a process.
    Os,
}

impl Error {
    #[cold]
    pub(crate) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            operation: None,
            reason: reason.into(),
            endpoint: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            outcome_unknown: false,
            compact_revision: None,
            last: None,
            source: None,
        }))
    }

    #[cold]
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, reason)
    }

    /// The error of a request with keys that cannot be mapped into a namespace.
    #[cold]
    pub(crate) fn confined() -> Self {
        Error::invalid("this request cannot be used in a namespace: use the client without one")
    }

    #[cold]
    pub(crate) fn closed() -> Self {
        Error::new(ErrorKind::Closed, "the client is closed")
    }

    #[cold]
    pub(crate) fn panicked() -> Self {
        Error::new(
            ErrorKind::Panicked,
            "the task of this call panicked: a bug in etcd-blocking",
        )
    }

    #[cold]
    pub(crate) fn forked() -> Self {
        let reason = "the process was forked after the client was made, and the client's thread \
                      stayed with the parent: make a new client in the child";
        Error::new(ErrorKind::Forked, reason)
    }

    /// The error of a task that was dropped without a reply: it panicked, or the runtime shut down.
    #[cold]
    pub(crate) fn abandoned() -> Self {
        // A dropped reply cannot report its cause: during a panic it is that panic.
        if std::thread::panicking() {
            Error::panicked()
        } else {
            Error::closed()
        }
    }

    #[cold]
    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Error::new(ErrorKind::Protocol, reason)
    }

    #[cold]
    pub(crate) fn compacted(at: Revision) -> Self {
        let reason =
            format!("the requested revision is compacted; the oldest available revision is {at}");
        let mut error = Error::new(ErrorKind::Compacted, reason);
        error.0.compact_revision = Some(at);
        error
    }

    pub(crate) fn operation(mut self, operation: Operation) -> Self {
        self.0.operation = Some(operation);
        self
    }

    /// Sets the operation if none is set.
    pub(crate) fn or_operation(mut self, operation: &Operation) -> Self {
        self.0.operation.get_or_insert_with(|| operation.clone());
        self
    }

    pub(crate) fn at(mut self, endpoint: Option<std::sync::Arc<str>>) -> Self {
        if endpoint.is_some() {
            self.0.endpoint = endpoint;
        }
        self
    }

    pub(crate) fn tried(mut self, attempts: u32, elapsed: Duration) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self
    }

    /// Replaces the reason.
    pub(crate) fn reason(mut self, reason: impl Into<String>) -> Self {
        self.0.reason = reason.into();
        self
    }

    pub(crate) fn last(mut self, last: impl Into<String>) -> Self {
        self.0.last = Some(last.into());
        self
    }

    pub(crate) fn unknown_outcome(mut self, unknown: bool) -> Self {
        self.0.outcome_unknown = unknown;
        self
    }

    pub(crate) fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(std::sync::Arc::new(source));
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed later and can be repeated safely.
    ///
    /// A write with an unknown outcome is never retryable in this sense: read the key first.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Stale
        ) && !self.0.outcome_unknown
    }

    /// Whether a write may have been executed although it failed.
    ///
    /// `false` for a failed write proves that it was not executed: its bytes never left this
    /// process, or the server reported that it did not execute it.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// The endpoint of the last attempt.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The number of attempts; 0 when nothing was sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The time from the start of the operation to its failure.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The oldest available revision, for an error of the kind [`ErrorKind::Compacted`] that
    /// reports it.
    pub fn compact_revision(&self) -> Option<Revision> {
        self.0.compact_revision
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = &inner.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&inner.reason)?;
        if let Some(endpoint) = &inner.endpoint {
            write!(f, " from {endpoint}")?;
        }
        if inner.outcome_unknown {
            f.write_str("; it may have been executed")?;
        }
        match (inner.attempts, &inner.last) {
            (0 | 1, None) => Ok(()),
            (0, Some(last)) => write!(f, " (last: {last})"),
            (1, Some(last)) => write!(f, " (1 attempt; last: {last})"),
            (attempts, None) => write!(f, " ({attempts} attempts)"),
            (attempts, Some(last)) => write!(f, " ({attempts} attempts; last: {last})"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, \"{self}\")", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// The operation of a call, for the start of an error's text: a verb and its keys.
///
/// It is created for every call but printed only on failure, so the keys are not formatted yet.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    verb: &'static str,
    about: About,
}

#[derive(Clone, Debug)]
enum About {
    Nothing,
    Keys(KeyRange),
    Text(String),
}

impl Operation {
    pub(crate) fn new(verb: &'static str) -> Self {
        let about = About::Nothing;
        Operation { verb, about }
    }

    pub(crate) fn on(verb: &'static str, keys: KeyRange) -> Self {
        let about = About::Keys(keys);
        Operation { verb, about }
    }

    pub(crate) fn about(verb: &'static str, what: impl fmt::Display) -> Self {
        let about = About::Text(what.to_string());
        Operation { verb, about }
    }

    pub(crate) fn verb(&self) -> &'static str {
        self.verb
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        match &self.about {
            About::Nothing => Ok(()),
            About::Keys(keys) => write!(f, " {keys}"),
            About::Text(text) => write!(f, " {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_error_is_one_line_with_all_details() {
        let error = Error::new(ErrorKind::Timeout, "no answer in 5s")
            .operation(Operation::about("put", "\"svc/a\""))
            .at(Some("http://10.0.0.1:2379".into()))
            .tried(2, Duration::from_secs(5))
            .last("connection refused");
        assert_eq!(
            error.to_string(),
            "put \"svc/a\": no answer in 5s from http://10.0.0.1:2379 (2 attempts; last: connection refused)"
        );
    }

    #[test]
    fn an_error_has_the_size_of_a_pointer_and_is_send_and_sync() {
        fn everywhere<T: Send + Sync + Clone + 'static>() {}
        everywhere::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn an_unknown_outcome_is_not_retryable() {
        let error = Error::new(ErrorKind::Timeout, "no answer");
        assert!(error.is_retryable());
        assert!(!error.unknown_outcome(true).is_retryable());
    }

    #[test]
    fn an_error_has_the_time_the_revision_and_the_cause_that_it_was_given() {
        let error = Error::compacted(Revision::new(7))
            .tried(1, Duration::from_secs(5))
            .caused_by(std::io::Error::other("disk"));
        assert_eq!(error.elapsed(), Duration::from_secs(5));
        assert_eq!(error.compact_revision(), Some(Revision::new(7)));
        assert_eq!(error.source().unwrap().to_string(), "disk");
        let plain = Error::closed();
        assert_eq!(plain.compact_revision(), None);
        assert!(plain.source().is_none());
        assert_eq!(Operation::new("put").verb(), "put");
    }
}

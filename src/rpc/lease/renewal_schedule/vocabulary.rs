//! What a keeper is told, and what it says is to be done.

use std::sync::Arc;
use std::time::Duration;

use super::Path;
use crate::error::ErrorKind;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// What happened.
#[derive(Clone, Debug)]
pub(in crate::rpc::lease) enum Input {
    /// Keep this lease alive; its first answer has to come `within` this time.
    Add { lease: LeaseId, within: Duration },
    /// Nobody wants it kept alive any more.
    Remove(LeaseId),
    /// The stream can be written to.
    Opened(Path),
    /// The server answered a renewal; `ttl` is in seconds, 0 or less: no such lease.
    Answer {
        path: Path,
        lease: LeaseId,
        ttl: i64,
    },
    /// The stream ended, or could not be opened.
    Broken(Path, Trouble),
    /// The server ended the stream because of the renewal that it was at.
    Refused(Path, Trouble),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) enum Action {
    /// Open a stream.
    Open(Path),
    /// Drop the stream, its member has not answered for `waited`: the next one should go elsewhere.
    Abandon { path: Path, waited: Duration },
    /// Drop the stream, it is not needed any more.
    Close(Path),
    /// Send a renewal.
    Send(Path, LeaseId),
    /// Say that it was renewed.
    Renewed {
        lease: LeaseId,
        ttl: Duration,
        until: BootTime,
    },
    /// Say that it is gone; it is forgotten here.
    Gone { lease: LeaseId, why: Gone },
}

/// Why a lease is gone.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) enum Gone {
    /// The server has no such lease.
    NotFound,
    /// Its time is over, and no renewal was answered for `silent`.
    Expired {
        ttl: Duration,
        silent: Duration,
        last: Option<Trouble>,
    },
    /// No renewal was ever answered.
    Unanswered {
        within: Duration,
        last: Option<Trouble>,
    },
    /// No renewal was ever answered, and none will be: TLS fails at every endpoint, or this user may
    /// not renew it.
    Refused(Trouble),
}

/// What was wrong with a stream.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) struct Trouble {
    pub(in crate::rpc::lease) kind: ErrorKind,
    pub(in crate::rpc::lease) text: String,
    pub(in crate::rpc::lease) endpoint: Option<Arc<str>>,
}

impl Trouble {
    pub(in crate::rpc::lease) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Trouble {
            kind,
            text: text.into(),
            endpoint: None,
        }
    }
}

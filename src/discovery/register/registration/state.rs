//! How a registration is, and why it was lost.

use crate::rpc::lease::Deadline;
use crate::types::{LeaseId, Revision};

/// How a registration is.
///
/// `Starting` → `Registered` ⇄ `Suspect`, and to `Lost` and back to `Registered` whenever it was
/// restored; `Draining` when its instance says so, and `Closed` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It was not registered yet.
    Starting,
    /// It is in etcd.
    Registered {
        /// The lease that its key hangs on.
        lease: LeaseId,
        /// The revision that put it there.
        revision: Revision,
        /// Until when it surely stays, if no more renewals get through.
        valid_until: Deadline,
    },
    /// It is in etcd as far as we know, but renewals do not get through.
    Suspect {
        /// When it is lost, unless one does.
        valid_until: Deadline,
    },
    /// It is not in etcd, or not known to be. It is being put back.
    Lost {
        /// What happened.
        why: Loss,
    },
    /// It is in etcd, and asks not to be called any more.
    Draining,
    /// It has left, or the client was closed. Nothing follows.
    Closed,
}

/// Why a registration was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal got through for as long as the lease lives.
    Unreachable,
    /// The lease is gone: it expired or was revoked, or the server lost its data.
    LeaseGone,
    /// Somebody deleted the key.
    KeyDeleted,
    /// Somebody overwrote the key with something that is no registration.
    Overwritten,
    /// Another process registered the same instance. It keeps it until it leaves.
    Replaced {
        /// By the owner of this lease.
        by: LeaseId,
    },
}

/// Whether `now` is another state than `before`, and not the same with a later deadline.
pub(super) fn is_news(before: &State, now: &State) -> bool {
    match (before, now) {
        (
            State::Registered {
                lease: a,
                revision: r,
                ..
            },
            State::Registered {
                lease: b,
                revision: s,
                ..
            },
        ) => (a, r) != (b, s),
        (State::Suspect { .. }, State::Suspect { .. }) => false,
        (before, now) => before != now,
    }
}

//! The state of a registration, and the reason for its loss.

use crate::rpc::lease::Deadline;
use crate::types::{LeaseId, Revision};

/// The state of a registration.
///
/// It starts as `Starting`, alternates between `Registered` and `Suspect` as renewals succeed and
/// fail, and changes to `Lost` and back to `Registered` when it is restored. It is `Draining` while its
/// instance has that status, and `Closed` at the end.
///
/// ```no_run
/// use etcd_blocking::{Instance, Registrar, State};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let registrar = Registrar::builder(&client).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080"))?;
/// for state in registration.states() {
///     match state {
///         State::Registered { revision, .. } => println!("registered at {revision:?}"),
///         State::Lost { why } => println!("lost: {why:?}; it is restored"),
///         State::Closed => break,
///         other => println!("{other:?}"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has not been registered yet.
    Starting,
    /// It is in etcd.
    Registered {
        /// The lease that its key is attached to.
        lease: LeaseId,
        /// The revision that put it into etcd.
        revision: Revision,
        /// The time until which it stays in etcd at least, if no further renewal succeeds.
        valid_until: Deadline,
    },
    /// It is in etcd as far as known, but renewals fail or its key cannot be watched.
    Suspect {
        /// The time at which it is lost, unless a renewal succeeds.
        valid_until: Deadline,
    },
    /// It is not in etcd as far as known, and is being put back.
    Lost {
        /// The reason why it was lost.
        why: Loss,
    },
    /// It is in etcd with the status [`Draining`](crate::Status::Draining): clients do not pick it.
    Draining,
    /// It is not in etcd, because its health checks do not allow it, or because no
    /// [codec](crate::codec::Codec) of the registrar can express its status. It is put back when that changes.
    Withdrawn,
    /// It has left, or the client was closed. This is the last state.
    Closed,
}

/// The reason why a registration was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal succeeded during the lifetime of the lease.
    Unreachable,
    /// The lease is gone: it expired or was revoked, or the server lost its data.
    LeaseGone,
    /// The key was deleted.
    KeyDeleted,
    /// The key was overwritten with a value that is not a registration.
    Overwritten,
    /// Another process registered the same instance. This registration is restored when that process
    /// has left.
    Replaced {
        /// The lease of the other process.
        by: LeaseId,
    },
}

/// Whether `now` differs from `before` in more than its deadline.
pub(super) fn is_visible_change(before: &State, now: &State) -> bool {
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

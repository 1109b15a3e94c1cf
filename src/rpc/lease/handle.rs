//! What the owner of a lease holds while it is kept alive.

use std::fmt;
use std::time::Duration;

use crossbeam_channel::Receiver;
use tokio::sync::mpsc;

use super::deadline::Deadline;
use super::lease_status::{LeaseStatus, LeaseWaiter};
use super::task::Command;
use crate::error::{Error, Result};
use crate::runtime::clock;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;
use crate::util::receive::receive_methods;

/// The server does not say which; nor does it know any more.
pub(super) const GONE: &str = "the server has no such lease: it expired or was revoked";

/// A renewal of a lease that got through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    id: LeaseId,
    ttl: Duration,
    deadline: Deadline,
}

impl Renewal {
    pub(super) fn new(id: LeaseId, ttl: Duration, until: BootTime) -> Self {
        Renewal {
            id,
            ttl,
            deadline: Deadline::at(until),
        }
    }

    /// Which lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long it lives from the renewal on. It can change: a new leader starts with the full time.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Until when it surely lives, counted from when the renewal was *sent*: the server counts from
    /// when it arrived, which is later.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// A lease that is kept alive, until this is dropped.
///
/// All leases of a client are renewed over one stream, each when a third of its time has passed. A
/// renewal that is not answered in time (a sixth of the time to live, 1 s to 5 s) is sent again
/// elsewhere; whatever happens to connections and servers, renewing goes on for as long as the
/// lease may be alive. Several `KeepAlive`s of one lease share its renewals.
///
/// When the lease is gone, the last item of the [`receiver`](KeepAlive::receiver) says why:
///
/// | last item | meaning |
/// |---|---|
/// | [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound) | the server says that it does not exist: it expired, or somebody revoked it |
/// | [`LeaseExpired`](crate::ErrorKind::LeaseExpired) | its time ran out before a renewal got through; the text says what was in the way |
/// | [`Closed`](crate::ErrorKind::Closed) | the client was closed; the lease lives on until its time is over |
/// | another kind | no renewal was ever answered, in the timeout of the client |
///
/// Dropping it stops renewing and does not block. It does not revoke: the lease, and the keys that
/// hang on it, live until its time is over.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::crossbeam_channel::{select, tick};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// let alive = client.keep_alive(lease.id())?;
/// let work = tick(Duration::from_millis(100));
/// loop {
///     select! {
///         recv(alive.receiver()) -> item => match item {
///             Ok(Ok(renewal)) => println!("alive for {:?}", renewal.deadline().remaining()),
///             Ok(Err(gone)) => return Err(gone),
///             Err(_) => return Ok(()),
///         },
///         recv(work) -> _ => println!("working, {:?} left", alive.valid_for()),
///     }
/// }
/// # }
/// ```
#[must_use = "the lease is kept alive only for as long as this exists"]
pub struct KeepAlive {
    id: LeaseId,
    number: u64,
    receiver: Receiver<Result<Renewal>>,
    fate: LeaseStatus,
    commands: mpsc::UnboundedSender<Command>,
}

impl KeepAlive {
    pub(super) fn new(
        id: LeaseId,
        number: u64,
        receiver: Receiver<Result<Renewal>>,
        fate: LeaseStatus,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        KeepAlive {
            id,
            number,
            receiver,
            fate,
            commands,
        }
    }

    /// Which lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The channel of renewals, for `recv` and `select!`.
    ///
    /// The first item is there as soon as the server has answered once. An item that is `Err` is the
    /// last one. Nobody has to read: while 16 renewals wait here, further ones are not queued (the
    /// newest state is always in [`valid_for`](KeepAlive::valid_for)), and the last item has
    /// a place of its own.
    pub fn receiver(&self) -> &Receiver<Result<Renewal>> {
        &self.receiver
    }

    /// How long the lease surely lives from now on; zero before the first renewal was answered, and
    /// when the lease is gone. It asks nobody: it looks at the clock.
    pub fn valid_for(&self) -> Duration {
        self.fate.remaining(clock::now())
    }

    /// Whether the lease surely lives now: [`valid_for`](KeepAlive::valid_for) is not zero.
    pub fn is_alive(&self) -> bool {
        !self.valid_for().is_zero()
    }

    /// Whether it was lost, and why: by the server's word, or by the clock. It asks nobody, so a
    /// process that was stopped for longer than the lease lives learns it from the first look.
    ///
    /// What it says once it says for ever: when the time of the lease is over, a renewal that gets
    /// through a moment later is not taken up, and [`lost`](KeepAlive::lost) fires.
    ///
    /// # Errors
    ///
    /// Why it is lost, as the last item of the [`receiver`](KeepAlive::receiver).
    pub fn check(&self) -> Result<()> {
        self.fate.check(clock::now())
    }

    /// Fires once, with the reason, when the lease is lost; it ends without an item when the
    /// `KeepAlive` is dropped. For `select!`, where renewals are of no interest.
    pub fn lost(&self) -> &Receiver<Error> {
        self.fate.lost()
    }

    /// For requests that are to end with the lease.
    pub(super) fn fate(&self) -> LeaseWaiter {
        self.fate.kept()
    }
}

receive_methods!(KeepAlive, Result<Renewal>);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        // The task may be gone, and its leases with it.
        let _ = self.commands.send(Command::Leave {
            lease: self.id,
            number: self.number,
        });
    }
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive")
            .field("id", &self.id)
            .field("valid_for", &self.valid_for())
            .finish_non_exhaustive()
    }
}

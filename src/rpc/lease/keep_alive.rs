//! The handle of a lease that is kept alive.

use std::fmt;
use std::task::Waker;
use std::time::Duration;

use crossbeam_channel::Receiver;
use tokio::sync::mpsc;

use super::lease_command::LeaseCommand;
use super::lease_status::{LeaseStatus, LeaseView, LeaseWaiter};
use super::renewal::Renewal;
use crate::error::{Error, Result};
use crate::runtime::clock;
use crate::types::LeaseId;
use crate::util::receive::receive_methods;

/// Keeps a lease alive until it is dropped.
///
/// All leases of a client are renewed over one stream, each when a third of its time to live has
/// passed. A renewal that is not answered in time (a sixth of the time to live, 1 s to 5 s) is sent
/// again to another member. Lost connections and restarted servers do not end the renewals: they go
/// on for as long as the lease may be alive. Several `KeepAlive`s of one lease share its renewals.
///
/// When the lease is lost, the last item of the [`receiver`](KeepAlive::receiver) is an `Err`:
///
/// | last item | meaning |
/// |---|---|
/// | [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound) | the server has no such lease: it expired or was revoked |
/// | [`LeaseExpired`](crate::ErrorKind::LeaseExpired) | its time ran out before a renewal was answered; the text has the last failure |
/// | [`Closed`](crate::ErrorKind::Closed) | the client was closed; the lease lives until its time runs out |
/// | another kind | no renewal was answered within the client's timeout |
///
/// Dropping it stops the renewals, without blocking. It does not revoke the lease: the lease and the
/// keys attached to it live until its time runs out.
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
#[must_use = "dropping a keep alive stops the renewals of its lease"]
pub struct KeepAlive {
    id: LeaseId,
    number: u64,
    status: LeaseStatus,
    commands: mpsc::UnboundedSender<LeaseCommand>,
}

impl KeepAlive {
    pub(super) fn new(
        id: LeaseId,
        number: u64,
        status: LeaseStatus,
        commands: mpsc::UnboundedSender<LeaseCommand>,
    ) -> Self {
        KeepAlive {
            id,
            number,
            status,
            commands,
        }
    }

    /// The id of the lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The channel of renewals, for `recv` and `select!`.
    ///
    /// The first call creates the channel. The first item is the newest renewal at that time, or the first
    /// one that follows. An `Err` is the last item. The channel need not be read: it holds 16 renewals and
    /// drops further ones (the newest state is always in [`valid_for`](KeepAlive::valid_for)), and the last
    /// item is always delivered.
    pub fn receiver(&self) -> &Receiver<Result<Renewal>> {
        self.status.renewals().receiver()
    }

    /// The time for which the lease is certain to live from now on. Zero before the first renewal was
    /// answered, and when the lease is lost. It reads the clock and does not block.
    pub fn valid_for(&self) -> Duration {
        self.status.remaining(clock::now())
    }

    /// Whether the lease is certain to live now: [`valid_for`](KeepAlive::valid_for) is not zero.
    pub fn is_alive(&self) -> bool {
        !self.valid_for().is_zero()
    }

    /// Checks that the lease is not lost, by the last answer of the server and by the clock. It does
    /// not block, and detects also that the process was stopped for longer than the time to live.
    ///
    /// An error is final: when the time of the lease has run out, a renewal that is answered later
    /// does not revive it, and [`lost`](KeepAlive::lost) fires.
    ///
    /// # Errors
    ///
    /// The reason of the loss, as in the last item of the [`receiver`](KeepAlive::receiver).
    pub fn check(&self) -> Result<()> {
        self.status.check(clock::now())
    }

    /// A channel with one item, the reason, when the lease is lost. It ends without an item when the
    /// `KeepAlive` is dropped. For `select!` loops that do not need the renewals.
    pub fn lost(&self) -> &Receiver<Error> {
        self.status.lost()
    }

    /// Returns the error of the last item: the reason why the lease is no longer kept alive. `None` before
    /// the last item. It does not block.
    pub fn ended(&self) -> Option<Error> {
        self.status.ended()
    }

    /// What [`wake_on_change`](KeepAlive::wake_on_change) compares.
    pub(crate) fn view(&self) -> LeaseView {
        self.status.view()
    }

    /// Wakes the waker when the lease differs from what was `seen` of it: it was first renewed, is late, is no
    /// longer late, or has ended. A renewal in time wakes no thread.
    pub(crate) fn wake_on_change(&self, seen: LeaseView, waker: &Waker) {
        self.status.wake_on_change(seen, waker);
    }

    /// A waiter for requests that end with the lease.
    pub(crate) fn waiter(&self) -> LeaseWaiter {
        self.status.waiter()
    }
}

receive_methods!(KeepAlive, Result<Renewal>);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        // A task that has ended has no leases.
        let _ = self.commands.send(LeaseCommand::Leave {
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

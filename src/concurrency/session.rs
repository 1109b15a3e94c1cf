//! The session: a lease that is kept alive for locks and elections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::session_keys::SessionKeys;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::lease::HasLease;
use crate::rpc::lease::{Grant, KeepAlive, LeaseWaiter};
use crate::types::LeaseId;
use crate::worker::{PartHandle, Worker};

/// The longest time for which dropping the last handle blocks.
const DROP_WITHIN: Duration = Duration::from_secs(1);

/// The default TTL of a session in Go.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// A lease that is kept alive while the session exists. Locks and elections are based on it.
///
/// # Losing a session
///
/// The lease can end while the program runs: it is revoked, etcd is unreachable for longer than its
/// TTL, the process is stopped, or the machine sleeps. Then all keys attached to it are deleted, and
/// other programs may acquire the locks. [`lost`](Session::lost) receives the reason once, and
/// [`check`](Session::check) fails from then on. A lost session is not restored: start a new one, and
/// acquire the locks again.
///
/// # One session is one contender
///
/// A session is a handle: clones share the lease and its keys. As in Go, a lock that one clone holds is
/// held by all: acquiring it again through the same session succeeds at once. Threads that must exclude
/// each other need separate sessions.
///
/// # Dropping
///
/// Dropping the last handle revokes the lease, and so deletes all keys attached to it. That takes 1 s
/// at most. Locks, guards and elections hold handles. [`close`](Session::close) revokes the lease at
/// once and returns the outcome; [`orphan`](Session::orphan) lets the lease expire.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::Session;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).ttl(Duration::from_secs(10)).start()?;
/// println!("all keys of this program are attached to lease {}", session.lease());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    lease: LeaseId,
    ttl: Duration,
    state: Mutex<LeaseState>,
    lost: Receiver<Error>,
    session_keys: Arc<SessionKeys>,
    /// The background task that deletes keys. It ends with the session: then the keys are deleted with
    /// the lease.
    deletion_task: Mutex<Option<PartHandle>>,
}

enum LeaseState {
    Alive(KeepAlive),
    /// It was closed or orphaned by this program.
    Over {
        why: Error,
        revoked: bool,
    },
}

/// The settings of a [`Session`].
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::concurrency::Session;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).ttl(Duration::from_secs(10)).start()?;
/// println!("lease {} for {:?}", session.lease(), session.ttl());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "there is no session until start()"]
pub struct SessionBuilder {
    client: Client,
    ttl: Duration,
    lease: Option<LeaseId>,
}

impl SessionBuilder {
    /// Sets how long the lease lives without a renewal. The default is 60 s, as in Go.
    ///
    /// After this time other programs acquire the locks of a crashed program. Fractions of a second
    /// are rounded up, and the server may grant more.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Uses an existing lease, such as that of an earlier run of this program, instead of a new one.
    ///
    /// Closing the session revokes this lease too.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Grants the lease and renews it once. Blocks for twice the client's timeout at most.
    ///
    /// # Errors
    ///
    /// As [`Client::grant`]; [`LeaseNotFound`](ErrorKind::LeaseNotFound) when the lease set by
    /// [`lease`](SessionBuilder::lease) does not exist. A new lease that cannot be renewed is revoked.
    pub fn start(self) -> Result<Session> {
        let named = |error: Error| error.operation(Operation::new("start session"));
        let SessionBuilder { client, ttl, lease } = self;
        let (id, granted) = match lease {
            Some(id) => (id, false),
            None => (client.call(Grant::ttl(ttl)).map_err(named)?.id(), true),
        };
        let renewed = client.keep_alive(id).and_then(|alive| {
            // It ends with the reason when no renewal is answered in the client's timeout.
            let first = alive.receiver().recv();
            let renewal = first.unwrap_or_else(|_| Err(Error::closed()))?;
            Ok((alive, renewal))
        });
        let (alive, renewal) = match renewed {
            Ok(renewed) => renewed,
            Err(error) => {
                if granted {
                    // If this fails, the lease expires.
                    let _ = client.with_timeout(DROP_WITHIN).revoke(id);
                }
                return Err(named(error));
            }
        };
        Ok(Session {
            inner: Arc::new(Inner {
                lease: id,
                ttl: renewal.ttl(),
                lost: alive.lost().clone(),
                state: Mutex::new(LeaseState::Alive(alive)),
                session_keys: Arc::new(SessionKeys::new(client.clone(), id)),
                client,
                deletion_task: Mutex::new(None),
            }),
        })
    }
}

impl Session {
    /// Returns the settings of a new session, which [`SessionBuilder::start`] starts.
    ///
    /// Its calls have the client's timeout.
    pub fn builder(client: &Client) -> SessionBuilder {
        SessionBuilder {
            client: client.clone(),
            ttl: DEFAULT_TTL,
            lease: None,
        }
    }

    /// Returns the lease. Keys attached to it are deleted with the session.
    pub fn lease(&self) -> LeaseId {
        self.inner.lease
    }

    /// Returns the client of the session.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Returns the TTL of the lease, as the server first granted it.
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// Returns how long the lease lives at least, or zero when the session has ended. It sends no
    /// request.
    pub fn valid_for(&self) -> Duration {
        match &*self.inner.state.lock() {
            LeaseState::Alive(alive) => alive.valid_for(),
            LeaseState::Over { .. } => Duration::ZERO,
        }
    }

    /// Returns a channel that receives the reason once when the session is lost.
    ///
    /// The channel ends without an item when this program closes or orphans the session. All clones
    /// share it, and one reader gets the item: use it with `select!` in the one place that stops the
    /// work, and [`check`](Session::check) elsewhere.
    pub fn lost(&self) -> &Receiver<Error> {
        &self.inner.lost
    }

    /// Returns an error if the session has ended.
    ///
    /// It sends no request, and reads a clock that also runs while the machine sleeps: a process that
    /// was stopped for longer than the lease lives detects it with the first call. Once it has failed,
    /// it always fails.
    ///
    /// # Errors
    ///
    /// [`LeaseExpired`](ErrorKind::LeaseExpired) when the lease expired by the local clock,
    /// [`LeaseNotFound`](ErrorKind::LeaseNotFound) when the server reported that it does not exist, and
    /// [`Closed`](ErrorKind::Closed) when the client or the session was closed.
    pub fn check(&self) -> Result<()> {
        match &*self.inner.state.lock() {
            LeaseState::Alive(alive) => alive.check(),
            LeaseState::Over { why, .. } => Err(why.clone()),
        }
    }

    /// Returns whether the session has ended, that is, whether [`check`](Session::check) fails.
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Revokes the lease, and so deletes all keys attached to it.
    ///
    /// Calls that wait through this session, in any thread, fail. Blocks for the client's timeout or
    /// the TTL of the lease at most, whichever is shorter. A session that has ended is not changed.
    ///
    /// # Errors
    ///
    /// As [`Client::revoke`]. Then the lease expires.
    pub fn close(&self) -> Result<()> {
        if !self.inner.end("the session was closed", true) {
            return Ok(());
        }
        // After its TTL the lease has expired without a revoke.
        let timeout = self.inner.client.timeout().min(self.inner.ttl);
        self.inner.revoke(timeout)
    }

    /// Ends the session without revoking the lease: its keys stay until the lease expires. It does not
    /// block.
    pub fn orphan(&self) {
        self.inner.end("the session was orphaned", false);
    }

    pub(super) fn session_keys(&self) -> &SessionKeys {
        &self.inner.session_keys
    }

    /// Whether the lease certainly does not exist, and so none of its keys.
    pub(super) fn is_revoked(&self) -> bool {
        match &*self.inner.state.lock() {
            LeaseState::Alive(alive) => {
                // Only the server's answer proves that the keys are deleted; an expiry by the local
                // clock does not.
                let gone = |why: &Error| why.kind() == ErrorKind::LeaseNotFound;
                alive.check().as_ref().is_err_and(gone)
            }
            LeaseState::Over { revoked, .. } => *revoked,
        }
    }

    /// Starts a background task that deletes the keys that could not be deleted at once.
    pub(super) fn delete_pending(&self) {
        let keys = &self.inner.session_keys;
        if let Some(part) = keys.delete_pending() {
            match Worker::of(&self.inner.client) {
                Ok(worker) => *self.inner.deletion_task.lock() = Some(worker.serve(part)),
                // Without a worker the client is closing, and the keys end with the lease.
                Err(_) => keys.deletion_task_ended(),
            }
        }
    }
}

/// A put under a session that has ended fails with the reason of the session.
#[allow(private_interfaces, reason = "the trait is sealed")]
impl HasLease for Session {
    fn lease_waiter(&self) -> LeaseWaiter {
        match &*self.inner.state.lock() {
            LeaseState::Alive(alive) => alive.lease_waiter(),
            LeaseState::Over { why, .. } => LeaseWaiter::ended(self.inner.lease, why.clone()),
        }
    }
}

impl Inner {
    /// Stops keeping the lease alive; `false` when that was done before.
    fn end(&self, why: &'static str, revoked: bool) -> bool {
        let about = Operation::about("session on lease", self.lease);
        let why = Error::new(ErrorKind::Closed, why).operation(about);
        let over = LeaseState::Over { why, revoked };
        let mut state = self.state.lock();
        if matches!(*state, LeaseState::Over { .. }) {
            return false;
        }
        // Dropped without the lock.
        let kept = std::mem::replace(&mut *state, over);
        drop(state);
        drop(kept);
        true
    }

    fn revoke(&self, timeout: Duration) -> Result<()> {
        match self.client.with_timeout(timeout).revoke(self.lease) {
            // A lease that does not exist is as good as a revoked one.
            Err(error) if error.kind() != ErrorKind::LeaseNotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.end("the session was dropped", true) {
            // If this fails, the lease expires.
            let _ = self.revoke(DROP_WITHIN.min(self.ttl));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.inner.lease)
            .field("ttl", &self.inner.ttl)
            .field("valid_for", &self.valid_for())
            .finish_non_exhaustive()
    }
}

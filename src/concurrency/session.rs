//! A lease that is kept alive, and what everything that hangs on it learns from it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::session_keys::SessionKeys;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::lease::HasLease;
use crate::rpc::lease::{Grant, KeepAlive, LeaseWaiter};
use crate::types::LeaseId;
use crate::worker::Worker;

/// How long dropping the last handle may take.
const DROP_WITHIN: Duration = Duration::from_secs(1);

/// What Go's sessions live for without a renewal.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// A lease that is kept alive for as long as this exists: what locks and elections stand on.
///
/// # When it is lost
///
/// The lease can end although the program runs: somebody revokes it, etcd is out of reach for
/// longer than it lives, the process is stopped or the machine sleeps. Then everything that hung on
/// it is gone, and others may hold it. [`lost`](Session::lost) fires, once and with the reason, and
/// [`check`](Session::check) fails from then on. A lost session stays lost: no new lease is taken
/// behind your back. Start a new one, and acquire again.
///
/// # One session is one contender
///
/// It is a handle: clones share the lease, and with it the keys. What a session holds, all its clones
/// hold, as in Go: acquiring a lock twice through one session succeeds at once. Threads that are to
/// exclude each other need sessions of their own.
///
/// # Dropping
///
/// The last handle revokes the lease, and so gives up everything that hangs on it; that takes at
/// most 1 s. Locks, guards and elections hold handles. [`close`](Session::close) does it now, and
/// says whether it worked; [`orphan`](Session::orphan) leaves the lease alone until its time is over.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::Session;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).ttl(Duration::from_secs(10)).start()?;
/// println!("everything of mine hangs on lease {}", session.lease());
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
    life: Mutex<Life>,
    lost: Receiver<Error>,
    session_keys: Arc<SessionKeys>,
    // Carries nothing: it ends with the session. Before the worker, which ends when its parts do.
    alive: (Sender<()>, Receiver<()>),
    worker: OnceLock<Arc<Worker>>,
}

enum Life {
    Kept(KeepAlive),
    /// It was closed or orphaned here; closing revokes.
    Over {
        why: Error,
        revoked: bool,
    },
}

/// The settings of a [`Session`].
#[derive(Clone, Debug)]
#[must_use = "there is no session until start()"]
pub struct SessionBuilder {
    client: Client,
    ttl: Duration,
    lease: Option<LeaseId>,
}

impl SessionBuilder {
    /// How long the lease lives without a renewal: after so long others get what a dead process
    /// held. 60 s unless set, as in Go; whole seconds, rounded up, and the server may make it longer.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Goes on with a lease that exists, such as that of an earlier run of this program, instead of
    /// a new one. Closing the session revokes it all the same.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Takes the lease and renews it once. Blocks for at most twice the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::grant`]; [`LeaseNotFound`](ErrorKind::LeaseNotFound) when the lease that was
    /// given does not exist. A lease that was granted and could not be renewed is revoked.
    pub fn start(self) -> Result<Session> {
        let named = |error: Error| error.operation(Operation::new("start session"));
        let SessionBuilder { client, ttl, lease } = self;
        let (id, granted) = match lease {
            Some(id) => (id, false),
            None => (client.call(Grant::ttl(ttl)).map_err(named)?.id(), true),
        };
        let renewed = client.keep_alive(id).and_then(|alive| {
            // It ends by itself, with the reason, when no renewal is answered in the client's timeout.
            let first = alive.receiver().recv();
            let renewal = first.unwrap_or_else(|_| Err(Error::closed()))?;
            Ok((alive, renewal))
        });
        let (alive, renewal) = match renewed {
            Ok(renewed) => renewed,
            Err(error) => {
                if granted {
                    // It would end by itself, later.
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
                life: Mutex::new(Life::Kept(alive)),
                session_keys: Arc::new(SessionKeys::new(client.clone(), id)),
                client,
                alive: bounded(0),
                worker: OnceLock::new(),
            }),
        })
    }
}

impl Session {
    /// The settings of a new session on this client. Its calls have the client's timeout.
    pub fn builder(client: &Client) -> SessionBuilder {
        SessionBuilder {
            client: client.clone(),
            ttl: DEFAULT_TTL,
            lease: None,
        }
    }

    /// The lease: what to hang keys on that are to go with the session.
    pub fn lease(&self) -> LeaseId {
        self.inner.lease
    }

    /// The client it stands on.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// How long the lease lives without a renewal, as the server said first.
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// How long the lease surely lives from now on; zero when the session is over. It asks nobody.
    pub fn valid_for(&self) -> Duration {
        match &*self.inner.life.lock() {
            Life::Kept(alive) => alive.valid_for(),
            Life::Over { .. } => Duration::ZERO,
        }
    }

    /// Fires once, with the reason, when the session is lost; it ends without an item when the
    /// session is closed or orphaned here.
    ///
    /// All clones share it, and one of them gets the item. It is for `select!` in the one place that
    /// stops the work; everybody else asks [`check`](Session::check).
    pub fn lost(&self) -> &Receiver<Error> {
        &self.inner.lost
    }

    /// Whether the session is over, and why. It asks nobody and looks at the clock that runs on while
    /// a machine sleeps: a process that was stopped for longer than the lease lives learns it from
    /// the first look. Once it has failed it fails for ever.
    ///
    /// # Errors
    ///
    /// [`LeaseExpired`](ErrorKind::LeaseExpired) when the time of the lease ran out,
    /// [`LeaseNotFound`](ErrorKind::LeaseNotFound) when the server said that it is gone,
    /// [`Closed`](ErrorKind::Closed) when the client or the session was closed.
    pub fn check(&self) -> Result<()> {
        match &*self.inner.life.lock() {
            Life::Kept(alive) => alive.check(),
            Life::Over { why, .. } => Err(why.clone()),
        }
    }

    /// Whether the session is over: [`check`](Session::check) fails.
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Revokes the lease, and with it gives up all that hangs on it. Whoever waits for something
    /// through this session, in any thread, stops waiting.
    ///
    /// Blocks for at most the client's timeout, and not longer than the lease lives. Of a session
    /// that is over nothing is left to do.
    ///
    /// # Errors
    ///
    /// As [`Client::revoke`]. The lease then ends by itself, when its time is over.
    pub fn close(&self) -> Result<()> {
        if !self.inner.end("the session was closed", true) {
            return Ok(());
        }
        let timeout = self.inner.client.timeout().min(self.inner.ttl);
        self.inner.revoke(timeout)
    }

    /// Ends the session and leaves the lease alone: what hangs on it stays until its time is over.
    /// Does not block.
    pub fn orphan(&self) {
        self.inner.end("the session was orphaned", false);
    }

    pub(super) fn session_keys(&self) -> &SessionKeys {
        &self.inner.session_keys
    }

    /// Whether the lease is gone for sure, and its keys with it.
    pub(super) fn is_revoked(&self) -> bool {
        match &*self.inner.life.lock() {
            Life::Kept(alive) => {
                let gone = |why: &Error| why.kind() == ErrorKind::LeaseNotFound;
                alive.check().as_ref().is_err_and(gone)
            }
            Life::Over { revoked, .. } => *revoked,
        }
    }

    /// The worker of the client, for what runs while nobody waits.
    pub(super) fn worker(&self) -> Result<&Arc<Worker>> {
        if let Some(worker) = self.inner.worker.get() {
            return Ok(worker);
        }
        let worker = Worker::of(&self.inner.client)?;
        Ok(self.inner.worker.get_or_init(|| worker))
    }

    /// Has the keys taken away that could not be taken away at once.
    pub(super) fn sweep(&self) {
        let ring = &self.inner.session_keys;
        if let Some(part) = ring.sweep(self.inner.alive.1.clone()) {
            let begun = self.worker().and_then(|worker| worker.serve(part));
            if begun.is_err() {
                ring.unswept();
            }
        }
    }
}

/// A session that is over keeps nothing alive: what is asked for under it fails with its reason.
#[allow(private_interfaces, reason = "the trait is sealed")]
impl HasLease for Session {
    fn lease_waiter(&self) -> LeaseWaiter {
        match &*self.inner.life.lock() {
            Life::Kept(alive) => alive.lease_waiter(),
            Life::Over { why, .. } => LeaseWaiter::ended(self.inner.lease, why.clone()),
        }
    }
}

impl Inner {
    /// Stops keeping the lease alive; `false` when that was done before.
    fn end(&self, why: &'static str, revoked: bool) -> bool {
        let about = Operation::about("session on lease", self.lease);
        let why = Error::new(ErrorKind::Closed, why).operation(about);
        let over = Life::Over { why, revoked };
        let mut life = self.life.lock();
        if matches!(*life, Life::Over { .. }) {
            return false;
        }
        // Dropped without the lock.
        let kept = std::mem::replace(&mut *life, over);
        drop(life);
        drop(kept);
        true
    }

    fn revoke(&self, timeout: Duration) -> Result<()> {
        match self.client.with_timeout(timeout).revoke(self.lease) {
            Err(error) if error.kind() != ErrorKind::LeaseNotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.end("the session was dropped", true) {
            // It ends by itself when this fails.
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

//! The client: a cheap handle to the connections to one cluster.

mod attached;
pub(crate) mod auth;
mod before_close;
pub(crate) mod builder;
pub(crate) mod cluster;
pub(crate) mod config;
mod core;
mod endpoints;
pub(crate) mod into_endpoints;
mod kv;
mod lease;
mod limits;
mod list;
pub(crate) mod lock_service;
pub(crate) mod maintenance;
mod metrics;
mod order;
pub(crate) mod pages;
mod probe;
mod scope;
mod views;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::core::Core;
pub(crate) use before_close::BeforeClose;

use crate::error::{ErrorKind, Result};
use crate::grpc::connect::endpoint::Endpoint;
use crate::grpc::{KnownStore, SharedStoreIdentity, Transport, TransportSettings};
use crate::observe::{ObservedCall, Telemetry, Underway};
use crate::replica::mirror;
use crate::replica::mirror::{Mirror, MirrorSettings};
use crate::rpc::kv::Get;
use crate::rpc::lease::LeaseRegistry;
use crate::rpc::request;
use crate::rpc::request::Request;
use crate::rpc::watch::{Watch, WatchContext, WatchRegistry};
use crate::runtime::{Bridge, Capacity, DriveMode, LostRequest, Pending};
use crate::types::key_range::KeyRange;
use crate::util::atomic::AtomicU64;
use scope::Scope;

/// The longest deadline. It can be added to any time without overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection to an etcd cluster, shared by all its clones.
///
/// # Threads and cloning
///
/// A `Client` is a few words; cloning it is cheap, and all clones share one runtime thread, its
/// connections, watches and leases. Every verb takes `&self`, blocks the calling thread until the
/// answer is there or the deadline passes (5 s unless set), and can be called from any thread, also
/// inside an async runtime: it blocks that worker, and never panics. No lock is held while waiting.
///
/// | type | Send + Sync | Clone | effect of its drop |
/// |---|---|---|---|
/// | `Client` and its views (`with_timeout`, `namespace`, `ordered`, `at`) | yes | yes | the last of all closes, in at most 1 s |
/// | `Pending` | yes | no | nothing: the request runs on |
/// | `Pages` | yes | no | ends the reading ahead; does not block |
/// | `Watcher`, `WatchSet`, `LatestSet` | yes | no | cancels the watches; does not block |
/// | `KeepAlive` | yes | no | stops renewing; does not block, does not revoke |
/// | `Mirror`, `Cache` | yes | no | ends the mirror; does not block |
/// | `MirrorCopy` | yes | no | ends the copying, after the transaction under way; does not block |
/// | `SnapshotStream` | yes | no | cancels the snapshot; does not block |
/// | `Session` | yes | yes | the last handle revokes the lease, in at most 1 s |
/// | `LockGuard`, `Leadership` | yes | no | unlocks or resigns, in at most 1 s |
/// | `Observer`, `Leaders` | yes | no | ends the observing; does not block |
/// | `ServiceView` | yes | no | ends the view; does not block |
/// | `Registrar` | yes | no | nothing while it has registrations |
/// | `Registration` | yes | yes | the last clone leaves; the last of a registrar waits for that, at most 1 s |
///
/// ```no_run
/// use etcd_blocking::Client;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// client.put("greeting", "hello")?;
/// let kv = client.get("greeting")?.expect("just put");
/// assert_eq!(kv.value(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    timeout: Duration,
    /// The settings of a view; `None` for the client itself.
    scope: Option<Arc<Scope>>,
}

impl Client {
    pub(crate) fn start(
        endpoints: Vec<Endpoint>,
        settings: TransportSettings,
        timeout: Duration,
        watch_room: Capacity,
        drive: DriveMode,
    ) -> Result<Client> {
        static CLIENTS: AtomicU64 = AtomicU64::new(1);

        let transport = Transport::new(endpoints, settings);
        let core = Core {
            bridge: Arc::new(Bridge::start("etcd-blocking", drive)?),
            watches: Arc::new(WatchRegistry::new(Arc::clone(&transport), watch_room)),
            transport,
            leases: LeaseRegistry::default(),
            watch_room,
            views: Arc::default(),
            before_closes: Arc::default(),
            attached: Arc::default(),
            aimed: false,
            id: CLIENTS.fetch_add(1, Relaxed),
        };
        Ok(Client {
            core: Arc::new(core),
            timeout: timeout.min(LONGEST),
            scope: None,
        })
    }

    /// Returns a view of this client whose calls have another deadline, a year at most. With a deadline of
    /// zero, a call sends nothing and fails with [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// let quick = client.with_timeout(Duration::from_millis(200));
    /// let kv = quick.get("k")?;
    /// # Ok(()) }
    /// ```
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client {
            timeout: timeout.min(LONGEST),
            ..self.clone()
        }
    }

    /// Returns the deadline of this client's calls.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the number of this client, which is unique in the process. Clones and views have the same.
    pub fn id(&self) -> u64 {
        self.core.id
    }

    /// Returns the resource of this type that all clones and views share, and makes it when it has no
    /// user. Its users keep it.
    pub(crate) fn attached<T: std::any::Any + Send + Sync>(
        &self,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        self.core.attached.get(make)
    }

    /// Waits until the cluster serves a linearizable read, for at most `timeout`.
    ///
    /// Success means that a member can be reached and that a majority of members is available. A user
    /// without the permission to read is ready as well, because the cluster answered.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.ready(Duration::from_secs(30))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) when the
    /// cluster does not serve in that time; the text has the last failure. Errors that do not end by waiting,
    /// such as [`Tls`](crate::ErrorKind::Tls) and [`Unauthenticated`](crate::ErrorKind::Unauthenticated), are
    /// returned at once.
    pub fn ready(&self, timeout: Duration) -> Result<()> {
        let read = Get::key("health").keys_only();
        match self.with_timeout(timeout).call(read) {
            // The refusal is an answer of the cluster, which needs a majority for it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Sends a request and blocks until its response arrives. Request values have all options of a verb.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// use etcd_blocking::Put;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let replaced = client.call(Put::new("color", "red").prev_kv())?;
    /// println!("before: {:?}", replaced.prev_kv().map(|kv| kv.value()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the request; [`Timeout`](crate::ErrorKind::Timeout) or
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when no answer came in time;
    /// [`Closed`](crate::ErrorKind::Closed) at once when the client is closed.
    pub fn call<R: Request>(&self, request: R) -> Result<R::Response> {
        let call = ObservedCall::begin(self.core.transport.telemetry(), request.verb(), || {
            request.operation()
        });
        let limits = self.core.transport.settings().limits;
        let result = request::check(&request, limits, self.timeout).and_then(|()| {
            let lost = lost(&request);
            let (transport, timeout) = (Arc::clone(&self.core.transport), self.timeout);
            let bridge = &self.core.bridge;
            let running: request::Boxed<'_, _> = match self.scope.clone() {
                None => Box::pin(request.execute(transport, timeout)),
                Some(scope) => Box::pin(scope.execute(request, transport, timeout)),
            };
            // `lost` is the error if the client closes or the task panics during the call.
            bridge.call_or(lost, call.within(running))
        });
        call.end(&result);
        result
    }

    /// Sends a request and returns at once; the response arrives in the [`Pending`]. Requests
    /// submitted one after the other are in flight together.
    ///
    /// ```no_run
    /// use etcd_blocking::Put;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let puts: Vec<_> = (0..100).map(|n| client.submit(Put::new(format!("k/{n}"), "v"))).collect();
    /// for put in puts {
    ///     put.wait()?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn submit<R: Request>(&self, request: R) -> Pending<R::Response> {
        let limits = self.core.transport.settings().limits;
        let checked = request::check(&request, limits, self.timeout);
        let lost = lost(&request);
        let (transport, timeout) = (Arc::clone(&self.core.transport), self.timeout);
        let call = Underway::begin(transport.telemetry(), request.verb(), || {
            request.operation()
        });
        let bridge = &self.core.bridge;
        // A refused request is not encoded: its size may be anything.
        let running: request::Boxed<'_, _> = match (checked, self.scope.clone()) {
            (Err(error), _) => Box::pin(std::future::ready(Err(error))),
            (Ok(()), None) => Box::pin(request.execute(transport, timeout)),
            (Ok(()), Some(scope)) => Box::pin(scope.execute(request, transport, timeout)),
        };
        bridge.submit_or(lost, request::run(call, running))
    }

    /// Keeps a copy of a range of keys in memory and up to date. Blocks until the first list was read.
    ///
    /// ```no_run
    /// use etcd_blocking::KeyRange;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let config = client.mirror(KeyRange::prefix("config/"))?;
    /// println!("{:?}", config.snapshot().get(b"config/workers"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call). Each page of the list has the client's timeout.
    pub fn mirror(&self, range: impl Into<KeyRange>) -> Result<Mirror> {
        self.core.bridge.call(self.open_mirror(range.into()))
    }

    /// Begins to open a [`mirror`](Client::mirror), and returns at once.
    ///
    /// Dropping the [`Pending`] ends the mirror.
    ///
    /// ```no_run
    /// use etcd_blocking::KeyRange;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let (a, b) = (KeyRange::prefix("config/"), KeyRange::prefix("limits/"));
    /// let pending = [client.submit_mirror(a), client.submit_mirror(b)];
    /// for mirror in pending {
    ///     println!("{} keys", mirror.wait()?.snapshot().len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The result fails as [`mirror`](Client::mirror) does.
    pub fn submit_mirror(&self, range: impl Into<KeyRange>) -> Pending<Mirror> {
        let opened = self.open_mirror(range.into());
        self.core.bridge.submit_or(LostRequest::default(), opened)
    }

    fn open_mirror(
        &self,
        range: KeyRange,
    ) -> impl Future<Output = Result<Mirror>> + Send + 'static {
        let core = &self.core;
        let (transport, registry) = (Arc::clone(&core.transport), Arc::clone(&core.watches));
        mirror::open(
            &core.bridge,
            transport,
            registry,
            self.mirror_settings(range),
        )
    }

    /// Opens a mirror that has no list yet. It does not block.
    pub(crate) fn mirror_unlisted(&self, range: impl Into<KeyRange>) -> Result<Mirror> {
        let core = &self.core;
        let (transport, registry) = (Arc::clone(&core.transport), Arc::clone(&core.watches));
        let settings = self.mirror_settings(range.into());
        mirror::open_unlisted(&core.bridge, transport, registry, settings)
    }

    fn mirror_settings(&self, range: KeyRange) -> MirrorSettings {
        MirrorSettings {
            range,
            namespace: self.namespace_of_view().cloned(),
            timeout: self.timeout,
        }
    }

    /// The keys of a range of this view, without the namespace.
    pub(crate) fn absolute_range(&self, range: KeyRange) -> KeyRange {
        match self.namespace_of_view() {
            Some(namespace) => namespace.outer(&range),
            None => range,
        }
    }

    /// Returns the epoch of the store, and a suspected loss of its data, as the last answers show them.
    pub(crate) fn known_store(&self) -> KnownStore {
        self.core.transport.store().known()
    }

    /// The identity of the store, as the answers of this client show it.
    pub(crate) fn store_identity(&self) -> Arc<SharedStoreIdentity> {
        Arc::clone(self.core.transport.store())
    }

    /// The receiver of the events of this client.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        self.core.transport.telemetry()
    }

    /// Adds a hook that [`close`](Client::close) of this client, or of any clone or view, runs.
    pub(crate) fn before_close(&self, hook: &Arc<dyn BeforeClose>) {
        self.core.before_closes.add(hook);
    }

    /// Returns whether the client was closed.
    pub fn is_closed(&self) -> bool {
        self.core.bridge.check_open().is_err()
    }

    /// Closes the client and all its clones. Waiting calls return [`Closed`](crate::ErrorKind::Closed) at
    /// once, and it is the last item of every flow. When `close` returns, the connections are closed and
    /// the runtime's thread has ended.
    ///
    /// Registrations leave first: their keys are deleted when it returns, if etcd answers within a
    /// second. Dropping the last clone does the same; a registration has a clone. Blocks for at most 1 s
    /// until registrations have left, and at most 1 s more.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.close()?; // registrations have left, and blocked calls have returned
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) when the thread did not end within the last second.
    pub fn close(self) -> Result<()> {
        if !self.is_closed() {
            // Registrations leave while the connections are still open.
            self.core.before_closes.run();
        }
        self.core.bridge.close()
    }
}

impl WatchContext for Client {
    fn registry(&self) -> &WatchRegistry {
        &self.core.watches
    }

    fn bridge(&self) -> &Bridge {
        &self.core.bridge
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn confine(&self, watch: Watch) -> Watch {
        match self.namespace_of_view() {
            Some(namespace) => watch.within(namespace),
            None => watch,
        }
    }
}

/// A write that is interrupted by the end of the client, or by a panic, may have been executed.
fn lost(request: &impl Request) -> LostRequest {
    LostRequest {
        operation: Some(request.operation()),
        outcome_unknown: request.writes(),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.core.transport.name())
            .field("timeout", &self.timeout)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

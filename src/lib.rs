//! A blocking etcd v3 client, with service registration and discovery as its main job.
//!
//! No function of this crate is async and no type is a future. Every verb blocks the calling thread until
//! the response arrives or the deadline passes. Watch events, lease renewals and changes of services
//! arrive on [`crossbeam_channel`] receivers, so that a program can `select!` over etcd and its own
//! channels.
//!
//! # Calling from async code
//!
//! A call inside an async runtime works and never panics. Creating and dropping a client there works too.
//! But a call *blocks* its worker thread. In a server with few workers, use the runtime's
//! function for blocking code (tokio's `spawn_blocking`).
//!
//! # Registration and discovery
//!
//! A [`Registrar`] keeps all instances of a process registered under one lease, and registers them again
//! after any failure. A [`Discovery`] opens views of services; a view keeps the last good list while etcd
//! is unreachable.
//!
//! ```
//! use std::time::Duration;
//! use etcd_blocking::{Client, Discovery, Instance, Registrar};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let endpoint = etcd.endpoint();
//! let client = Client::connect([endpoint])?;
//!
//! let registrar = Registrar::builder(&client).ttl(Duration::from_secs(15)).start()?;
//! let registration = registrar.register(Instance::new("api", "10.0.0.5:8080"))?;
//!
//! let api = Discovery::new(&client).service("api")?;
//! api.wait_for(1, Duration::from_secs(5))?;
//! assert_eq!(api.pick().expect("one is up").addr, "10.0.0.5:8080");
//!
//! registration.leave()?;
//! # Ok(()) }
//! ```
//!
//! [`State`] is the state of a registration. [`Change`] is a change of a service; each removal of an
//! instance has a [`Cause`]. [`codec::Plain`] is the format that many Go programs use.
//!
//! # Keys and values
//!
//! The client has a verb for each common request. Every option of etcd is a method of a request value,
//! which can be called, submitted, or put into a transaction. Keys and values are text or bytes,
//! borrowed or owned, or [types of your own](IntoBytes).
//!
//! ```
//! use etcd_blocking::{Client, Compare, Get, Put, Txn};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! client.put("greeting", "hello")?;
//! let kv = client.get("greeting")?.expect("just put");
//!
//! let replaced = client.call(Put::new("greeting", "hi").prev_kv())?;
//! assert_eq!(replaced.prev_kv().map(|kv| kv.version()), Some(1));
//!
//! let unchanged = Compare::mod_revision("greeting").eq(kv.mod_revision());
//! let txn = Txn::when([unchanged]).then([Put::new("greeting", "hey")]).or_else([Get::key("greeting")]);
//! assert!(!client.txn(txn)?.succeeded(), "it was changed in between");
//!
//! // Several requests in flight from one thread.
//! let pending: Vec<_> = (0..100).map(|n| client.submit(Put::new(format!("n/{n}"), "x"))).collect();
//! for put in pending {
//!     put.wait()?;
//! }
//! # Ok(()) }
//! ```
//!
//! # Large ranges
//!
//! The size of one response is limited. [`pages`](Client::pages) reads any number of keys at one revision
//! in bounded memory; it uses etcd's range streams where the server has them (3.7).
//!
//! ```
//! use etcd_blocking::{Client, Get, Put, Txn};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! client.txn(Txn::always((0..100).map(|n| Put::new(format!("log/{n:03}"), "x"))))?;
//! let mut seen = 0;
//! for page in client.pages(Get::prefix("log/"), 30)? {
//!     seen += page?.len();
//! }
//! assert_eq!(seen, 100);
//! # Ok(()) }
//! ```
//!
//! # Watching
//!
//! A [`Watcher`] delivers every change of a range in order and without a gap, also when connections and
//! servers fail. When that is impossible (the history is compacted, or the store lost data), its last
//! item is an `Err` with the reason.
//!
//! ```
//! use etcd_blocking::{Client, EventKind, KeyRange};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! let watcher = client.watch(KeyRange::prefix("jobs/"))?;
//! client.put("jobs/1", "queued")?;
//! let response = watcher.recv().expect("not cancelled")?;
//! assert_eq!(response.events()[0].kind(), EventKind::Put);
//! # Ok(()) }
//! ```
//!
//! | guarantee | meaning |
//! |---|---|
//! | ordered, unique, atomic | revisions strictly increase; no event is delivered twice; the events of one revision are one item |
//! | reliable, resumable | it survives any disconnect, and resumes after the last delivered revision, on another member if necessary |
//! | no silent gap | compacted, rewound or forbidden: the last item is an `Err` |
//! | bounded | a slow reader holds 4,096 responses and 8 MiB at most; then the watch pauses, and resumes when half of them are read |
//! | live | a silent server gets a progress request, and is replaced when it does not answer |
//!
//! A [`Mirror`](mirror::Mirror) combines list and watch: it keeps a consistent copy of a range in memory, and
//! lists again when a watch ends.
//!
//! # Caches and copies
//!
//! A [`Cache`](mirror::Cache) serves reads of a prefix from memory. Writes through the cache are visible in it
//! at once; for the writes of others, each read sets the staleness that it accepts.
//!
//! ```
//! use etcd_blocking::Client;
//! use etcd_blocking::mirror::Cache;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! let flags = Cache::open(&client, "flags/")?;
//! flags.put("flags/dark", "on")?;
//! assert!(flags.get("flags/dark")?.is_some(), "from memory");
//! let elsewhere = client.put("flags/beta", "on")?;
//! assert!(flags.get_at_least(elsewhere.revision(), "flags/beta")?.is_some());
//! # Ok(()) }
//! ```
//!
//! [`MakeMirror`](mirror::MakeMirror) copies a prefix to another cluster and keeps the copy up to date. It resumes
//! after outages of both clusters.
//!
//! # Leases
//!
//! etcd deletes the keys that are attached to a lease when the lease expires.
//!
//! ```
//! use std::time::Duration;
//! use etcd_blocking::{Client, Put};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! let lease = client.grant(Duration::from_secs(10))?;
//! client.call(Put::new("lock/holder", "me").lease(lease.id()))?;
//! let alive = client.keep_alive(lease.id())?;
//! let renewal = alive.receiver().recv()??;
//! assert!(renewal.deadline().remaining() > Duration::from_secs(5));
//! # Ok(()) }
//! ```
//!
//! # Locks and elections
//!
//! A [`Session`](concurrency::Session) is a lease that is kept alive; a
//! [`Mutex`](concurrency::Mutex) and an [`Election`](concurrency::Election) use it. No lock stops a
//! process that is paused: check the fencing token where the protected resource is written, or, for
//! resources in etcd, guard the write with the holder's key.
//!
//! ```
//! use std::time::Duration;
//! use etcd_blocking::{Client, Put, Txn};
//! use etcd_blocking::concurrency::{Election, Mutex, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! let session = Session::builder(&client).ttl(Duration::from_secs(15)).start()?;
//! let guard = Mutex::new(&session, "locks/report").lock_timeout(Duration::from_secs(5))?;
//! let still_mine = Txn::when([guard.is_owner()]).then([Put::new("report", "done")]);
//! assert!(client.txn(still_mine)?.succeeded());
//! guard.unlock()?;
//!
//! let leadership = Election::new(&session, "elections/scheduler").campaign("10.0.0.5:8080")?;
//! assert!(leadership.check().is_ok(), "leading");
//! leadership.resign()?;
//! # Ok(()) }
//! ```
//!
//! The module [`concurrency`] has also reader-writer locks, queues, barriers, and
//! [`Stm`](concurrency::Stm), which runs a closure as a transaction.
//!
//! # Views
//!
//! A view is the same client with another setting. It is cheap, and shares everything with its client.
//! There are views whose keys are all under a prefix ([namespace](Client::namespace)), whose reads are
//! [ordered](Client::ordered), with [another deadline](Client::with_timeout), and that use
//! [one endpoint](Client::at).
//!
//! ```
//! use etcd_blocking::{Client, Get};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! let app = client.namespace("app/")?;
//! app.put("color", "red")?;
//! assert_eq!(app.get_prefix("")?[0].key(), "color");
//! assert!(client.get("app/color")?.is_some());
//!
//! let ordered = app.ordered();
//! ordered.put("color", "blue")?;
//! let read = ordered.call(Get::key("color").serializable())?;
//! assert_eq!(read.first().expect("just put").value(), "blue");
//! # Ok(()) }
//! ```
//!
//! # TLS, users and permissions
//!
//! The client always verifies `https` endpoints, by the system's certificate authorities or those of a
//! `Tls`. It reads files again for every connection, so that a rotation needs no restart.
//!
//! ```no_run
//! # #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
//! # fn connect() -> etcd_blocking::Result<()> {
//! use etcd_blocking::{Client, Tls};
//!
//! let tls = Tls::new()
//!     .ca_file("/etc/etcd/ca.pem")
//!     .client_cert_files("/etc/etcd/client.pem", "/etc/etcd/client.key");
//! let client = Client::builder(["https://10.0.0.1:2379"]).tls(tls).connect()?;
//! # Ok(()) }
//! # fn main() {}
//! ```
//!
//! A [user](ClientBuilder::user) has the permissions of its roles. The client renews its token, also for open
//! watches and leases. It sends a password over a connection without TLS only when that is
//! [allowed](ClientBuilder::allow_plaintext_credentials).
//! [The page about security](docs::security) has an example.
//!
//! # A cluster and its members
//!
//! Give a client all endpoints: it uses those that work. For requests about one member, use a view that is
//! aimed at the member.
//!
//! ```
//! use etcd_blocking::Client;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = Client::connect([etcd.endpoint()])?;
//! for health in client.maintenance().health()? {
//!     assert!(health.is_healthy(), "{}: {:?}", health.endpoint, health.error);
//!     let status = client.at(&health.endpoint)?.maintenance().status()?;
//!     println!("{}: {} bytes, leader: {}", health.endpoint, status.db_size(), status.is_leader());
//! }
//! assert_eq!(client.cluster().member_list()?.members().len(), 1);
//!
//! let mut backup = Vec::new();
//! let saved = client.maintenance().snapshot_to(&mut backup)?;
//! assert_eq!(saved.size, backup.len() as u64, "and its hash is right");
//! # Ok(()) }
//! ```
//!
//! Members are [added](crate::cluster::Cluster::member_add), as learners too, [promoted](crate::cluster::Cluster::member_promote) and
//! [removed](crate::cluster::Cluster::member_remove); endpoints can [follow](ClientBuilder::sync_interval) them, or come from
//! [DNS](config::SrvLookup).
//!
//! # Configuration
//!
//! Every setting is a method of [`ClientBuilder`]. [`ClientBuilder::from_env`] reads them from the environment,
//! and with the feature `serde` a [`Config`](config::Config) is read from a file, under the names of clientv3.
//!
//! ```
//! use etcd_blocking::config::Config;
//!
//! # fn main() -> etcd_blocking::Result<()> {
//! let config = Config::from_vars([
//!     ("ETCD_ENDPOINTS", "10.0.0.1:2379,10.0.0.2:2379"),
//!     ("ETCDCTL_COMMAND_TIMEOUT", "2s"),
//! ])?;
//! let client = config.builder()?.connect()?;
//! assert_eq!(client.timeout().as_secs(), 2);
//! # Ok(()) }
//! ```
//!
#![doc = include_str!("client/config/defaults.md")]
//!
//! # Metrics and tracing
//!
//! [`Client::metrics`] returns plain numbers: calls by verb and outcome, latencies, connections,
//! watches and leases. Counting is always on and costs some tens of nanoseconds a call.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = etcd_blocking::local::LocalEtcd::start()?;
//! # let client = etcd_blocking::Client::connect([etcd.endpoint()])?;
//! client.put("greeting", "hello")?;
//! let metrics = client.metrics();
//! assert_eq!(metrics.call("put").map(|put| put.ok), Some(1));
//! let p99 = metrics.latency().quantile(0.99);
//! println!("{metrics}");
//! # Ok(()) }
//! ```
//!
//! The feature `tracing` emits spans and events, which [a table](docs::observability) lists. They contain
//! keys, as errors do; they contain no values, passwords and tokens.
//!
//! # Channels
//!
//! Items of flows arrive on [`crossbeam_channel`] receivers; the number of unread items is bounded. Handles
//! of one flow ([`Watcher`], [`watch::WatchSet`], [`KeepAlive`], [`concurrency::Observer`],
//! [`lock_service::Leaders`]) have the same methods:
//!
//! | method | what it does |
//! |---|---|
//! | `receiver()` | returns the channel, for `select!` |
//! | `recv()` | blocks until an item arrives; `None` after the last one |
//! | `recv_timeout(timeout)` | blocks for at most `timeout` |
//! | `try_recv()` | returns what has arrived; does not block |
//! | `iter()`, `for item in &handle` | blocks for each item; ends after the last one |
//! | `ended()` | returns the error of the last item; `None` before it; does not block |
//! | `close()` | ends the flow, as dropping the handle does |
//!
//! An item that is an `Err` is the last one. Handles that show a state return the channel of its changes:
//! [`ServiceView::changes`], [`Mirror::changes`](mirror::Mirror::changes),
//! [`Cache::changes`](mirror::Cache::changes) and [`Registration::states`].
//!
//! # Errors
//!
//! Reads are repeated until the deadline, on other members first. Writes are repeated only with proof that
//! they were not executed; otherwise the [`Error`] has [`outcome_unknown`](Error::outcome_unknown).
//! Every error names the operation, the endpoint, the attempts and the cause; programs use its
//! [`kind`](Error::kind).
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `tls` | yes | TLS and mTLS by rustls, with ring: `Tls` |
//! | `tls-aws-lc` | no | TLS by rustls with aws-lc, which takes precedence over ring |
//! | `serde` | no | [`Config`](config::Config) from files |
//! | `tracing` | no | spans and events |
//! | `local` | no | the module `local`: private etcd processes for demos and tests |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
pub mod concurrency;
mod discovery;
#[cfg(doc)]
pub mod docs;
mod error;
// Public for the programs in `fuzz/` only, which are compiled with this setting.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
mod fuzz;
mod grpc;
#[cfg(feature = "local")]
pub mod local;
mod observe;
mod replica;
mod rpc;
mod runtime;
mod types;
mod util;
mod worker;

pub use bytes;
pub use crossbeam_channel;

pub use client::Client;
pub use client::builder::ClientBuilder;
pub use client::pages::Pages;
pub use discovery::public::{balance, codec, health};
pub use discovery::{
    Balance, CatalogChange, Cause, Change, Discovery, Freshness, Instance, Loss, OnConflict,
    Override, Protection, Registrar, RegistrarBuilder, Registration, ServiceCatalog, ServiceView,
    State, Status,
};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "__tls")]
pub use grpc::tls::Tls;
pub use rpc::kv::{
    Compact, Compare, Delete, DeleteResponse, Get, GetResponse, Op, OpResponse, Put, PutResponse,
    Txn, TxnResponse,
};
pub use rpc::lease::{Grant, KeepAlive, Lease, Renewal, Revoke, TimeToLive};
pub use rpc::request::Request;
pub use rpc::watch::{Event, EventKind, Watch, WatchResponse, Watcher};
pub use runtime::Pending;
pub use types::into_bytes::IntoBytes;
pub use types::key_range::KeyRange;
pub use types::{KeyValue, LeaseId, ResponseHeader, Revision};

/// Users, roles and permissions: [`Client::auth`] and the requests behind its verbs.
pub mod auth {
    pub use crate::client::auth::Auth;
    pub use crate::rpc::auth::{
        Access, AuthDisable, AuthEnable, AuthResponse, AuthStatus, AuthStatusResponse,
        Authenticate, AuthenticateResponse, Permission, RoleAdd, RoleDelete, RoleGet,
        RoleGetResponse, RoleGrantPermission, RoleList, RoleListResponse, RoleRevokePermission,
        UserAdd, UserChangePassword, UserDelete, UserGet, UserGetResponse, UserGrantRole, UserList,
        UserListResponse, UserRevokeRole,
    };
}

/// The members of a cluster: [`Client::cluster`] and the requests behind its verbs.
pub mod cluster {
    pub use crate::client::cluster::Cluster;
    pub use crate::rpc::cluster::{
        Member, MemberAdd, MemberAddResponse, MemberList, MemberPromote, MemberRemove,
        MemberUpdate, MembersResponse,
    };
    pub use crate::types::MemberId;
}

/// Status, alarms, snapshots and defragmentation: [`Client::maintenance`] and the requests behind its verbs.
pub mod maintenance {
    pub use crate::client::maintenance::Maintenance;
    pub use crate::rpc::maintenance::{
        Alarm, AlarmDisarm, AlarmKind, AlarmList, AlarmResponse, Defragment, Downgrade,
        DowngradeInfo, DowngradeResponse, EndpointHealth, EndpointStatus, Hash, HashKv,
        HashKvResponse, HashResponse, MoveLeader, SnapshotProgress, SnapshotStream, StatusResponse,
        VerifiedSnapshot,
    };
}

/// The lock and election services that run inside the server: [`Client::lock_service`] and the requests behind its verbs.
///
/// [`concurrency`] has locks and elections that notice the loss of their lease.
pub mod lock_service {
    pub use crate::client::lock_service::LockService;
    pub use crate::rpc::lock_service::{
        Campaign, CampaignResponse, Leader, LeaderKey, LeaderResponse, Leaders, Lock, LockResponse,
        Proclaim, ProclaimResponse, Resign, ResignResponse, Unlock, UnlockResponse,
    };
}

/// Requests and responses of the key-value service.
pub mod kv {
    pub use crate::client::pages::Pages;
    pub use crate::rpc::kv::{
        Compact, CompactResponse, Compare, Delete, DeleteResponse, Get, GetResponse, Op,
        OpResponse, Put, PutResponse, SortOrder, SortTarget, Target, Txn, TxnResponse, Value,
    };
    pub use crate::types::key_range::prefix_end;
}

/// Requests and responses of the lease service.
pub mod lease {
    pub use crate::rpc::lease::{
        Deadline, Grant, KeepAlive, KeepAliveOnce, KeepsAlive, Lease, Leases, LeasesResponse,
        Renewal, Revoke, RevokeResponse, TimeToLive, TimeToLiveResponse,
    };
}

/// Watches of one range, of many ranges in one channel, and of single keys.
pub mod watch {
    pub use crate::rpc::watch::{
        Event, EventKind, LatestSet, Watch, WatchKey, WatchResponse, WatchSet, Watcher,
    };
}

/// Copies of a key range that are kept up to date: [`Mirror`](mirror::Mirror) in memory, [`Cache`](mirror::Cache) for reads, [`MakeMirror`](mirror::MakeMirror) in another cluster.
pub mod mirror {
    pub use crate::replica::cache::{Cache, CacheBuilder};
    pub use crate::replica::copy::{CopyProgress, Extraneous, MakeMirror, MirrorCopy};
    pub use crate::replica::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause, Snapshot};
}

/// The settings of a client, from code, files and the environment.
pub mod config {
    pub use crate::client::builder::ClientBuilder;
    pub use crate::client::config::{Config, SecureConfig};
    pub use crate::client::into_endpoints::IntoEndpoints;
    pub use crate::grpc::connect::dns_srv::SrvLookup;
    #[cfg(feature = "__tls")]
    pub use crate::grpc::tls::Tls;
    pub use crate::runtime::DriveMode;
}

/// Counters and latencies of a client: [`Client::metrics`].
pub mod metrics {
    pub use crate::observe::{
        CallMetrics, EndpointMetrics, Latencies, LeaseMetrics, Metrics, TokenMetrics, ViewMetrics,
        WatchMetrics,
    };
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! A blocking etcd v3 client, with service registration and discovery as its main job.
//!
//! No function of this crate is async and no type of it is a future. Every verb blocks the calling
//! thread until its answer is there or its deadline has passed, and what flows (watch events, lease
//! renewals, changes of services) arrives on [`crossbeam_channel`] receivers, so that a program can
//! `select!` over etcd and its own channels.
//!
//! # Calling from async code
//!
//! It works: a call never panics inside an async runtime, and neither do making and dropping a
//! client. But it *blocks* the worker thread that it is called on. In a server with few workers, use
//! the runtime's own way of running blocking code (tokio's `spawn_blocking`).
//!
//! # Be found, and find
//!
//! A [`Registrar`] keeps all instances of a process registered under one lease, whatever happens; a
//! [`Discovery`] makes views of services that never forget the last good list.
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
//! let registrar = Registrar::new(&client).ttl(Duration::from_secs(15)).start()?;
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
//! How a registration is, is a [`State`]; what happens to a service, is a [`Change`], and each
//! instance that goes has a [`Cause`]. [`Codec::Plain`] is what the usual Go programs write.
//!
//! # Keys and values
//!
//! Plain verbs for plain things; every option of etcd is a method of a request, and a request is a
//! value that can be called, submitted, or put into a transaction.
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
//! # Watching
//!
//! A [`Watcher`] delivers every change of a range, in order and without a gap, whatever happens to
//! connections and servers. When that is impossible (the history is compacted, or the store lost
//! data), its last item is an `Err` that says so.
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
//! | ordered, unique, atomic | revisions strictly increase; nothing comes twice; what happened at one revision is one item |
//! | reliable, resumable | it survives any disconnect and goes on after what was delivered, elsewhere if need be |
//! | no silent gap | compacted, rewound or forbidden: the last item is an `Err` |
//! | bounded | a slow reader holds 128 responses and 8 MiB at most; then the watch pauses, and resumes when it has caught up |
//! | lively | a server that is silent is asked, and left when it does not answer |
//!
//! A [`Mirror`] puts list and watch together: a range of keys in memory, always consistent, that
//! lists again by itself when a watch has to give up.
//!
//! # Leases
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
//! # When things fail
//!
//! Reads are repeated until the deadline, elsewhere first. Writes are repeated only with proof that
//! they were not executed; otherwise the [`Error`] says [`outcome_unknown`](Error::outcome_unknown).
//! Every error names the operation, the endpoint, the attempts and the cause; programs decide by its
//! [`kind`](Error::kind).
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `local` | no | the module `local`: private etcd processes for demos and tests |
//!
//! Limits of this version: plain TCP and unix sockets only (no TLS), and no users and passwords.

mod auth;
mod backoff;
mod cache;
mod chance;
mod client;
mod cluster;
pub mod concurrency;
mod config;
mod discovery;
mod error;
mod etcd_rs_proto;
mod key;
mod kv;
mod lease;
#[cfg(feature = "local")]
pub mod local;
mod maintenance;
mod make_mirror;
mod mirror;
mod namespace;
mod observe;
mod pages;
mod request;
mod rt;
mod secret;
mod services;
mod srv;
mod time;
mod transport;
mod types;
mod watch;

pub use bytes;
pub use crossbeam_channel;

pub use auth::{
    Access, AuthDisable, AuthEnable, AuthResponse, AuthStatus, AuthStatusResponse, Authenticate,
    AuthenticateResponse, Permission, RoleAdd, RoleDelete, RoleGet, RoleGetResponse,
    RoleGrantPermission, RoleList, RoleListResponse, RoleRevokePermission, UserAdd,
    UserChangePassword, UserDelete, UserGet, UserGetResponse, UserGrantRole, UserList,
    UserListResponse, UserRevokeRole,
};
pub use cache::{Cache, CacheBuilder};
pub use client::Client;
pub use cluster::{
    Member, MemberAdd, MemberAddResponse, MemberList, MemberPromote, MemberRemove, MemberUpdate,
    MembersResponse,
};
pub use config::{ClientBuilder, Config, SecureConfig};
pub use discovery::{
    Balance, Cause, Change, Codec, Discovery, Instance, Loss, OnConflict, Registrar,
    RegistrarBuilder, Registration, ServiceView, State, Status,
};
pub use error::{Error, ErrorKind, Result};
pub use key::{KeyRange, prefix_end};
pub use kv::{
    Compact, CompactResponse, Compare, Delete, DeleteResponse, Get, GetResponse, Op, OpResponse,
    Put, PutResponse, SortOrder, SortTarget, Target, Txn, TxnResponse,
};
pub use lease::{
    Deadline, Grant, KeepAlive, KeepAliveOnce, KeepsAlive, Lease, Leases, LeasesResponse, Renewal,
    Revoke, RevokeResponse, TimeToLive, TimeToLiveResponse,
};
pub use maintenance::{
    Alarm, AlarmDisarm, AlarmKind, AlarmList, AlarmResponse, Defragment, Downgrade, DowngradeInfo,
    DowngradeResponse, EndpointHealth, EndpointStatus, Hash, HashKv, HashKvResponse, HashResponse,
    MoveLeader, SnapshotProgress, SnapshotStream, StatusResponse, VerifiedSnapshot,
};
pub use make_mirror::{CopyProgress, Extraneous, MakeMirror, MirrorCopy};
pub use mirror::{KeyChange, Mirror, MirrorEvent, Snapshot};
pub use observe::{
    CallMetrics, EndpointMetrics, Latencies, LeaseMetrics, Metrics, TokenMetrics, WatchMetrics,
};
pub use pages::Pages;
pub use request::Request;
#[doc(hidden)]
pub use rt::Drive;
pub use rt::Pending;
pub use services::{
    Campaign, CampaignResponse, Leader, LeaderKey, LeaderResponse, Leaders, Lock, LockResponse,
    Proclaim, ProclaimResponse, Resign, ResignResponse, Unlock, UnlockResponse,
};
pub use srv::SrvLookup;
#[cfg(feature = "__tls")]
pub use transport::tls::Tls;
pub use types::{KeyValue, LeaseId, MemberId, ResponseHeader, Revision};
pub use watch::{Event, EventKind, Iter, Watch, WatchKey, WatchResponse, WatchSet, Watcher};

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

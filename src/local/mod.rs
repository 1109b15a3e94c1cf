//! Real etcd processes and faults for demos and tests: one server or a cluster, in private directories, killed
//! on drop, and a [`Proxy`] that breaks the network between them and a client.
//!
//! ```no_run
//! use etcd_blocking::local::LocalEtcd;
//!
//! let etcd = LocalEtcd::start()?;
//! println!("etcd answers at {}", etcd.endpoint());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What runs
//!
//! The environment variable `ETCD_BIN` names the program; without it, the module runs the one that the
//! crate `etcd-bin-vendored` ships. etcd 3.4 and later work. Each process listens on its own ports of
//! 127.0.0.1, below the usual ephemeral range; ports of programs that use this module at the same time never
//! collide, also while a server is stopped. On Linux, the port of a stopped server is assigned to no connection. A process
//! keeps its data and its log in its own directory below [`std::env::temp_dir`].
//!
//! # Faults
//!
//! A [`LocalEtcd`] can be paused, killed, restarted and wiped, its history compacted and its leases revoked.
//! A [`Proxy`] cuts, holds, delays, throttles or discards what a client and a server send, in one direction
//! or both, for all connections or one. The page `docs/testing.md` has worked examples.
//!
//! # TLS
//!
//! [`LocalEtcdBuilder::tls`] and [`LocalEtcdBuilder::client_ca`] (and the same methods of
//! [`LocalClusterBuilder`]) enable TLS on the client port; [`LocalEtcd::endpoint`] then begins with
//! `https`. Health and metrics are read from another port of 127.0.0.1 without TLS.
//!
//! # Limits
//!
//! Do not keep valuable data in these servers: fsync is off where etcd has a flag for it (3.5 and later),
//! and election timeouts are much shorter than etcd's defaults.
//!
//! # Cleanup
//!
//! Dropping a [`LocalEtcd`] kills its process, waits until it has ended and removes its directory, also
//! while the thread unwinds from a panic. When the *program* is killed or exits without unwinding
//! (SIGKILL, `abort`, `std::process::exit`), no destructor runs: its etcd processes keep running, and
//! directories named `etcd-blocking-*` stay behind. Ctrl-C in a terminal also ends the etcd processes, and
//! leaves only the directories.

mod binary;
mod cluster;
mod etcd;
mod flags;
mod http;
mod ports;
mod process;
mod proxy;
mod ready;
mod resolver;
mod start;
mod status;
mod store;

pub use self::{
    cluster::{LocalCluster, LocalClusterBuilder},
    etcd::LocalEtcd,
    proxy::{Direction, ProxiedConnection, Proxy, ProxyBuilder},
    resolver::resolve_with,
    start::LocalEtcdBuilder,
    status::MemberStatus,
};

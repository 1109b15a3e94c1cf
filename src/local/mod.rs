//! Real etcd processes for demos and tests: one server or a cluster, private and gone when dropped.
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
//! The program named by the environment variable `ETCD_BIN`, or else the one that the crate
//! `etcd-bin-vendored` ships. etcd 3.4 and later work. Each process listens on 127.0.0.1 only, on
//! ports of its own, and keeps its data and its log in a directory of its own below
//! [`std::env::temp_dir`].
//!
//! # TLS
//!
//! [`LocalEtcdBuilder::tls`] and [`LocalEtcdBuilder::client_ca`] (and those of a cluster) put the
//! client port under TLS; [`LocalEtcd::endpoint`] then says `https`. Health and metrics are read from
//! a port in the clear, which listens on 127.0.0.1 too.
//!
//! # What it is not for
//!
//! Data that matters: fsync is off where etcd has a switch for it (3.5 and later), and elections
//! are much faster than etcd's defaults would make them.
//!
//! # When it ends
//!
//! A dropped [`LocalEtcd`] kills its process, waits for its end and removes its directory, also
//! while the thread unwinds from a panic. Nothing runs when the *program* dies at once (SIGKILL,
//! `abort`, `std::process::exit`): its etcd processes then live on, and directories named
//! `etcd-blocking-*` stay behind. Ctrl-C in a terminal reaches etcd as well as the program, so it
//! leaves the directories, not the processes.

mod binary;
mod cluster;
mod etcd;
mod flags;
mod http;
mod ports;
mod process;
mod resolver;
mod start;
mod status;

pub use self::{
    cluster::{LocalCluster, LocalClusterBuilder},
    etcd::LocalEtcd,
    resolver::resolve_with,
    start::LocalEtcdBuilder,
    status::MemberStatus,
};

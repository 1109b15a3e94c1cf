//! skeleton
#![allow(dead_code, missing_docs, unused_imports)]
mod backoff;
mod client;
mod config;
mod discovery;
mod error;
mod etcd_rs_proto;
mod key;
mod kv;
mod lease;
#[cfg(feature = "local")]
pub mod local;
mod mirror;
mod pages;
mod request;
mod rt;
mod time;
mod transport;
mod types;
mod watch;
pub use bytes;
pub use client::Client;
pub use config::ClientBuilder;
pub use crossbeam_channel;
pub use discovery::*;
pub use error::{Error, ErrorKind, Result};
pub use key::{KeyRange, prefix_end};
pub use kv::*;
pub use lease::*;
pub use mirror::{KeyChange, Mirror, MirrorEvent, Snapshot};
pub use pages::Pages;
pub use request::Request;
pub use rt::{Drive, Pending};
pub use types::*;
pub use watch::*;

//! What a peer is called with, and the keys that all peers use.

use std::io::{Read as _, Write as _};

use crate::Failure;
use crate::params::Params;
use crate::report::Report;

/// What a peer is called with.
#[derive(Debug)]
pub struct Task {
    pub endpoint: String,
    pub work: String,
    pub params: Params,
}

impl Task {
    /// From the arguments `ENDPOINT WORK KEY=VALUE...`.
    pub fn parse(args: &[String]) -> Result<Self, Failure> {
        let [endpoint, work, params @ ..] = args else {
            return Err("usage: ENDPOINT WORK KEY=VALUE...".into());
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            work: work.clone(),
            params: Params::parse(params)?,
        })
    }
}

/// Tells the runner that watches are open, leases are kept alive or clients are idle.
pub fn ready() -> Result<(), Failure> {
    println!("ready");
    Ok(std::io::stdout().flush()?)
}

/// Waits until the runner closes the standard input.
pub fn wait_for_end() -> Result<(), Failure> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// There is nothing in this client that does the work.
pub fn no_counterpart() -> Report {
    Report::none("no counterpart")
}

pub fn key_of_value(size: usize) -> String {
    format!("peers/v/{size}")
}

pub fn key_of_put(thread: usize) -> String {
    format!("peers/w/{thread}")
}

pub fn key_of_txn(thread: usize) -> String {
    format!("peers/t/{thread}")
}

pub fn range_prefix(keys: usize) -> String {
    format!("peers/r{keys}/")
}

/// The keys of live events: watcher `n` watches its own key.
pub fn watched_key(n: usize) -> String {
    format!("peers/l/{n:04}")
}

pub const LIVE_PREFIX: &str = "peers/l/";
pub const PAST_PREFIX: &str = "peers/h/";

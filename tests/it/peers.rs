//! Programs of other registries' libraries and this crate, registering and discovering on one etcd.
//!
//! The programs are in the Go modules `tests/peers/go` (clientv3 with gRPC-Go, go-zero, kratos) and
//! `tests/peers/coredns`; `go` downloads what they need. Where they cannot be built, the tests print that they are
//! skipped, unless `ETCD_BLOCKING_GO=required`, which `.ci/run` sets where Go is installed.

mod dns;
mod golden;
mod ours;
mod program;
mod several;
mod theirs;

use std::time::Duration;

use etcd_blocking::codec::Codec;
use etcd_blocking::crossbeam_channel::RecvTimeoutError;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Change, Client, Discovery, Instance, Protection, Registrar, ServiceView};

use program::{Peer, Running};

const SOON: Duration = Duration::from_secs(30);

fn client(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

/// A discovery whose views remove an instance with its key, and never connect to it: the addresses in these tests are
/// those of nobody.
fn discovery(client: &Client, codec: impl Codec + 'static) -> Discovery {
    let discovery = Discovery::new(client).codec(codec);
    discovery.protection(Protection::off().probe(false))
}

/// Reads changes of a view until one is accepted.
#[track_caller]
fn until<T>(view: &ServiceView, what: &str, wanted: impl Fn(&Change) -> Option<T>) -> T {
    let mut others = Vec::new();
    loop {
        match view.changes().recv_timeout(SOON) {
            Ok(change) => match wanted(&change) {
                Some(found) => return found,
                None => others.push(change),
            },
            Err(RecvTimeoutError::Timeout) => panic!("not seen: {what}, only {others:#?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the view ended before {what}"),
        }
    }
}

/// The sorted addresses of a view.
fn addrs(view: &ServiceView) -> Vec<String> {
    let mut addrs: Vec<_> = view.snapshot().iter().map(|i| i.addr.clone()).collect();
    addrs.sort();
    addrs
}

//! Sessions, locks and elections: what is held, by whom, and who learns when it is not.

use std::time::Duration;

use etcd_blocking::concurrency::Session;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Put};

use crate::support::wait::eventually;

mod session;

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(15);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

fn session(client: &Client) -> Session {
    Session::new(client).ttl(secs(30)).start().unwrap()
}

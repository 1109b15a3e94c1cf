//! Sessions, locks and elections.

use std::time::Duration;

use etcd_blocking::concurrency::Session;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Put};

use crate::support::wait::eventually;

mod election;
mod ended_session;
mod faults;
mod mutex;
mod own_key;
mod paused;
mod permissions;
mod rw_lock;
mod services;
mod session;
mod stale;

/// Long, because the machine may be busy.
const SOON: Duration = Duration::from_secs(15);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

/// The keys below a prefix.
fn keys(client: &Client, prefix: &str) -> Vec<String> {
    let kvs = client.get_prefix(prefix.to_owned()).unwrap();
    kvs.iter().map(|kv| kv.key_lossy().into_owned()).collect()
}

/// Waits until a prefix has `count` keys.
#[track_caller]
fn keys_become(client: &Client, prefix: &str, count: usize) {
    eventually(SOON, &format!("{count} keys below {prefix}"), || {
        (keys(client, prefix).len() == count).then_some(())
    });
}

fn session(client: &Client) -> Session {
    Session::builder(client).ttl(secs(30)).start().unwrap()
}

//! Tests a program against a real etcd, with faults: pause, kill, restart, loss of all data.
//!
//! ```sh
//! cargo run --example testing
//! ```
//!
//! A test does the same between `#[test]` and its assertions. Each `LocalEtcd` has its own ports and
//! its own directory, so tests run in parallel.

use std::error::Error;
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::{LocalCluster, LocalEtcd};

fn main() -> Result<(), Box<dyn Error>> {
    let mut etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    client.put("color", "red")?;

    // A server that is stopped: the connection stays open, and nothing answers.
    etcd.pause()?;
    let error = client.with_timeout(Duration::from_millis(300)).get("color");
    println!("paused: {:?}", error.map_err(|error| error.kind()));
    etcd.resume()?;
    println!("resumed: {}", client.get("color")?.is_some());

    // A crash, and a start with the same data at the same address.
    etcd.kill()?;
    etcd.restart()?;
    println!("restarted: {}", client.get("color")?.is_some());

    // A start without data.
    etcd.restart_wiped()?;
    println!("wiped: {}", client.get("color")?.is_some());

    // Three members. The client uses another one when the leader is stopped.
    let mut cluster = LocalCluster::start(3)?;
    let client = Client::connect(cluster.endpoints())?;
    client.put("color", "blue")?;
    let leader = cluster.leader()?;
    cluster.member_mut(leader).kill()?;
    println!("without its leader: {}", client.get("color")?.is_some());
    Ok(())
}

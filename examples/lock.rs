//! Runs a job on one of several workers at a time, with a lock in etcd.
//!
//! ```sh
//! cargo run --example lock
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use etcd_blocking::concurrency::{Mutex, Session};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Put, Txn};

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    let workers = [1, 2, 3].map(|number| {
        let client = client.clone();
        thread::spawn(move || work(&client, number))
    });
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    let report = client.get("report")?.ok_or("nobody wrote the report")?;
    println!("the report was written {} times", report.version());
    Ok(())
}

fn work(client: &Client, number: u32) -> etcd_blocking::Result<()> {
    // A lease that is kept alive: if this process crashes, its lock is free after the TTL.
    // One session is one contender, so each worker has its own.
    let session = Session::builder(client)
        .ttl(Duration::from_secs(5))
        .start()?;
    let lock = Mutex::new(&session, "locks/report");
    let guard = lock.lock_timeout(Duration::from_secs(10))?;
    println!(
        "worker {number} has the lock, with fencing token {}",
        guard.fencing_token()
    );

    // etcd executes the write only while this worker has the lock. A check before the write would not
    // be enough: the process may be paused between the two for longer than the lease lives.
    let write = Put::new("report", format!("written by worker {number}"));
    let written = client.txn(Txn::when([guard.is_owner()]).then([write]))?;
    println!("worker {number} wrote the report: {}", written.succeeded());

    guard.unlock()?; // dropping the guard unlocks, too, but cannot report a failure
    session.close()
}

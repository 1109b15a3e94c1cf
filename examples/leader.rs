//! Elects a leader among candidates; when it resigns, another candidate leads.
//!
//! ```sh
//! cargo run --example leader
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::concurrency::{Election, Session};
use etcd_blocking::local::LocalEtcd;

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;

    // An observer reports each leader, and `None` when there is no leader. It need not be a candidate.
    let session = Session::builder(&client).start()?;
    let observer = Election::new(&session, "elections/scheduler").observe()?;
    let candidates = ["127.0.1.1:8080", "127.0.1.2:8080"].map(|addr| {
        let client = client.clone();
        thread::spawn(move || stand(&client, addr))
    });
    let mut leaders = 0;
    while leaders < candidates.len() {
        if let Some(leader) = observer.receiver().recv()?? {
            println!("observed: {:?} leads", leader.value_str());
            leaders += 1;
        }
    }
    for candidate in candidates {
        candidate.join().map_err(|_| "a candidate panicked")??;
    }
    println!("both candidates have led");
    Ok(())
}

fn stand(client: &Client, addr: &str) -> etcd_blocking::Result<()> {
    // If this process crashes, the lease ends after the TTL and the next candidate leads.
    let ttl = Duration::from_secs(5);
    let session = Session::builder(client).ttl(ttl).start()?;
    let leadership = Election::new(&session, "elections/scheduler").campaign(addr)?; // blocks
    println!("{addr} leads with token {}", leadership.fencing_token());
    // The leader works, and stops at once when the leadership is lost.
    if let Ok(error) = leadership.lost().recv_timeout(Duration::from_millis(300)) {
        return Err(error);
    }
    leadership.resign()?;
    session.close()
}

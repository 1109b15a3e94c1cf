//! Keeps the settings of a program in memory, and applies changes while it runs.
//!
//! ```sh
//! cargo run --example watch_config
//! ```

use std::error::Error;
use std::thread;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::{KeyChange, MirrorEvent};
use etcd_blocking::{Client, KeyRange};

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    client.put("config/workers", "4")?;

    // Blocks until all settings are in memory. From then on the mirror follows them, through lost
    // connections, restarts of etcd and compactions.
    let config = client.mirror(KeyRange::prefix("config/"))?;

    // An operator changes settings. The mirror ends with the last clone of its client: keep one here.
    let writer = client.clone();
    let operator = thread::spawn(move || {
        writer.put("config/log-level", "debug")?;
        writer.put("config/workers", "8")?;
        writer.delete("config/log-level")?;
        writer.put("config/stop", "now")
    });

    for event in config.changes() {
        let changes = match event? {
            // The first event is a reset with the settings at the start.
            MirrorEvent::Reset { changes, .. } | MirrorEvent::Changed { changes, .. } => changes,
            // Stale, and live again: the settings in memory are kept.
            _ => continue,
        };
        for change in &changes {
            match change {
                KeyChange::Put { kv, .. } => println!("{} = {:?}", kv.key_lossy(), kv.value_str()),
                KeyChange::Deleted { prev, .. } => println!("{} is not set", prev.key_lossy()),
                _ => {}
            }
        }
        if changes.iter().any(|change| change.key() == "config/stop") {
            break;
        }
    }
    operator.join().map_err(|_| "the operator panicked")??;
    let snapshot = config.snapshot();
    let workers = snapshot.get(b"config/workers").ok_or("not set")?;
    println!("at the end there are {} workers", workers.parse::<u32>()?);
    Ok(())
}

//! Waits for several things at once: a watch, a request, the program's own work, and a timer.
//!
//! ```sh
//! cargo run --example select
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{after, bounded, never, select};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Put};

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    let watcher = client.watch_prefix("results/")?;

    // The program's own work arrives on a channel of its own.
    let (sender, mut work) = bounded(1);
    thread::spawn(move || (1..=3).try_for_each(|job| sender.send(job)));

    // `submit` returns at once, and its answer arrives on a channel.
    let pending = client.submit(Put::new("started", "now"));
    let mut answer = pending.receiver().clone();
    let timeout = after(Duration::from_secs(30));

    let mut results = 0;
    while results < 3 {
        select! {
            recv(work) -> job => match job {
                Ok(job) => drop(client.put(format!("results/{job}"), "done")?),
                // A closed channel is always ready: replace it, or the loop spins.
                Err(_) => work = never(),
            },
            recv(watcher.receiver()) -> response => {
                for event in response??.events() {
                    println!("watched: {}", event.kv().key_lossy());
                    results += 1;
                }
            }
            recv(answer) -> put => {
                println!("started at revision {}", put??.revision());
                answer = never(); // there is one answer
            }
            recv(timeout) -> _ => return Err("not done in 30 s".into()),
        }
    }
    println!("all three results were seen");
    Ok(())
}

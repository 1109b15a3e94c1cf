//! Reads a prefix from memory, and chooses for each read how new the answer must be.
//!
//! ```sh
//! cargo run --example cache
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::Cache;

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;

    // No read returns what may be older than the limit.
    let flags = Cache::builder(&client, "flags/")
        .stale_limit(Duration::from_secs(1))
        .open()?;

    // A write through the cache is visible to the next read.
    flags.put("flags/dark", "on")?;
    println!(
        "dark: {:?}",
        flags
            .get("flags/dark")?
            .as_ref()
            .and_then(|kv| kv.value_str())
    );

    // A write of another program, whose revision is known.
    let elsewhere = client.put("flags/beta", "on")?;
    let beta = flags.get_at_least(elsewhere.revision(), "flags/beta")?;
    println!("beta: {:?}", beta.as_ref().and_then(|kv| kv.value_str()));

    // A write of another program, of which nothing is known: one small request makes certain.
    client.delete("flags/beta")?;
    println!("beta: {:?}", flags.get_linearizable("flags/beta")?);

    // Everything else is a read of memory.
    let begun = Instant::now();
    for _ in 0..100_000 {
        flags.get("flags/dark")?;
    }
    println!("100,000 reads in {:.1?}", begun.elapsed());
    Ok(())
}

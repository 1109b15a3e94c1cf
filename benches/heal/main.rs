//! Prints how long discovery takes to recover from faults: the slowest and the median of 20 rounds.
//!
//! `cargo bench --bench heal` takes about seven minutes; with a name (`live`, `keys` or `dns`) it runs one part.
//!
//! - `live`: a view that shows a cache file or an old list, from the return of etcd until it is live again;
//! - `keys`: one instance in four formats, from the answer to a fault until all four keys are right again;
//! - `dns`: CoreDNS with its etcd plugin, until it answers for an instance, and until it no longer does. It needs Go.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

mod dns;
mod keys;
mod live;

use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const SOON: Duration = Duration::from_secs(60);

/// Waits until this holds, looking again after `pause`. Returns how long it took since `begun`.
fn until(begun: Instant, pause: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    while !holds() {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}");
        thread::sleep(pause);
    }
    begun.elapsed()
}

/// A time in this range, so that the rounds meet the pauses of a client at any point.
fn random(from: Duration, to: Duration) -> Duration {
    let number = RandomState::new().hash_one(0) >> 40;
    from + (to - from).mul_f64(number as f64 / f64::from(1 << 24))
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{what:<44}  p50 {:>9}  max {:>9}  ({} rounds)",
        format!("{:.1?}", times[times.len() / 2]),
        format!("{:.1?}", times[times.len() - 1]),
        times.len()
    );
}

fn main() {
    let names: Vec<_> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 3] = [("live", live::run), ("keys", keys::run), ("dns", dns::run)];
    let is_named = |name: &str| names.iter().any(|other| other == name);
    let all = !parts.iter().any(|(name, _)| is_named(name));
    for (name, run) in parts {
        if all || is_named(name) {
            println!("{name}:");
            run();
        }
    }
}

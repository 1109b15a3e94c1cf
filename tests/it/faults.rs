//! Faults of the list in `tests/FAULTS.md` that no other file injects: links, members, refusals, endings of
//! streams, and many clients or watches at once.

mod crowds;
mod links;
mod members;
mod refusals;
mod streams;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

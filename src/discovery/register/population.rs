//! Estimates how many instances are registered in etcd, to spread their return after an outage.

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::rpc::kv::{Get, GetResponse};
use crate::runtime::Pending;
use crate::types::key_range::KeyRange;
use crate::util::jitter;

/// The mean time between two counts. etcd counts keys in its index, without reading them.
const INTERVAL: Duration = Duration::from_secs(600);

/// How many instances may return in a second. A grant and a write for each are within what etcd takes beside
/// its other work.
const RETURNS_PER_SECOND: u32 = 2000;

/// The longest time over which the return is spread.
const LONGEST: Duration = Duration::from_secs(5);

/// The number of instances in etcd, as it was counted last.
#[derive(Debug)]
pub(super) struct Population {
    client: Client,
    range: KeyRange,
    pending: Option<Pending<GetResponse>>,
    /// The time of the next count, once the first was asked for.
    next_at: Option<Instant>,
    count: u64,
}

impl Population {
    /// Creates a count of the keys in `range`, which are those of all instances.
    pub(super) fn new(client: &Client, range: KeyRange) -> Self {
        Population {
            client: client.clone(),
            range,
            pending: None,
            next_at: None,
            count: 0,
        }
    }

    /// Does what is due. The first count follows the first lease.
    pub(super) fn work(&mut self, now: Instant, has_lease: bool) {
        if let Some(answer) = self.pending.as_ref().and_then(Pending::try_wait) {
            self.pending = None;
            // Without an answer, such as for a missing permission, the last count is the best one.
            if let Ok(answer) = answer {
                self.count = answer.count();
            }
        }
        let is_due = self.next_at.is_none_or(|at| at <= now);
        if is_due && has_lease && self.pending.is_none() {
            let count = Get::range(self.range.clone()).count_only();
            self.pending = Some(self.client.submit(count));
            // Other registrars that started at the same time count at another.
            self.next_at = Some(now + INTERVAL.mul_f64(0.5 + jitter::fraction()));
        }
    }

    /// The time over which the return of all instances is spread after an outage. `own` is the number of
    /// instances of this registrar.
    pub(super) fn window(&self, own: usize) -> Duration {
        window(self.count.max(own as u64))
    }

    /// The time at which [`work`](Population::work) is due, if nothing arrives earlier.
    pub(super) fn due(&self, has_lease: bool) -> Option<Instant> {
        self.next_at.filter(|_| has_lease && self.pending.is_none())
    }

    pub(super) fn wait(&self, waker: &Waker) {
        if let Some(pending) = &self.pending {
            pending.wake_when_ready(waker);
        }
    }
}

fn window(count: u64) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let spread = Duration::from_secs(count.into()) / RETURNS_PER_SECOND;
    spread.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_the_population_up_to_its_limit() {
        for (count, millis) in [
            (0, 0),
            (10, 5),
            (200, 100),
            (2_000, 1_000),
            (10_000, 5_000),
            (1_000_000, 5_000),
            (u64::MAX, 5_000),
        ] {
            assert_eq!(window(count), Duration::from_millis(millis), "{count}");
        }
    }
}

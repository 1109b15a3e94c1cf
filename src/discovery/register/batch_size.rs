//! Decides how many steps and how many bytes go into one transaction. Pure.
//!
//! The limits of the client are known. A server may have smaller ones (`--max-txn-ops`,
//! `--max-request-bytes`), and reports them only by refusing a transaction. Then batches are halved,
//! and grow again to just below the refused size.

use std::time::{Duration, Instant};

/// The most steps in one transaction. More are not faster, and make the response longer.
const MAX_STEPS: usize = 100;

/// The most bytes in one transaction. A server accepts 1.5 MiB by default (`--max-request-bytes`).
const MAX_BYTES: usize = 512 << 10;

/// Transactions without an answer do not make batches smaller than this.
const MIN_UNANSWERED_BYTES: usize = 64 << 10;

/// The time for which a refused size is not tried again. A server's limits change only with its command line.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The limits of a client: `ClientBuilder::max_txn_ops` and `ClientBuilder::send_limit`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) txn_ops: usize,
    pub(super) send_bytes: usize,
}

/// The largest batch that is formed at the moment.
#[derive(Debug)]
pub(super) struct BatchSize {
    steps: AdaptiveLimit,
    bytes: AdaptiveLimit,
}

/// A limit that is halved when the server refuses it, and grows while it does not.
#[derive(Debug)]
struct AdaptiveLimit {
    /// It never grows beyond this.
    max: usize,
    current: usize,
    /// The smallest size that was refused, and when.
    refused: Option<(usize, Instant)>,
}

impl BatchSize {
    /// The limits for entries with up to `keys` keys each.
    pub(super) fn new(limits: ClientLimits, keys: usize) -> Self {
        // etcd subtracts the longest list of a transaction from `--max-txn-ops`, and allows the rest
        // to nested transactions. The longest list of a nested one is the two guards of each key.
        let steps = limits.txn_ops.saturating_sub(2 * keys);
        BatchSize {
            steps: AdaptiveLimit::new(MAX_STEPS.min(steps).max(1)),
            bytes: AdaptiveLimit::new(MAX_BYTES.min(limits.send_bytes)),
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.current
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.current
    }

    /// A batch of this size was answered.
    pub(super) fn accepted(&mut self, steps: usize, bytes: usize, now: Instant) {
        self.steps.accepted(steps, now);
        self.bytes.accepted(bytes, now);
    }

    pub(super) fn too_many(&mut self, steps: usize, now: Instant) {
        self.steps.refused(steps, now);
    }

    pub(super) fn too_large(&mut self, bytes: usize, now: Instant) {
        self.bytes.refused(bytes, now);
    }

    /// A batch was not answered. A slow link may never carry a large one in time, so the next one is
    /// smaller. This shows nothing about the server's limit.
    pub(super) fn unanswered(&mut self, bytes: usize) {
        // A missing answer may have another cause than the size, so there is a minimum.
        let half = (bytes / 2).max(MIN_UNANSWERED_BYTES);
        self.bytes.current = self.bytes.current.min(half);
    }
}

impl AdaptiveLimit {
    fn new(max: usize) -> Self {
        AdaptiveLimit {
            max,
            current: max,
            refused: None,
        }
    }

    fn refused(&mut self, size: usize, now: Instant) {
        // Batches in flight together can be refused in any order.
        let smallest = match self.ceiling(now) {
            Some(known) => known.min(size),
            None => size,
        };
        self.refused = Some((smallest, now));
        self.current = self.current.min(size / 2).max(1);
    }

    fn accepted(&mut self, size: usize, now: Instant) {
        // Only a batch that was nearly full shows that a larger one would be accepted.
        if size.saturating_add(size / 4) < self.current {
            return;
        }
        // One below the smallest refused size, which would be refused again.
        let below = self.ceiling(now).map_or(self.max, |size| size - 1);
        let grown = self.current.saturating_add((self.current / 8).max(1));
        self.current = grown.min(below).min(self.max).max(1);
    }

    fn ceiling(&self, now: Instant) -> Option<usize> {
        self.refused
            .filter(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED)
            .map(|(size, _)| size.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(txn_ops: usize, send_bytes: usize) -> BatchSize {
        let limits = ClientLimits {
            txn_ops,
            send_bytes,
        };
        BatchSize::new(limits, 1)
    }

    #[test]
    fn batches_respect_the_limits_of_the_client() {
        let default = size(128, 2 << 20);
        assert_eq!((default.steps(), default.bytes()), (100, 512 << 10));
        assert_eq!(size(64, 100_000).steps(), 62);
        assert_eq!(size(64, 100_000).bytes(), 100_000);
        assert_eq!(size(1, 10).steps(), 1);
        let limits = ClientLimits {
            txn_ops: 64,
            send_bytes: 100_000,
        };
        assert_eq!(
            BatchSize::new(limits, 4).steps(),
            56,
            "eight guards of four keys"
        );
    }

    #[test]
    fn the_limit_of_a_server_is_found_and_respected() {
        for server in [1, 2, 7, 62, 99, 100, 1000] {
            let (mut size, mut now) = (size(128, 2 << 20), Instant::now());
            let mut refused = 0;
            for _ in 0..1000 {
                now += Duration::from_millis(10);
                match size.steps() {
                    steps if steps > server => {
                        refused += 1;
                        size.too_many(steps, now);
                    }
                    steps => size.accepted(steps, 10, now),
                }
            }
            assert!(refused <= 12, "{refused} refusals by a limit of {server}");
            let best = server.min(MAX_STEPS);
            assert_eq!(size.steps(), best, "a limit of {server}");
        }
    }

    #[test]
    fn only_a_batch_of_four_fifths_of_the_limit_raises_it() {
        for (steps, limit) in [(1, 50), (39, 50), (40, 56), (50, 56)] {
            let (mut size, now) = (size(128, 2 << 20), Instant::now());
            size.too_many(100, now);
            assert_eq!(size.steps(), 50);
            size.accepted(steps, 10, now);
            assert_eq!(size.steps(), limit, "{steps}");
        }
    }

    #[test]
    fn a_refused_size_is_tried_again_after_a_long_time() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        size.too_many(100, now);
        for _ in 0..100 {
            size.accepted(size.steps(), 10, now);
        }
        assert_eq!(size.steps(), 99);
        size.accepted(99, 10, now + Duration::from_secs(599));
        assert_eq!(size.steps(), 99);
        size.accepted(99, 10, now + Duration::from_secs(600));
        assert_eq!(size.steps(), 100);
    }

    #[test]
    fn the_smallest_of_several_refused_batches_sets_the_limit() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        for batch in [40, 10, 90] {
            size.too_many(batch, now);
            size.too_large(batch * 1000, now);
        }
        assert_eq!((size.steps(), size.bytes()), (5, 5_000));
        for _ in 0..100 {
            size.accepted(size.steps(), size.bytes(), now);
        }
        assert_eq!((size.steps(), size.bytes()), (9, 9_999));
        // A large batch that was sent earlier does not raise the limit.
        size.unanswered(MAX_BYTES);
        assert_eq!(size.bytes(), 9_999);
    }

    #[test]
    fn small_batches_do_not_raise_the_limit_and_missing_answers_lower_it_to_a_minimum() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        size.unanswered(MAX_BYTES);
        assert_eq!(size.bytes(), MAX_BYTES / 2);
        size.accepted(1, 10, now);
        assert_eq!(size.bytes(), MAX_BYTES / 2);
        for _ in 0..10 {
            size.unanswered(size.bytes());
        }
        assert_eq!(size.bytes(), 64 << 10);
        for _ in 0..100 {
            size.accepted(size.steps(), size.bytes(), now);
        }
        assert_eq!((size.steps(), size.bytes()), (MAX_STEPS, MAX_BYTES));
    }
}

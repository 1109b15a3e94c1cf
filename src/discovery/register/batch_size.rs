//! How many steps, and how many bytes, go into one transaction. Pure.
//!
//! The client's own limits are known. A server may have smaller ones (`--max-txn-ops`,
//! `--max-request-bytes`), and says so only by refusing: then batches are halved, and grow again
//! below the size that was refused.

use std::time::{Duration, Instant};

/// So many steps in one transaction: more are not faster, and the answer is as long.
const STEPS: usize = 100;

/// So many bytes in one transaction, of the 1.5 MiB that a server takes by default.
const BYTES: usize = 512 << 10;

/// A transaction without an answer is not the reason to make batches smaller than this.
const SILENT_BYTES: usize = 64 << 10;

/// For so long a size that was refused is not tried again. A server's limits change with its
/// command line only.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What a client lets out: `ClientBuilder::max_txn_ops` and `ClientBuilder::send_limit`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) txn_ops: usize,
    pub(super) send_bytes: usize,
}

/// The largest batch at the moment.
#[derive(Debug)]
pub(super) struct BatchSize {
    steps: Learned,
    bytes: Learned,
}

/// A limit that is halved when the server refuses it, and grows while it does not.
#[derive(Debug)]
struct Learned {
    /// It never grows beyond this.
    most: usize,
    now: usize,
    /// The smallest size that was refused, and when.
    refused: Option<(usize, Instant)>,
}

impl BatchSize {
    pub(super) fn new(limits: ClientLimits) -> Self {
        // etcd takes the longest list of a transaction from what it allows, and leaves the rest to
        // those within it. The longest list of a step is its two guards.
        let steps = limits.txn_ops.saturating_sub(2);
        BatchSize {
            steps: Learned::new(STEPS.min(steps).max(1)),
            bytes: Learned::new(BYTES.min(limits.send_bytes)),
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.now
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.now
    }

    /// A batch of this size was answered.
    pub(super) fn worked(&mut self, steps: usize, bytes: usize, now: Instant) {
        self.steps.worked(steps, now);
        self.bytes.worked(bytes, now);
    }

    pub(super) fn too_many(&mut self, steps: usize, now: Instant) {
        self.steps.refused(steps, now);
    }

    pub(super) fn too_large(&mut self, bytes: usize, now: Instant) {
        self.bytes.refused(bytes, now);
    }

    /// A batch was not answered. A slow link never carries a large one in time, so that the next is
    /// smaller; nothing is known of the server's limit.
    pub(super) fn unanswered(&mut self, bytes: usize) {
        let half = (bytes / 2).max(SILENT_BYTES);
        self.bytes.now = self.bytes.now.min(half);
    }
}

impl Learned {
    fn new(most: usize) -> Self {
        Learned {
            most,
            now: most,
            refused: None,
        }
    }

    fn refused(&mut self, size: usize, now: Instant) {
        let smallest = match self.ceiling(now) {
            Some(known) => known.min(size),
            None => size,
        };
        self.refused = Some((smallest, now));
        self.now = self.now.min(size / 2).max(1);
    }

    fn worked(&mut self, size: usize, now: Instant) {
        // Only a batch that was nearly full shows that there is room for more.
        if size.saturating_add(size / 4) < self.now {
            return;
        }
        let below = self.ceiling(now).map_or(self.most, |size| size - 1);
        let grown = self.now.saturating_add((self.now / 8).max(1));
        self.now = grown.min(below).min(self.most).max(1);
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
        BatchSize::new(ClientLimits {
            txn_ops,
            send_bytes,
        })
    }

    #[test]
    fn the_limits_of_the_client_are_kept() {
        let default = size(128, 2 << 20);
        assert_eq!((default.steps(), default.bytes()), (100, 512 << 10));
        assert_eq!(size(64, 100_000).steps(), 62);
        assert_eq!(size(64, 100_000).bytes(), 100_000);
        assert_eq!(size(1, 10).steps(), 1);
    }

    #[test]
    fn the_limit_of_a_server_is_found_and_kept() {
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
                    steps => size.worked(steps, 10, now),
                }
            }
            assert!(refused <= 12, "{refused} refusals by a limit of {server}");
            let best = server.min(STEPS);
            assert_eq!(size.steps(), best, "a limit of {server}");
        }
    }

    #[test]
    fn a_refused_size_is_tried_again_much_later() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        size.too_many(100, now);
        for _ in 0..100 {
            size.worked(size.steps(), 10, now);
        }
        assert_eq!(size.steps(), 99);
        size.worked(99, 10, now + Duration::from_secs(599));
        assert_eq!(size.steps(), 99);
        size.worked(99, 10, now + Duration::from_secs(600));
        assert_eq!(size.steps(), 100);
    }

    #[test]
    fn of_batches_that_are_refused_together_the_smallest_counts() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        for batch in [40, 10, 90] {
            size.too_many(batch, now);
            size.too_large(batch * 1000, now);
        }
        assert_eq!((size.steps(), size.bytes()), (5, 5_000));
        for _ in 0..100 {
            size.worked(size.steps(), size.bytes(), now);
        }
        assert_eq!((size.steps(), size.bytes()), (9, 9_999));
        // A large one that was on its way since before makes nothing larger.
        size.unanswered(BYTES);
        assert_eq!(size.bytes(), 9_999);
    }

    #[test]
    fn small_batches_are_no_proof_and_silence_has_a_floor() {
        let (mut size, now) = (size(128, 2 << 20), Instant::now());
        size.unanswered(BYTES);
        assert_eq!(size.bytes(), BYTES / 2);
        size.worked(1, 10, now);
        assert_eq!(size.bytes(), BYTES / 2);
        for _ in 0..10 {
            size.unanswered(size.bytes());
        }
        assert_eq!(size.bytes(), 64 << 10);
        for _ in 0..100 {
            size.worked(size.steps(), size.bytes(), now);
        }
        assert_eq!((size.steps(), size.bytes()), (STEPS, BYTES));
    }
}

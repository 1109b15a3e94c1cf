//! The waits between the streams of the watches.

use std::time::Duration;

use crate::util::backoff::Backoff;

/// The waits between streams that end early. The first retry comes at once.
const BETWEEN_STREAMS: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// The pool paces connection attempts. This wait only keeps a fault there from becoming a busy loop.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// Decides the wait before the next stream.
#[derive(Debug)]
pub(super) struct StreamBackoff {
    backoff: Backoff,
    /// The number of consecutive streams that ended early.
    failed: u32,
    /// The stream has delivered events.
    delivered: bool,
}

impl StreamBackoff {
    pub(super) fn new() -> Self {
        StreamBackoff {
            backoff: BETWEEN_STREAMS,
            failed: 0,
            delivered: false,
        }
    }

    /// Records that a stream was opened.
    pub(super) fn opened(&mut self) {
        self.delivered = false;
    }

    /// Records that the stream has delivered events.
    pub(super) fn delivered(&mut self) {
        self.delivered = true;
    }

    /// The wait after the end of a stream. `connected` says whether there was a connection, `stable` whether
    /// the stream lasted; `random` is in 0..1.
    pub(super) fn next(&mut self, connected: bool, stable: bool, random: f64) -> Duration {
        if stable || self.delivered {
            self.failed = u32::from(!stable);
            self.backoff.reset();
        }
        if !connected {
            return RECONNECT_AFTER;
        }
        let wait = match self.failed {
            0 => Duration::ZERO,
            _ => self.backoff.next(random),
        };
        self.failed = self.failed.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_comes_at_once_and_later_ones_after_growing_waits() {
        let mut streams = StreamBackoff::new();
        let waits: Vec<_> = (0..8).map(|_| streams.next(true, false, 0.999)).collect();
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!(waits[7] > Duration::from_secs(1), "{waits:?}");
        assert_eq!(streams.next(true, true, 0.5), Duration::ZERO, "it lasted");
    }

    #[test]
    fn a_stream_that_delivered_events_resets_the_waits_but_the_retry_is_not_at_once() {
        let mut streams = StreamBackoff::new();
        for _ in 0..8 {
            streams.next(true, false, 0.999);
        }
        streams.opened();
        streams.delivered();
        let wait = streams.next(true, false, 0.999);
        assert!(
            !wait.is_zero() && wait <= Duration::from_millis(50),
            "{wait:?}"
        );
    }

    #[test]
    fn the_events_of_a_stream_say_nothing_about_the_next_one() {
        let mut streams = StreamBackoff::new();
        streams.opened();
        streams.delivered();
        let waits = (0..8).map(|_| {
            let wait = streams.next(true, false, 0.999);
            streams.opened();
            wait
        });
        let waits: Vec<_> = waits.collect();
        assert!(waits[7] > Duration::from_secs(1), "{waits:?}");
    }

    #[test]
    fn a_stream_without_a_connection_is_no_failure_of_the_stream() {
        let mut streams = StreamBackoff::new();
        assert_eq!(streams.next(false, false, 0.5), RECONNECT_AFTER);
        assert_eq!(streams.next(true, false, 0.5), Duration::ZERO);
    }
}

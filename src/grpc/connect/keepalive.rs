//! Decides when a silent server is pinged, and when its connection is given up. Pure: time is an
//! argument.
//!
//! Any received byte is a sign of life, and the answer to a ping is only one of them: on a slow
//! link it can wait behind a large reply, whose bytes keep arriving.

use std::time::{Duration, Instant};

/// The shortest time between two pings. etcd closes a connection with more frequent pings
/// (`--grpc-keepalive-min-time`, 5 s); the ping of a new connection counts.
pub(crate) const MIN_PING_INTERVAL: Duration = Duration::from_secs(5);

/// A timer that is later than this shows that the process or the machine was suspended. Silence
/// during that time is not counted against the server.
const SUSPENDED_AFTER: Duration = Duration::from_secs(1);

/// A ping is sent up to this fraction of the interval earlier, when the client wakes up for something else.
const EARLY: u32 = 4;

/// The next action of the keepalive task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveStep {
    /// Do nothing until then, unless an event arrives. From `from` on, a step sends the ping.
    Wait {
        from: Instant,
        until: Instant,
    },
    /// No stream is open: do nothing until one is opened, or another event arrives.
    Rest,
    Ping,
    /// The server is not reachable.
    GiveUp,
}

/// Tracks how long a connection is silent.
#[derive(Debug)]
pub(crate) struct Keepalive {
    answer_within: Duration,
    pinged: Instant,
    /// The last ping is not answered.
    ping_pending: bool,
    /// The time since which streams have always been open.
    busy: Option<Instant>,
    /// When an unanswered request was reported. It is kept until the next sign of life, also while
    /// it is too early for a ping.
    suspected: Option<Instant>,
    /// When the next step is due.
    due: Instant,
    /// The end of the last suspension of this process.
    resumed_at: Instant,
}

impl Keepalive {
    /// Creates the state of a connection whose first ping was just answered.
    pub(crate) fn new(now: Instant, answer_within: Duration) -> Self {
        Keepalive {
            answer_within,
            pinged: now,
            ping_pending: false,
            busy: None,
            suspected: None,
            due: now,
            resumed_at: now,
        }
    }

    /// Records the answer to the last ping.
    pub(crate) fn answered(&mut self) {
        self.ping_pending = false;
    }

    /// Records an unanswered request.
    pub(crate) fn suspect(&mut self, now: Instant) {
        self.suspected = Some(now);
    }

    pub(crate) fn has_pending_ping(&self) -> bool {
        self.ping_pending
    }

    /// Decides what to do at `now`; `last_sign_of_life` is the last sign of life. A busy connection is pinged
    /// after `interval` of silence, and as soon as permitted after an unanswered request. Silence counts
    /// from when the connection became busy.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        last_sign_of_life: Instant,
        busy: bool,
        interval: Duration,
    ) -> KeepaliveStep {
        if now > self.due + SUSPENDED_AFTER {
            self.resumed_at = now;
        }
        self.busy = busy.then(|| self.busy.unwrap_or(now));
        self.suspected.take_if(|since| *since < last_sign_of_life);
        let last_sign_of_life = last_sign_of_life.max(self.resumed_at);
        if self.ping_pending {
            let until = last_sign_of_life.max(self.pinged) + self.answer_within;
            if until <= now {
                return KeepaliveStep::GiveUp;
            }
            self.due = until;
            return KeepaliveStep::Wait { from: until, until };
        }
        let (wanted, early) = match (self.suspected, self.busy) {
            (Some(since), _) => (since, Duration::ZERO),
            (None, Some(busy)) => (last_sign_of_life.max(busy) + interval, interval / EARLY),
            (None, None) => {
                self.due = now + interval;
                return KeepaliveStep::Rest;
            }
        };
        let permitted = self.pinged + MIN_PING_INTERVAL;
        let from = wanted.checked_sub(early).unwrap_or(wanted).max(permitted);
        if from <= now {
            (self.pinged, self.ping_pending, self.due) = (now, true, now);
            return KeepaliveStep::Ping;
        }
        let until = wanted.max(permitted);
        self.due = until;
        KeepaliveStep::Wait { from, until }
    }
}

#[cfg(test)]
mod tests;

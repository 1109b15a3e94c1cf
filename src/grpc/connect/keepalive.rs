//! Decides when a silent server is pinged, and when it is given up. It reads no clock.
//!
//! Anything that the server is heard of is life. A ping decides over silence only, and also its answer
//! is just something that is heard: on a slow link it waits behind a large reply, of which there is
//! always something arriving.

use std::time::{Duration, Instant};

/// The shortest time between two pings. etcd ends a connection on which they come faster
/// (`--grpc-keepalive-min-time`, 5 s); the ping that a new connection begins with counts.
pub(crate) const FASTEST: Duration = Duration::from_secs(5);

/// A timer that is later than this was not: this process, or the machine, stood still. Silence in the
/// meantime is not the server's.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before this, unless something happens.
    Wait(Instant),
    Ping,
    /// Nobody is there.
    GiveUp,
}

/// What is known of the silence on a connection.
#[derive(Debug)]
pub(crate) struct Keepalive {
    answer_within: Duration,
    pinged: Instant,
    /// The last ping is not answered.
    asking: bool,
    /// When somebody waited in vain. It is kept until the server is heard, also while it is too early
    /// for a ping.
    suspected: Option<Instant>,
    /// When the next step is to be.
    due: Instant,
    /// Since when this side has not stood still.
    awake: Instant,
}

impl Keepalive {
    /// That of a connection whose first ping was just answered.
    pub(crate) fn new(now: Instant, answer_within: Duration) -> Self {
        Keepalive {
            answer_within,
            pinged: now,
            asking: false,
            suspected: None,
            due: now,
            awake: now,
        }
    }

    /// The last ping was answered.
    pub(crate) fn answered(&mut self) {
        self.asking = false;
    }

    /// Somebody waited in vain.
    pub(crate) fn suspect(&mut self, now: Instant) {
        self.suspected = Some(now);
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking
    }

    /// What to do at `now`, when the server was last `heard` then. A server is asked after `interval`
    /// of silence while requests are open, and as soon as may be when somebody waited in vain.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        heard: Instant,
        busy: bool,
        interval: Duration,
    ) -> Step {
        if now > self.due + STOOD_STILL {
            self.awake = now;
        }
        self.suspected.take_if(|since| *since < heard);
        let heard = heard.max(self.awake);
        let at = if self.asking {
            let at = heard.max(self.pinged) + self.answer_within;
            if at <= now {
                return Step::GiveUp;
            }
            at
        } else {
            let wanted = match self.suspected {
                Some(since) => Some(since),
                None if busy => Some(heard + interval),
                None => None,
            };
            match wanted.map(|at| at.max(self.pinged + FASTEST)) {
                Some(at) if at <= now => {
                    (self.pinged, self.asking, self.due) = (now, true, now);
                    return Step::Ping;
                }
                Some(at) => at,
                None => now + interval,
            }
        };
        self.due = at;
        Step::Wait(at)
    }
}

#[cfg(test)]
mod tests;

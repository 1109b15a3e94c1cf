//! Pings a silent server as [`Keepalive`] decides, and ends the connection when no answer arrives.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};

use super::connection_state::ConnectionState;
use super::keepalive::{Keepalive, KeepaliveStep, MIN_PING_INTERVAL};
use crate::grpc::timers::{Timers, Window};

/// The ping rate of all connections of a client.
#[derive(Debug)]
pub(crate) struct PingRate {
    interval: Duration,
    answer_within: Duration,
    doublings: AtomicU32,
}

impl PingRate {
    pub(crate) fn new(interval: Duration, answer_within: Duration) -> Self {
        PingRate {
            interval: interval.max(MIN_PING_INTERVAL),
            answer_within,
            doublings: AtomicU32::new(0),
        }
    }

    /// Halves the rate after a server sent `too_many_pings` (gRPC proposal A8).
    pub(crate) fn slow_down(&self) {
        let more = |n: u32| Some((n + 1).min(6));
        let _ = self.doublings.fetch_update(Relaxed, Relaxed, more);
    }

    fn interval(&self) -> Duration {
        self.interval
            .saturating_mul(1 << self.doublings.load(Relaxed))
    }
}

/// Ends the connection when the server does not answer a ping. Runs as long as the connection.
pub(crate) async fn check(
    mut pings: PingPong,
    state: Arc<ConnectionState>,
    rate: Arc<PingRate>,
    timers: Timers,
) {
    let mut liveness = Keepalive::new(Instant::now(), rate.answer_within);
    let mut timer = timers.timer();
    loop {
        let (now, boot_now) = (Instant::now(), timers.now());
        let (last_sign_of_life, busy) = (state.last_sign_of_life(), state.is_busy());
        let window = match liveness.step(now, last_sign_of_life, busy, rate.interval()) {
            KeepaliveStep::Wait { from, until } => Some(Window {
                from: boot_now + from.saturating_duration_since(now),
                until: boot_now + until.saturating_duration_since(now),
            }),
            KeepaliveStep::Rest => {
                state.rest();
                None
            }
            KeepaliveStep::Ping => match pings.send_ping(Ping::opaque()) {
                Ok(()) => continue,
                Err(_) => return,
            },
            KeepaliveStep::GiveUp => {
                state.kill.notify_one();
                return;
            }
        };
        timer.set(window);
        let event = {
            let mut busy = std::pin::pin!(state.busy.notified());
            let mut suspected = std::pin::pin!(state.suspected.notified());
            let mut ended = std::pin::pin!(state.until_ended());
            std::future::poll_fn(|cx| {
                if ended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Ended);
                }
                if liveness.has_pending_ping()
                    && let Poll::Ready(pong) = pings.poll_pong(cx)
                {
                    return Poll::Ready(pong.map_or(Event::Ended, |_| Event::Pong));
                }
                if suspected.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Suspected);
                }
                if busy.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Step);
                }
                timer.poll(cx).map(|()| Event::Step)
            })
            .await
        };
        match event {
            Event::Ended => return,
            Event::Pong => liveness.answered(),
            Event::Suspected => liveness.suspect(Instant::now()),
            Event::Step => {}
        }
    }
}

enum Event {
    Ended,
    Pong,
    Suspected,
    /// The next step is due.
    Step,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fault: F31
    #[test]
    fn each_refusal_of_the_pings_doubles_their_interval() {
        let rate = PingRate::new(Duration::from_secs(1), Duration::from_secs(1));
        for expected in [5, 10, 20, 40, 80, 160, 320, 320] {
            assert_eq!(rate.interval(), Duration::from_secs(expected));
            rate.slow_down();
        }
    }
}

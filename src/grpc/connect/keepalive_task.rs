//! Pings a server that is silent, as [`Keepalive`] decides, and ends the connection when that does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::time::sleep_until;

use super::connection::Vitals;
use super::keepalive::{FASTEST, Keepalive, Step};

/// How often to ping, for every connection of a client.
#[derive(Debug)]
pub(crate) struct PingRate {
    interval: Duration,
    answer_within: Duration,
    doublings: AtomicU32,
}

impl PingRate {
    pub(crate) fn new(interval: Duration, answer_within: Duration) -> Self {
        PingRate {
            interval: interval.max(FASTEST),
            answer_within,
            doublings: AtomicU32::new(0),
        }
    }

    /// A server said `too_many_pings`: half as many from now on (gRPC proposal A8).
    pub(crate) fn slow_down(&self) {
        let more = |n: u32| Some((n + 1).min(6));
        let _ = self.doublings.fetch_update(Relaxed, Relaxed, more);
    }

    fn interval(&self) -> Duration {
        self.interval
            .saturating_mul(1 << self.doublings.load(Relaxed))
    }
}

/// Ends the connection when the server does not answer a ping; runs as long as the connection.
pub(crate) async fn check(mut pings: PingPong, vitals: Arc<Vitals>, rate: Arc<PingRate>) {
    let mut liveness = Keepalive::new(Instant::now(), rate.answer_within);
    loop {
        let (heard, busy) = (vitals.heard(), vitals.is_busy());
        let until = match liveness.step(Instant::now(), heard, busy, rate.interval()) {
            Step::Wait(until) => until,
            Step::Ping => match pings.send_ping(Ping::opaque()) {
                Ok(()) => continue,
                Err(_) => return,
            },
            Step::GiveUp => {
                vitals.kill.notify_one();
                return;
            }
        };
        let event = {
            let mut suspected = std::pin::pin!(vitals.suspected.notified());
            let mut ended = std::pin::pin!(vitals.until_ended());
            let mut time = std::pin::pin!(sleep_until(until.into()));
            std::future::poll_fn(|cx| {
                if ended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Ended);
                }
                if liveness.is_asking()
                    && let Poll::Ready(pong) = pings.poll_pong(cx)
                {
                    return Poll::Ready(pong.map_or(Event::Ended, |_| Event::Pong));
                }
                if suspected.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Suspected);
                }
                time.as_mut().poll(cx).map(|()| Event::Time)
            })
            .await
        };
        match event {
            Event::Ended => return,
            Event::Pong => liveness.answered(),
            Event::Suspected => liveness.suspect(Instant::now()),
            Event::Time => {}
        }
    }
}

enum Event {
    Ended,
    Pong,
    Suspected,
    Time,
}

//! Whether anybody is still there: HTTP/2 pings, only while something is waiting.
//!
//! etcd ends a connection that is pinged more often than every 5 s, or while nothing is open on it
//! (`--grpc-keepalive-min-time`, and no permission to ping without a stream).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Vitals;

/// Never ping faster than this, whatever the configuration: the server's default limit.
const FASTEST: Duration = Duration::from_secs(5);

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
pub(super) async fn check(mut pings: PingPong, vitals: Arc<Vitals>, rate: Arc<PingRate>) {
    let mut last = Instant::now();
    loop {
        let quiet = rate.interval().saturating_sub(vitals.silent_for());
        let quiet = if vitals.is_busy() {
            quiet
        } else {
            rate.interval()
        };
        let suspected = {
            let mut suspected = std::pin::pin!(vitals.suspected.notified());
            let mut ended = std::pin::pin!(vitals.until_ended());
            let mut tick = std::pin::pin!(sleep(quiet.max(Duration::from_millis(100))));
            std::future::poll_fn(|cx| {
                if ended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if suspected.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(true));
                }
                tick.as_mut().poll(cx).map(|()| Some(false))
            })
            .await
        };
        let Some(suspected) = suspected else { return };
        let due = vitals.is_busy() && vitals.silent_for() >= rate.interval();
        if !(due || suspected) || last.elapsed() < FASTEST {
            continue;
        }
        last = Instant::now();
        match timeout(rate.answer_within, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => vitals.hear(),
            Ok(Err(_)) => return,
            Err(_) => {
                vitals.kill.notify_one();
                return;
            }
        }
    }
}

//! The state that the handles and the tasks of one connection share.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::stream_slots::StreamSlots;
use crate::util::atomic::Ordering::{Relaxed, SeqCst};
use crate::util::atomic::{AtomicBool, AtomicUsize};
use crate::util::sync::OnceLock;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    open_streams: AtomicUsize,
    /// The open streams that last as long as the connection does.
    pub(super) long_lived_streams: AtomicUsize,
    /// When the last sign of life of the server arrived.
    last_sign_of_life: Mutex<Instant>,
    /// Why the connection ended.
    pub(super) end: watch::Sender<Option<Arc<str>>>,
    /// The connection accepts no more requests, but may still answer those it has.
    draining: AtomicBool,
    /// The stream slots, which are closed when the connection ends.
    pub(super) slots: OnceLock<StreamSlots>,
    /// The server has no RangeStream (etcd before 3.7, gRPC proxy). A replacement server is reached
    /// over a new connection.
    pub(super) no_range_stream: AtomicBool,
    /// No stream was open at the last keepalive check: the next stream is reported to `busy`.
    resting: AtomicBool,
    /// Requests a keepalive check because the first stream was opened after an idle time.
    pub(super) busy: Notify,
    /// Requests a keepalive check after an unanswered request.
    pub(crate) suspected: Notify,
    /// Requests the end of the connection.
    pub(crate) kill: Notify,
}

impl ConnectionState {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(ConnectionState {
            open_streams: AtomicUsize::new(0),
            long_lived_streams: AtomicUsize::new(0),
            last_sign_of_life: Mutex::new(Instant::now()),
            end: watch::Sender::new(None),
            draining: AtomicBool::new(false),
            slots: OnceLock::new(),
            no_range_stream: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            busy: Notify::new(),
            suspected: Notify::new(),
            kill: Notify::new(),
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.open_streams.load(SeqCst) > 0
    }

    /// Counts an open stream.
    pub(super) fn stream_opened(&self) {
        self.open_streams.fetch_add(1, SeqCst);
        if self.resting.load(SeqCst) && self.resting.swap(false, SeqCst) {
            self.busy.notify_one();
        }
    }

    pub(super) fn stream_closed(&self) {
        self.open_streams.fetch_sub(1, SeqCst);
    }

    /// Records that the connection is idle: the next stream requests a keepalive check.
    pub(super) fn rest(&self) {
        self.resting.store(true, SeqCst);
        // A stream that was opened before this line was not reported.
        if self.is_busy() {
            self.busy.notify_one();
        }
    }

    /// When the last sign of life of the server arrived.
    pub(crate) fn last_sign_of_life(&self) -> Instant {
        *self.last_sign_of_life.lock()
    }

    /// Records a sign of life of the server.
    pub(crate) fn touch(&self) {
        *self.last_sign_of_life.lock() = Instant::now();
    }

    /// Records why the connection ended; the first reason is kept.
    pub(crate) fn ended(&self, why: &str) {
        self.end.send_if_modified(|end| match end {
            Some(_) => false,
            None => {
                *end = Some(why.into());
                true
            }
        });
        self.close_slots();
    }

    pub(crate) fn why_ended(&self) -> Option<Arc<str>> {
        self.end.borrow().clone()
    }

    /// Stops new requests. Requests that are under way continue.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.close_slots();
    }

    fn close_slots(&self) {
        if let Some(slots) = self.slots.get() {
            slots.close();
        }
    }

    /// Whether only long-lived streams remain open while draining. They never end by themselves,
    /// and a server that shuts down waits for them for seconds, so they are ended from here.
    pub(crate) fn is_drained(&self) -> bool {
        let (streams, long_lived) = (&self.open_streams, &self.long_lived_streams);
        self.draining.load(Relaxed) && streams.load(Relaxed) <= long_lived.load(Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) async fn until_ended(&self) {
        // The sender is a field of `self`, so the channel cannot be closed.
        let _ = self.end.subscribe().wait_for(Option::is_some).await;
    }
}

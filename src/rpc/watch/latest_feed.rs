//! The state that a latest set shares with the watch task, and the task's end of it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::event::WatchResponse;
use super::latest_slots::LatestSlots;
use super::watch_id::WatchId;
use crate::error::Error;

/// The slots of a latest set and the channel that wakes its reader. The lock is held for map
/// operations only, never while a thread waits.
#[derive(Debug)]
pub(super) struct SharedSlots {
    pub(super) slots: Mutex<LatestSlots>,
    /// Holds one token from the first change until the reader takes the events.
    wake: Sender<()>,
    /// The waker of a reader that does not wait on the channel.
    waker: Mutex<Option<Waker>>,
}

impl SharedSlots {
    /// Wakes the waker once: now, if the channel has a token, or else when it has.
    pub(super) fn wake_when_ready(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
        // Checked after the waker is in place, so that no token is missed.
        if self.wake.is_full()
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }
}

/// The task's end of a latest set. Dropping it gives the reader a last item: the client has ended.
#[derive(Debug)]
pub(super) struct LatestFeed(Arc<SharedSlots>);

impl LatestFeed {
    /// A feed, the slots that its reader shares, and the channel that wakes the reader.
    pub(super) fn new() -> (Self, Arc<SharedSlots>, Receiver<()>) {
        let (wake, receiver) = bounded(1);
        let shared = Arc::new(SharedSlots {
            slots: Mutex::default(),
            wake,
            waker: Mutex::default(),
        });
        (LatestFeed(Arc::clone(&shared)), shared, receiver)
    }

    pub(super) fn deliver(&self, id: WatchId, response: WatchResponse) {
        if let Some(event) = response.into_events().pop() {
            self.0.slots.lock().deliver(id, event);
        }
    }

    pub(super) fn finish(&self, id: WatchId, error: Error) {
        self.0.slots.lock().finish(id, error);
    }

    /// Records whether the server has the watch.
    pub(super) fn set_down(&self, id: WatchId, is_down: bool) {
        let mut slots = self.0.slots.lock();
        match is_down {
            true => slots.lose(id, Instant::now()),
            false => slots.watched(id),
        }
    }

    /// Records that a new stream was opened.
    pub(super) fn stream_opened(&self) {
        self.0.slots.lock().stream_opened();
    }

    /// Wakes the reader if something has changed since it last took the events.
    pub(super) fn wake(&self) {
        let slots = self.0.slots.lock();
        if slots.has_changed() {
            // A full channel already holds a token.
            let _ = self.0.wake.try_send(());
            drop(slots);
            let waker = self.0.waker.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for LatestFeed {
    fn drop(&mut self) {
        self.0.slots.lock().end(Error::abandoned());
        self.wake();
    }
}

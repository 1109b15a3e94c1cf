//! What has arrived on a stream, shared by the body of the response and its readers.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::message_splitter::LargeMessage;
use crate::util::atomic::AtomicU64;

/// The number of received bytes, and the large messages that were not decoded yet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: AtomicU64,
    /// Each message with its number on the stream. tonic gets an empty message in its place.
    large: Mutex<VecDeque<(u64, LargeMessage)>>,
}

impl Received {
    /// The number of bytes that have arrived.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn add_large(&self, number: u64, message: LargeMessage) {
        self.large.lock().push_back((number, message));
    }

    /// Removes the message with this number, if it is a large one.
    pub(super) fn take_large(&self, number: u64) -> Option<LargeMessage> {
        let mut large = self.large.lock();
        if large.front()?.0 != number {
            return None;
        }
        large.pop_front().map(|(_, message)| message)
    }
}

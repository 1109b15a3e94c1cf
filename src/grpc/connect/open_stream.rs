//! An open stream of a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::connect_error::{ConnectError, RequestSent};
use super::connection::Connection;
use super::connection_state::ConnectionState;
use super::stream_slots::StreamSlot;

/// Counts a stream as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    state: Arc<ConnectionState>,
    is_long_lived: bool,
    _slot: Option<StreamSlot>,
}

impl OpenStream {
    pub(crate) fn new(connection: &Connection) -> Self {
        connection.state.stream_opened();
        OpenStream {
            state: Arc::clone(&connection.state),
            is_long_lived: false,
            _slot: connection.slots.take(connection.reserved.as_ref()),
        }
    }

    /// Marks the stream as one that lasts as long as the connection.
    pub(crate) fn mark_long_lived(&mut self) {
        self.is_long_lived = true;
        self.state.long_lived_streams.fetch_add(1, Relaxed);
    }

    /// The error of a stream that could not be opened.
    #[cold]
    pub(crate) fn not_sent(&self, error: &h2::Error) -> ConnectError {
        // The next request needs another connection, even if this one is not closed yet.
        self.state.drain();
        ConnectError {
            sent: RequestSent::No,
            ..match self.state.why_ended() {
                Some(why) => ConnectError::unconnected(&*why),
                None => ConnectError::of_stream(error),
            }
        }
    }

    /// The error of a stream, with the reason of its connection if that ended.
    pub(crate) fn explain(&self, error: &h2::Error) -> ConnectError {
        let error = ConnectError::of_stream(error);
        match self.state.why_ended() {
            Some(why) => ConnectError {
                text: why.to_string(),
                ..error
            },
            None => error,
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.state.stream_closed();
        if self.is_long_lived {
            self.state.long_lived_streams.fetch_sub(1, Relaxed);
        }
    }
}

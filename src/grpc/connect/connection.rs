//! One HTTP/2 connection, as a handle that is cheap to clone.

use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::connection_state::ConnectionState;
use super::endpoint::Endpoint;
use super::shared_store_identity::SharedStoreIdentity;
use super::stream_slots::{Reserved, StreamSlots};
use crate::grpc::limits::MessageLimits;
use crate::grpc::settings::TransportSettings;
use crate::grpc::token::bearer::Bearer;

/// Handle of an open connection. A clone increments one counter; a clone of h2's own handle takes a
/// lock.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    parts: Arc<ConnectionInner>,
    /// The stream slot reserved for this handle.
    pub(super) reserved: Option<Reserved>,
}

/// The data that all handles of a connection share.
#[derive(Debug)]
pub(crate) struct ConnectionInner {
    /// In an `Arc` of its own, so that the connection task can hold a `Weak` to it: the connection
    /// ends with its last handle.
    pub(crate) send: Arc<SendRequest<Bytes>>,
    pub(crate) origin: http::Uri,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) index: usize,
    pub(crate) limits: MessageLimits,
    bearer: Option<Arc<Bearer>>,
    pub(crate) store: Arc<SharedStoreIdentity>,
    pub(super) slots: StreamSlots,
    pub(super) state: Arc<ConnectionState>,
}

impl Connection {
    pub(crate) fn new(
        send: Arc<SendRequest<Bytes>>,
        origin: http::Uri,
        endpoint: Arc<Endpoint>,
        index: usize,
        settings: &TransportSettings,
        store: Arc<SharedStoreIdentity>,
        state: Arc<ConnectionState>,
    ) -> Self {
        let slots = StreamSlots::new(send.current_max_send_streams());
        state.slots.get_or_init(|| slots.clone());
        let parts = Arc::new(ConnectionInner {
            send,
            origin,
            endpoint,
            index,
            limits: settings.limits,
            bearer: settings.tokens.as_ref().map(|tokens| tokens.bearer()),
            store,
            slots,
            state,
        });
        Connection {
            parts,
            reserved: None,
        }
    }

    /// Returns a handle with a reserved stream slot, or `None` when no slot is free.
    pub(crate) fn with_slot(&self) -> Option<Self> {
        let reserved = self.slots.try_reserve().ok()?;
        Some(self.with_reserved(reserved))
    }

    /// Waits for a stream slot and returns a handle with it; `None` when the connection accepts no
    /// more requests.
    pub(crate) async fn wait_for_slot(&self) -> Option<Self> {
        let reserved = self.slots.reserve().await.ok()?;
        Some(self.with_reserved(reserved))
    }

    fn with_reserved(&self, reserved: Option<Reserved>) -> Self {
        Connection {
            parts: Arc::clone(&self.parts),
            reserved,
        }
    }

    /// The number of concurrent streams that the server permits; `None` when there is no limit.
    pub(crate) fn stream_limit(&self) -> Option<usize> {
        self.slots.limit()
    }

    /// A weak reference, which does not keep the connection open.
    pub(crate) fn downgrade(&self) -> Weak<ConnectionInner> {
        Arc::downgrade(&self.parts)
    }

    /// Returns a handle if the connection still has another one.
    pub(crate) fn revive(parts: &Weak<ConnectionInner>) -> Option<Self> {
        let parts = parts.upgrade()?;
        Some(Connection {
            parts,
            reserved: None,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.end.borrow().is_none() && !self.state.is_draining()
    }

    /// Why the connection accepts no more requests.
    pub(crate) fn why_ended(&self) -> Arc<str> {
        let why = self.state.why_ended();
        why.unwrap_or_else(|| "the server accepts no more requests".into())
    }

    /// Whether both are handles of one connection.
    pub(crate) fn is_same(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Whether a stream is open on the connection.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.is_busy()
    }

    /// When the last byte arrived.
    pub(super) fn last_sign_of_life(&self) -> Instant {
        self.state.last_sign_of_life()
    }

    /// The time since the last byte arrived.
    pub(crate) fn silent_for(&self) -> Duration {
        self.state.last_sign_of_life().elapsed()
    }

    pub(crate) fn lacks_range_stream(&self) -> bool {
        self.state.no_range_stream.load(Relaxed)
    }

    pub(crate) fn note_no_range_stream(&self) {
        self.state.no_range_stream.store(true, Relaxed);
    }

    /// Adds the client's token to a request, if there is one.
    pub(crate) fn attach_token<T>(&self, request: &mut http::Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.attach_token(request);
        }
    }

    /// Requests a keepalive check after a call got no answer in time.
    pub(crate) fn suspect(&self) {
        self.state.suspected.notify_one();
    }
}

impl Deref for Connection {
    type Target = ConnectionInner;

    fn deref(&self) -> &ConnectionInner {
        &self.parts
    }
}

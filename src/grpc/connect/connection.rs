//! One HTTP/2 connection, and the service that tonic's generated stubs call for what streams.
//!
//! A request whose body is complete leaves at once: its headers and its data are queued together,
//! and h2 writes what is queued in one go.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tonic::body::Body;
use tower_service::Service;

use super::connect_error::{ConnectError, Sent};
use super::endpoint::Endpoint;
use super::store::Store;
use super::stream_slots::{Reserved, StreamSlot, StreamSlots};
use crate::grpc::Settings;
use crate::grpc::token::Bearer;

/// An open connection; a cheap handle: one counter goes up when it is cloned, where a clone of h2's
/// own handle takes a lock.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    parts: Arc<Parts>,
    /// The stream slot that was reserved for whoever has the handle.
    reserved: Option<Reserved>,
}

/// What the handles of a connection share.
#[derive(Debug)]
pub(crate) struct Parts {
    /// In an `Arc` of its own for the task that moves the frames, which looks at it and must not
    /// keep it: the connection ends with the last handle.
    pub(crate) send: Arc<SendRequest<Bytes>>,
    pub(crate) origin: http::Uri,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) index: usize,
    pub(crate) limits: Limits,
    bearer: Option<Arc<Bearer>>,
    pub(crate) store: Arc<Store>,
    slots: StreamSlots,
    vitals: Arc<Vitals>,
}

/// The largest messages, and the longest transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) receive: usize,
    pub(crate) send: usize,
    pub(crate) txn_ops: usize,
}

/// What is known about the life of a connection.
#[derive(Debug)]
pub(crate) struct Vitals {
    open_streams: AtomicUsize,
    /// Those of them that go on for as long as the connection does.
    open_flows: AtomicUsize,
    /// When the server last showed that it is there.
    heard: Mutex<Instant>,
    /// Why it ended, once it has.
    end: watch::Sender<Option<Arc<str>>>,
    /// It takes no more requests, though it may still answer those that it has.
    draining: AtomicBool,
    /// Those who wait for one are told of the end.
    slots: OnceLock<StreamSlots>,
    /// The server said that it has no RangeStream (before 3.7, and gRPC proxies). A server that is
    /// replaced by a newer one is reached over another connection.
    no_range_stream: AtomicBool,
    /// Somebody waited in vain: check now.
    pub(crate) suspected: Notify,
    /// End it.
    pub(crate) kill: Notify,
}

impl Vitals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Vitals {
            open_streams: AtomicUsize::new(0),
            open_flows: AtomicUsize::new(0),
            heard: Mutex::new(Instant::now()),
            end: watch::Sender::new(None),
            draining: AtomicBool::new(false),
            slots: OnceLock::new(),
            no_range_stream: AtomicBool::new(false),
            suspected: Notify::new(),
            kill: Notify::new(),
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.open_streams.load(Relaxed) > 0
    }

    /// When the server last showed that it is there.
    pub(crate) fn heard(&self) -> Instant {
        *self.heard.lock()
    }

    /// The server shows that it is there.
    pub(crate) fn touch(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Records why the connection ended; the first reason stays.
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

    /// The server is shutting down: it finishes what it has, and takes no more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.close_slots();
    }

    fn close_slots(&self) {
        if let Some(slots) = self.slots.get() {
            slots.close();
        }
    }

    /// Whether the server waits for nothing but flows, which would never end by themselves. It
    /// holds its shutdown up for them, for seconds, and they have to go elsewhere anyway.
    pub(crate) fn is_drained(&self) -> bool {
        let (streams, flows) = (&self.open_streams, &self.open_flows);
        self.draining.load(Relaxed) && streams.load(Relaxed) <= flows.load(Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) async fn until_ended(&self) {
        // The sender is right here: it cannot be gone.
        let _ = self.end.subscribe().wait_for(Option::is_some).await;
    }
}

impl Connection {
    pub(crate) fn new(
        send: Arc<SendRequest<Bytes>>,
        origin: http::Uri,
        endpoint: Arc<Endpoint>,
        index: usize,
        settings: &Settings,
        store: Arc<Store>,
        vitals: Arc<Vitals>,
    ) -> Self {
        let slots = StreamSlots::new(send.current_max_send_streams());
        vitals.slots.get_or_init(|| slots.clone());
        let parts = Arc::new(Parts {
            send,
            origin,
            endpoint,
            index,
            limits: settings.limits,
            bearer: settings.tokens.as_ref().map(|tokens| tokens.bearer()),
            store,
            slots,
            vitals,
        });
        Connection {
            parts,
            reserved: None,
        }
    }

    /// A handle with a stream slot of its own, if there is one that is free.
    pub(crate) fn with_slot(&self) -> Option<Self> {
        let reserved = self.slots.try_reserve().ok()?;
        Some(self.with_reserved(reserved))
    }

    /// The same, after a wait; `None` when the connection takes no more requests.
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

    /// The streams that the server permits on it at a time, if it limits them.
    pub(crate) fn stream_limit(&self) -> Option<usize> {
        self.slots.limit()
    }

    /// For who looks after it, and must not keep it.
    pub(crate) fn downgrade(&self) -> Weak<Parts> {
        Arc::downgrade(&self.parts)
    }

    /// A handle again, if there is still another one.
    pub(crate) fn revive(parts: &Weak<Parts>) -> Option<Self> {
        let parts = parts.upgrade()?;
        Some(Connection {
            parts,
            reserved: None,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.vitals.end.borrow().is_none() && !self.vitals.is_draining()
    }

    /// Why it takes no more requests.
    pub(crate) fn why_ended(&self) -> Arc<str> {
        let why = self.vitals.why_ended();
        why.unwrap_or_else(|| "the server takes no more requests".into())
    }

    /// Whether both are handles of one connection.
    pub(crate) fn is_same(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.vitals, &other.vitals)
    }

    /// Whether something is open on it.
    pub(crate) fn is_busy(&self) -> bool {
        self.vitals.is_busy()
    }

    /// How long ago anything arrived on it.
    pub(crate) fn silent_for(&self) -> Duration {
        self.vitals.heard().elapsed()
    }

    pub(crate) fn lacks_range_stream(&self) -> bool {
        self.vitals.no_range_stream.load(Relaxed)
    }

    pub(crate) fn note_no_range_stream(&self) {
        self.vitals.no_range_stream.store(true, Relaxed);
    }

    /// Adds the client's token to a request, if there is one.
    pub(crate) fn attach_token<T>(&self, request: &mut http::Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.attach_token(request);
        }
    }

    /// A call got no answer in time: find out whether anybody is there.
    pub(crate) fn suspect(&self) {
        self.vitals.suspected.notify_one();
    }
}

impl Deref for Connection {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    /// Always ready: waiting happens in the call, where an error keeps its type.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.attach_token(&mut request);
        let open = Open::new(self);
        Box::pin(exchange(SendRequest::clone(&self.send), request, open))
    }
}

async fn exchange(
    send: SendRequest<Bytes>,
    request: http::Request<Body>,
    mut open: Open,
) -> Result<http::Response<Incoming>, ConnectError> {
    let ready = send.ready().await;
    let mut send = ready.map_err(|error| open.not_sent(&error))?;
    let (parts, mut body) = request.into_parts();
    let first = std::future::poll_fn(|cx| Poll::Ready(Chunk::poll(&mut body, cx))).await;
    let (response, stream) = send
        .send_request(http::Request::from_parts(parts, ()), false)
        .map_err(|error| open.not_sent(&error))?;
    let pump = Pump {
        body,
        stream,
        first: Some(first),
    };
    if let Some(pump) = pump.now().await {
        // A body that goes on for as long as its stream does; it ends with either.
        open.flows();
        tokio::spawn(pump);
    }
    let response = response.await.map_err(|error| open.explain(&error))?;
    Ok(response.map(|stream| Incoming {
        stream,
        open,
        data_ended: false,
    }))
}

/// What a request body has to give right now.
enum Chunk {
    Data(Bytes),
    End,
    Later,
}

impl Chunk {
    fn poll(body: &mut Body, cx: &mut Context<'_>) -> Chunk {
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Chunk::Later,
                // The codec does not fail on messages of ours; if it did, there is no more to send.
                Poll::Ready(None | Some(Err(_))) => return Chunk::End,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Chunk::Data(data),
                    Err(_not_data) => {}
                },
            }
        }
    }
}

/// Moves a request body into its stream.
struct Pump {
    body: Body,
    stream: SendStream<Bytes>,
    first: Option<Chunk>,
}

impl Pump {
    /// Sends what is there; the pump comes back when more may follow later.
    async fn now(mut self) -> Option<Pump> {
        let ended = std::future::poll_fn(|cx| Poll::Ready(self.step(cx))).await;
        match ended {
            Poll::Ready(()) => None,
            Poll::Pending => Some(self),
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = match self.first.take() {
            Some(chunk) => chunk,
            None => Chunk::poll(&mut self.body, cx),
        };
        loop {
            let data = match chunk {
                Chunk::Later => return Poll::Pending,
                Chunk::End => Bytes::new(),
                Chunk::Data(data) => data,
            };
            let next = if data.is_empty() {
                Chunk::End
            } else {
                Chunk::poll(&mut self.body, cx)
            };
            let last = matches!(next, Chunk::End);
            // An error here is the stream's, and its response says why.
            if self.stream.send_data(data, last).is_err() || last {
                return Poll::Ready(());
            }
            chunk = next;
        }
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.step(cx),
        }
    }
}

/// A stream that is open, for as long as it is.
#[derive(Debug)]
pub(crate) struct Open {
    vitals: Arc<Vitals>,
    flow: bool,
    _slot: Option<StreamSlot>,
}

impl Open {
    pub(crate) fn new(connection: &Connection) -> Self {
        connection.vitals.open_streams.fetch_add(1, Relaxed);
        Open {
            vitals: Arc::clone(&connection.vitals),
            flow: false,
            _slot: connection.slots.take(connection.reserved.as_ref()),
        }
    }

    /// It goes on for as long as it can.
    fn flows(&mut self) {
        self.flow = true;
        self.vitals.open_flows.fetch_add(1, Relaxed);
    }

    /// The fault of a stream that could not be opened.
    #[cold]
    pub(crate) fn not_sent(&self, error: &h2::Error) -> ConnectError {
        // The next request needs another connection, also while this one is not over.
        self.vitals.drain();
        ConnectError {
            sent: Sent::No,
            ..match self.vitals.why_ended() {
                Some(why) => ConnectError::unconnected(&*why),
                None => ConnectError::of_stream(error),
            }
        }
    }

    /// The fault of a stream, with the reason of its connection where that is why.
    pub(crate) fn explain(&self, error: &h2::Error) -> ConnectError {
        let fault = ConnectError::of_stream(error);
        match self.vitals.why_ended() {
            Some(why) => ConnectError {
                text: why.to_string(),
                ..fault
            },
            None => fault,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.vitals.open_streams.fetch_sub(1, Relaxed);
        if self.flow {
            self.vitals.open_flows.fetch_sub(1, Relaxed);
        }
    }
}

/// A response body, as tonic reads it. Flow control follows the reader.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    open: Open,
    data_ended: bool,
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = ConnectError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectError>>> {
        let this = &mut *self;
        if !this.data_ended {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only on a stream that is over, which the next poll reports.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(this.open.explain(&error)))),
                None => this.data_ended = true,
            }
        }
        match ready!(this.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(this.open.explain(&error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

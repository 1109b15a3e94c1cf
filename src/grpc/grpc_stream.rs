//! A stream of messages with one member: opens it, sends, reads, and records what its end shows.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use super::attempt_failure::AttemptFailure;
use super::connect::connection::Connection;
use super::connect::connection_role::ConnectionRole;
use super::connect::urgency::Urgency;
use super::etcd_rs_proto::{Duplex, ServerStream, Streaming};
use super::limits::too_large;
use super::member_condition::MemberCondition;
use super::received::Received;
use super::rpc_error::RpcError;
use super::stream_codec::StreamItem;
use super::stream_halves::StreamHalves;
use super::transport::Transport;
use crate::error::ServerError;

type Connecting = Pin<Box<dyn Future<Output = Result<Connection, RpcError>> + Send>>;

/// A stream that is closed at first, and can be opened any number of times, each time with another
/// connection of its role.
///
/// It closes itself when it fails. It then records what the failure shows about the member, and
/// gets another token before it is opened again if the server rejected the last one.
pub(crate) struct GrpcStream<M: Streaming> {
    transport: Arc<Transport>,
    role: ConnectionRole,
    /// The only message of the client, on a stream of the server.
    request: Option<M>,
    needs_leader: bool,
    /// The token that the server rejected, by its generation, and the answer.
    rejected_token: Option<(u64, ServerError)>,
    state: State<M>,
}

enum State<M: Streaming> {
    Closed,
    Connecting {
        connecting: Connecting,
        /// The attempt has background priority and no token to renew, so it can be started again
        /// with a higher priority.
        may_restart: bool,
    },
    Open(StreamHalves<M>),
}

/// An event of a stream.
#[derive(Debug)]
pub(crate) enum StreamEvent<T> {
    /// There is a connection, and messages can be sent.
    Opened,
    Message(T),
    /// The stream ended or could not be opened. It is closed.
    Closed(StreamClosed),
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) struct StreamClosed {
    /// The endpoint of the stream; `None` when there was no connection.
    pub(crate) endpoint: Option<Arc<str>>,
    /// `None` when the server ended the stream without an error.
    pub(crate) failure: Option<AttemptFailure>,
}

impl Transport {
    /// Creates a stream on which the server answers one request with many messages.
    pub(crate) fn server_stream<M: ServerStream>(
        self: &Arc<Self>,
        role: ConnectionRole,
        request: M,
    ) -> GrpcStream<M> {
        GrpcStream::new(self, role, Some(request))
    }

    /// Creates a stream of messages in both directions. The first message has to be sent after each
    /// opening, because a server answers only then.
    pub(crate) fn duplex<M: Duplex>(self: &Arc<Self>, role: ConnectionRole) -> GrpcStream<M> {
        GrpcStream::new(self, role, None)
    }
}

impl<M: Streaming> GrpcStream<M> {
    fn new(transport: &Arc<Transport>, role: ConnectionRole, request: Option<M>) -> Self {
        GrpcStream {
            transport: Arc::clone(transport),
            role,
            request,
            needs_leader: true,
            rejected_token: None,
            state: State::Closed,
        }
    }

    /// Sets whether the stream requires a member with a leader: a member without one rejects it at
    /// once instead of holding it until a timeout.
    pub(crate) fn needs_leader(self, needs_leader: bool) -> Self {
        GrpcStream {
            needs_leader,
            ..self
        }
    }

    /// Starts to open the stream, with another token if the last one was rejected. Drops an open
    /// stream.
    pub(crate) fn open(&mut self, urgency: Urgency) {
        let (transport, role) = (Arc::clone(&self.transport), self.role);
        let rejected = self.rejected_token.take();
        self.state = State::Connecting {
            may_restart: urgency == Urgency::Background && rejected.is_none(),
            connecting: Box::pin(async move {
                if let Some((generation, answer)) = rejected {
                    transport.renew(generation, &answer).await?;
                }
                transport.connection(role, urgency).await
            }),
        };
    }

    /// Raises the priority of the attempt to connect, because a caller waits for it now.
    pub(crate) fn hurry(&mut self) {
        if let State::Connecting {
            may_restart: true, ..
        } = &self.state
        {
            self.open(Urgency::Call);
        }
    }

    /// Opens the stream on this connection.
    fn open_on(&mut self, connection: Connection) {
        let generation = self.transport.generation();
        let mut halves = StreamHalves::open(connection, generation, self.needs_leader);
        if let Some(request) = self.request.clone() {
            halves.send_last(request);
        }
        self.state = State::Open(halves);
    }

    /// Sends a message. On a stream that is not open it does nothing: an event reports the end.
    pub(crate) fn send(&self, message: M) {
        if let State::Open(halves) = &self.state {
            halves.send(message);
        }
    }

    /// The connection of an open stream.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Open(halves) => Some(&halves.connection),
            State::Closed | State::Connecting { .. } => None,
        }
    }

    /// What has arrived on an open stream.
    pub(crate) fn received(&self) -> Option<&Arc<Received>> {
        match &self.state {
            State::Open(halves) => Some(&halves.received),
            State::Closed | State::Connecting { .. } => None,
        }
    }

    /// Closes the stream, which resets it on the server, and records the condition of its member.
    pub(crate) fn close(&mut self, condition: MemberCondition) {
        if let State::Open(halves) = std::mem::replace(&mut self.state, State::Closed) {
            self.transport
                .report(self.role, &halves.connection, condition);
        }
    }

    /// Closes the stream because nothing was answered for `waited`. The next one uses another
    /// connection.
    pub(crate) fn abandon(&mut self, waited: Duration) {
        self.report_unanswered(waited);
        self.state = State::Closed;
    }

    /// Records that nothing was answered on the open stream for `waited`. Other streams of its role use
    /// another connection from now on.
    pub(crate) fn report_unanswered(&self, waited: Duration) {
        if let State::Open(halves) = &self.state {
            self.transport
                .unanswered(self.role, &halves.connection, waited);
        }
    }

    /// Records that the server rejected the token in a message of the open stream.
    pub(crate) fn token_rejected(&mut self, answer: ServerError) {
        if let State::Open(halves) = &self.state {
            self.rejected_token = Some((halves.generation, answer));
        }
    }

    /// Polls for the next event; a message over the client's limit is an item. Pending while the
    /// stream is closed.
    pub(crate) fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<StreamEvent<StreamItem<M::Reply>>> {
        let event = ready!(self.poll_unreported(cx));
        if let StreamEvent::Closed(StreamClosed { failure, .. }) = &event {
            self.closed(failure.as_ref());
        }
        Poll::Ready(event)
    }

    /// Polls for the next event; a message over the client's limit ends the stream. Pending while
    /// the stream is closed.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<StreamEvent<M::Reply>> {
        let item = ready!(self.poll_unreported(cx));
        let event = self.message(item);
        if let StreamEvent::Closed(StreamClosed { failure, .. }) = &event {
            self.closed(failure.as_ref());
        }
        Poll::Ready(event)
    }

    /// Waits for the next event.
    pub(crate) async fn next(&mut self) -> StreamEvent<M::Reply> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Waits for the next event. Silence for this time ends the stream.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> StreamEvent<M::Reply> {
        match timeout(limit, self.next()).await {
            Ok(event) => event,
            Err(_) => {
                let endpoint = self.endpoint();
                self.closed(Some(&AttemptFailure::Silence));
                StreamEvent::Closed(StreamClosed {
                    endpoint,
                    failure: Some(AttemptFailure::Silence),
                })
            }
        }
    }

    /// Opens the stream on the connection of one attempt of a call, with this message of the client,
    /// and waits for the first message of the server. The call reports a failure.
    pub(crate) async fn first(
        &mut self,
        connection: Connection,
        message: Option<M>,
    ) -> Result<M::Reply, RpcError> {
        self.open_on(connection);
        if let (Some(message), State::Open(halves)) = (message, &mut self.state) {
            halves.send_last(message);
        }
        let event = poll_fn(|cx| self.poll_unreported(cx)).await;
        match self.message(event) {
            StreamEvent::Message(message) => Ok(message),
            StreamEvent::Opened => Err(RpcError::Status(ended_early())),
            StreamEvent::Closed(StreamClosed { failure, .. }) => Err(match failure {
                Some(AttemptFailure::Broken(error) | AttemptFailure::NoConnection(error)) => {
                    RpcError::Connection(error)
                }
                Some(AttemptFailure::Status(answer)) => RpcError::Status(answer),
                Some(AttemptFailure::Silence) | None => RpcError::Status(ended_early()),
            }),
        }
    }

    fn endpoint(&self) -> Option<Arc<str>> {
        self.connection().map(|c| Arc::clone(&c.endpoint.text))
    }

    /// Closes the stream after its end.
    fn closed(&mut self, failure: Option<&AttemptFailure>) {
        if let Some(answer) = failure.and_then(AttemptFailure::token_rejection) {
            self.token_rejected(answer.clone());
        }
        self.close(failure.map_or(MemberCondition::Healthy, AttemptFailure::member_condition));
    }

    /// Turns a message over the client's limit into the end of the stream.
    fn message(&self, event: StreamEvent<StreamItem<M::Reply>>) -> StreamEvent<M::Reply> {
        match event {
            StreamEvent::Opened => StreamEvent::Opened,
            StreamEvent::Message(StreamItem::Message(message)) => StreamEvent::Message(message),
            StreamEvent::Message(StreamItem::TooLarge { bytes, .. }) => {
                let limit = self.transport.settings().limits.receive;
                let failure = Some(AttemptFailure::Status(too_large(bytes, limit)));
                StreamEvent::Closed(StreamClosed {
                    endpoint: self.endpoint(),
                    failure,
                })
            }
            StreamEvent::Closed(closed) => StreamEvent::Closed(closed),
        }
    }

    /// Polls for the next event, and leaves the state as it is after the end.
    fn poll_unreported(&mut self, cx: &mut Context<'_>) -> Poll<StreamEvent<StreamItem<M::Reply>>> {
        let halves = match &mut self.state {
            State::Closed => return Poll::Pending,
            State::Connecting { connecting, .. } => {
                return Poll::Ready(match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connection) => {
                        self.open_on(connection);
                        StreamEvent::Opened
                    }
                    Err(error) => StreamEvent::Closed(StreamClosed {
                        endpoint: None,
                        failure: Some(AttemptFailure::of_connecting(error)),
                    }),
                });
            }
            State::Open(halves) => halves,
        };
        let failure = match ready!(halves.poll(cx)) {
            Ok(Some(item)) => return Poll::Ready(StreamEvent::Message(item)),
            Ok(None) => None,
            Err(error) => Some(AttemptFailure::from(error)),
        };
        Poll::Ready(StreamEvent::Closed(StreamClosed {
            endpoint: self.endpoint(),
            failure,
        }))
    }
}

/// The error of a stream that ended before its first message.
fn ended_early() -> ServerError {
    ServerError::read(
        i32::from(tonic::Code::Unavailable),
        "the server ended the stream without a message",
    )
}

#[cfg(test)]
mod tests;

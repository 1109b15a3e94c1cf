//! The stream that renews leases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use super::renewal_schedule::{Input, StreamFailure, StreamRole};
use crate::error::{ErrorKind, RetryHint, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::grpc::{
    Connection, ConnectionRole, MemberCondition, RpcError, Transport, Urgency, classify,
    member_condition, outgoing,
};
use crate::types::LeaseId;

type Wait<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// An event of a renewal stream.
#[derive(Debug)]
pub(super) enum RenewalEvent {
    /// Requests can be sent.
    Opened,
    /// A request was answered.
    Answer { lease: LeaseId, ttl: i64 },
    /// The stream ended or could not be opened. It is closed.
    Broken(StreamFailure),
    /// The server ended the stream because it refused a renewal. It is closed.
    Refused(StreamFailure),
}

impl RenewalEvent {
    /// The input of the schedule for this event of the stream `role`.
    pub(super) fn input(self, role: StreamRole) -> Input {
        match self {
            RenewalEvent::Opened => Input::Opened(role),
            RenewalEvent::Answer { lease, ttl } => Input::Answer { role, lease, ttl },
            RenewalEvent::Broken(failure) => Input::Broken(role, failure),
            RenewalEvent::Refused(failure) => Input::Refused(role, failure),
        }
    }
}

/// A renewal stream, which can be opened repeatedly.
pub(super) struct RenewalStream {
    transport: Arc<Transport>,
    state: State,
    /// The token that the server refused on the last stream, by its generation, and the refusal.
    refused: Option<(u64, ServerError)>,
}

#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum State {
    Closed,
    Connecting(Wait<Connection, RpcError>),
    Open {
        connection: Connection,
        /// The generation of the token that the stream was opened with.
        generation: u64,
        requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
        answers: Answers,
    },
}

/// The receiving half. etcd sends its headers with the first answer, so requests are sent before the
/// stream is established.
#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum Answers {
    Awaited(Wait<Response<Streaming<LeaseKeepAliveResponse>>, Status>),
    Flowing(Streaming<LeaseKeepAliveResponse>),
}

impl RenewalStream {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        RenewalStream {
            transport,
            state: State::Closed,
            refused: None,
        }
    }

    /// Starts to open the stream. Drops an open one.
    pub(super) fn open(&mut self, urgency: Urgency) {
        let transport = Arc::clone(&self.transport);
        let refused = self.refused.take();
        self.state = State::Connecting(Box::pin(async move {
            if let Some((generation, answer)) = refused {
                transport.renew(generation, &answer).await?;
            }
            transport.connection(ConnectionRole::Leases, urgency).await
        }));
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Closes the stream because nothing was answered for `waited`. The next one uses another connection.
    pub(super) fn abandon(&mut self, waited: Duration) {
        if let State::Open { connection, .. } = &self.state {
            self.transport
                .unanswered(ConnectionRole::Leases, connection, waited);
        }
        self.close();
    }

    pub(super) fn send(&mut self, lease: LeaseId) {
        if let State::Open { requests, .. } = &self.state {
            // When the stream has ended, `poll` reports it.
            let _ = requests.send(LeaseKeepAliveRequest { id: lease.get() });
        }
    }

    /// Polls for the next event. Pending while the stream is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RenewalEvent> {
        loop {
            match &mut self.state {
                State::Closed => return Poll::Pending,
                State::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connection) => {
                        self.state = start(connection, self.transport.generation());
                        return Poll::Ready(RenewalEvent::Opened);
                    }
                    Err(error) => {
                        self.state = State::Closed;
                        // The texts of other errors contain the endpoint.
                        let tls =
                            matches!(&error, RpcError::ConnectError(f) if f.kind == ErrorKind::Tls);
                        let endpoint = tls.then(|| self.transport.name());
                        return Poll::Ready(RenewalEvent::Broken(failure(error, endpoint)));
                    }
                },
                State::Open { answers, .. } => match answers {
                    Answers::Awaited(headers) => match ready!(headers.as_mut().poll(cx)) {
                        Ok(response) => *answers = Answers::Flowing(response.into_inner()),
                        Err(status) => return Poll::Ready(self.broken(Some(&status))),
                    },
                    Answers::Flowing(flow) => match ready!(Pin::new(flow).poll_next(cx)) {
                        Some(Ok(pb)) => {
                            if let Some(lease) = LeaseId::new(pb.id) {
                                return Poll::Ready(RenewalEvent::Answer { lease, ttl: pb.ttl });
                            }
                        }
                        Some(Err(status)) => return Poll::Ready(self.broken(Some(&status))),
                        None => return Poll::Ready(self.broken(None)),
                    },
                },
            }
        }
    }

    fn broken(&mut self, status: Option<&Status>) -> RenewalEvent {
        let State::Open {
            connection,
            generation,
            ..
        } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return RenewalEvent::Broken(StreamFailure::new(
                ErrorKind::Unavailable,
                "the stream is closed",
            ));
        };
        let endpoint = Some(Arc::clone(&connection.endpoint.text));
        let Some(error) = status.map(classify) else {
            return RenewalEvent::Broken(StreamFailure {
                endpoint,
                ..StreamFailure::new(ErrorKind::Unavailable, "the server ended the stream")
            });
        };
        let RpcError::Answer(answer) = &error else {
            return RenewalEvent::Broken(failure(error, endpoint));
        };
        let suspicion = member_condition(answer);
        self.transport
            .report(ConnectionRole::Leases, &connection, suspicion);
        let is_token = matches!(answer.retry_hint, RetryHint::NewToken(_));
        if is_token {
            self.refused = Some((generation, answer.clone()));
        }
        let is_request =
            !is_token && suspicion == MemberCondition::Healthy && is_about_request(answer.kind);
        let failure = failure(error, endpoint);
        match is_request {
            true => RenewalEvent::Refused(failure),
            false => RenewalEvent::Broken(failure),
        }
    }
}

/// Whether an error of this kind concerns the request, and not the member or the time.
fn is_about_request(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::RateLimited
            | ErrorKind::Unimplemented
            | ErrorKind::Protocol
    )
}

fn start(connection: Connection, generation: u64) -> State {
    let (requests, queue) = mpsc::unbounded_channel();
    let mut stub = connection.clone().lease();
    let answers = Answers::Awaited(Box::pin(async move {
        stub.lease_keep_alive(outgoing(Requests(queue), true)).await
    }));
    State::Open {
        connection,
        generation,
        requests,
        answers,
    }
}

fn failure(error: RpcError, endpoint: Option<Arc<str>>) -> StreamFailure {
    let (kind, text) = match error {
        RpcError::ConnectError(error) => (error.kind, error.text),
        RpcError::Answer(answer) => (answer.kind, answer.text),
    };
    StreamFailure {
        kind,
        text,
        endpoint,
    }
}

struct Requests(mpsc::UnboundedReceiver<LeaseKeepAliveRequest>);

impl Stream for Requests {
    type Item = LeaseKeepAliveRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

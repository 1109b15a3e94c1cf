//! A stream that renews leases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use super::renewal_schedule::{Input, Path, Trouble};
use crate::error::{ErrorKind, Remedy, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::grpc::{
    Connection, ConnectionRole, Demand, RpcError, Suspicion, Transport, classify, outgoing,
    suspicion,
};
use crate::types::LeaseId;

type Wait<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// What the stream has to say.
#[derive(Debug)]
pub(super) enum Event {
    /// Requests can be sent.
    Opened,
    /// A request was answered.
    Answer { lease: LeaseId, ttl: i64 },
    /// It ended, or could not be opened; it is closed now.
    Broken(Trouble),
    /// The server ended it because of the renewal that it was at; it is closed now.
    Refused(Trouble),
}

impl Event {
    /// What it means to the keeper, on this stream.
    pub(super) fn on(self, path: Path) -> Input {
        match self {
            Event::Opened => Input::Opened(path),
            Event::Answer { lease, ttl } => Input::Answer { path, lease, ttl },
            Event::Broken(trouble) => Input::Broken(path, trouble),
            Event::Refused(trouble) => Input::Refused(path, trouble),
        }
    }
}

/// A stream that can be opened again and again.
pub(super) struct RenewalStream {
    transport: Arc<Transport>,
    state: State,
    /// How the server refused the token of the last stream, and which token it was.
    refused: Option<(u64, ServerError)>,
}

#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum State {
    Closed,
    Connecting(Wait<Connection, RpcError>),
    Open {
        connection: Connection,
        /// The token that the stream began with.
        generation: u64,
        requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
        answers: Answers,
    },
}

/// etcd sends its headers with the first answer, so requests flow before the stream is "there".
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

    /// Begins to open it; an open one is dropped.
    pub(super) fn open(&mut self, demand: Demand) {
        let transport = Arc::clone(&self.transport);
        let refused = self.refused.take();
        self.state = State::Connecting(Box::pin(async move {
            if let Some((generation, answer)) = refused {
                transport.renew(generation, &answer).await?;
            }
            transport.connection(ConnectionRole::Leases, demand).await
        }));
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Closes it because nothing was answered for `waited`; the next one goes another way.
    pub(super) fn abandon(&mut self, waited: Duration) {
        if let State::Open { connection, .. } = &self.state {
            self.transport
                .unanswered(ConnectionRole::Leases, connection, waited);
        }
        self.close();
    }

    pub(super) fn send(&mut self, lease: LeaseId) {
        if let State::Open { requests, .. } = &self.state {
            // A stream that is over says so by itself.
            let _ = requests.send(LeaseKeepAliveRequest { id: lease.get() });
        }
    }

    /// The next event; pending for ever while it is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match &mut self.state {
                State::Closed => return Poll::Pending,
                State::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connection) => {
                        self.state = start(connection, self.transport.generation());
                        return Poll::Ready(Event::Opened);
                    }
                    Err(problem) => {
                        self.state = State::Closed;
                        // Others name it in their text.
                        let tls = matches!(&problem, RpcError::ConnectError(f) if f.kind == ErrorKind::Tls);
                        let endpoint = tls.then(|| self.transport.name());
                        return Poll::Ready(Event::Broken(trouble(problem, endpoint)));
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
                                return Poll::Ready(Event::Answer { lease, ttl: pb.ttl });
                            }
                        }
                        Some(Err(status)) => return Poll::Ready(self.broken(Some(&status))),
                        None => return Poll::Ready(self.broken(None)),
                    },
                },
            }
        }
    }

    fn broken(&mut self, status: Option<&Status>) -> Event {
        let State::Open {
            connection,
            generation,
            ..
        } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return Event::Broken(Trouble::new(ErrorKind::Unavailable, "the stream is closed"));
        };
        let endpoint = Some(Arc::clone(&connection.endpoint.text));
        let Some(problem) = status.map(classify) else {
            return Event::Broken(Trouble {
                endpoint,
                ..Trouble::new(ErrorKind::Unavailable, "the server ended the stream")
            });
        };
        let RpcError::Answer(error) = &problem else {
            return Event::Broken(trouble(problem, endpoint));
        };
        let suspicion = suspicion(error);
        self.transport
            .report(ConnectionRole::Leases, &connection, suspicion);
        let is_token = matches!(error.remedy, Remedy::Token(_));
        if is_token {
            self.refused = Some((generation, error.clone()));
        }
        let is_request = !is_token && suspicion == Suspicion::None && is_about_request(error.kind);
        let trouble = trouble(problem, endpoint);
        match is_request {
            true => Event::Refused(trouble),
            false => Event::Broken(trouble),
        }
    }
}

/// Whether an error of this kind is about what was asked for, and not about who was asked or when.
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

fn trouble(problem: RpcError, endpoint: Option<Arc<str>>) -> Trouble {
    let (kind, text) = match problem {
        RpcError::ConnectError(fault) => (fault.kind, fault.text),
        RpcError::Answer(answer) => (answer.kind, answer.text),
    };
    Trouble {
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

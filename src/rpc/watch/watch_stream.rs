//! The wire under the state: a connection, the stream on it, and the reads beside it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::state::{Doubt, Ending, Input};
use crate::error::{ErrorKind, ServerError};
use crate::grpc::etcd_rs_proto::Duplex as _;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    RangeRequest, StatusRequest, WatchRequest, WatchResponse,
};
use crate::grpc::{
    Connection, ConnectionRole, Consistency, Demand, Framed, GrpcStream, Item, Known, RpcError,
    Suspicion, Transport,
};

/// How long the read has that begins a stream; from when anything last arrived on the stream, since
/// its answer comes over the same connection.
const READ_WITHIN: Duration = Duration::from_secs(5);

type Fut<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What there is of a stream.
pub(super) struct WatchStream {
    transport: Arc<Transport>,
    connecting: Option<Fut<Result<Connection, Ending>>>,
    /// That attempt takes its time, and does nothing else on the way.
    patient: bool,
    open: Option<Open>,
    /// The epoch of the store that the watches were told last.
    epoch: u64,
    /// A read of a store that was replaced, until the watches were told of that.
    read: Option<i64>,
    /// How the server refused the token of the last stream, and which token it was.
    refused: Option<(u64, ServerError)>,
}

struct Open {
    connection: Connection,
    /// What was known of the store when the stream began.
    asked: Known,
    /// The token that the stream began with; the server looks at no other for as long as it lasts.
    generation: u64,
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Responses,
    /// The bytes that arrived on the stream, and those of the last look.
    arrived: Arc<AtomicU64>,
    seen: u64,
    version: Option<Fut<bool>>,
    reading: Option<Fut<Result<i64, Ending>>>,
}

/// A server sends its headers with its first response, so the stream must be written to before it
/// is there.
enum Responses {
    Asked(Fut<Result<GrpcStream<WatchResponse>, RpcError>>),
    Flowing(Box<GrpcStream<WatchResponse>>),
    Over,
}

impl WatchStream {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        WatchStream {
            transport,
            connecting: None,
            patient: false,
            open: None,
            epoch: 0,
            read: None,
            refused: None,
        }
    }

    pub(super) fn connect(&mut self, demand: Demand) {
        let transport = Arc::clone(&self.transport);
        let refused = self.refused.take();
        self.patient = demand == Demand::Background && refused.is_none();
        self.connecting = Some(Box::pin(async move {
            if let Some((generation, answer)) = refused {
                transport
                    .renew(generation, &answer)
                    .await
                    .map_err(unready)?;
            }
            let connecting = transport.connection(ConnectionRole::Watches, demand).await;
            connecting.map_err(unready)
        }));
    }

    /// Somebody waits now: an attempt that takes its time goes on as one that does not.
    pub(super) fn hurry(&mut self) {
        if self.connecting.is_some() && self.patient {
            self.connect(Demand::Call);
        }
    }

    /// The token of the stream was refused like this: the next one needs another.
    pub(super) fn renew(&mut self, refused: ServerError) {
        let generation = self.open.as_ref().map(|open| open.generation);
        self.refused = generation.map(|generation| (generation, refused));
    }

    /// Drops both halves of the stream, which resets it.
    pub(super) fn close(&mut self, doubt: Doubt) {
        self.connecting = None;
        self.read = None;
        let Some(open) = self.open.take() else { return };
        let suspicion = match doubt {
            Doubt::None => Suspicion::None,
            Doubt::Silent => Suspicion::Silent,
            Doubt::Unable => Suspicion::Unable,
            Doubt::Learner => Suspicion::Learner,
        };
        self.transport
            .report(ConnectionRole::Watches, &open.connection, suspicion);
    }

    pub(super) fn send(&self, request: WatchRequest) {
        if let Some(open) = &self.open {
            // A stream that is over says so where it is read.
            let _ = open.requests.send(request);
        }
    }

    pub(super) fn read(&mut self, key: Bytes) {
        if let Some(open) = &mut self.open {
            let arrived = Arc::clone(&open.arrived);
            open.reading = Some(Box::pin(read(open.connection.clone(), key, arrived)));
        }
    }

    /// Whether anything arrived on the stream since the last look.
    pub(super) fn has_arrived(&mut self) -> bool {
        self.open.as_mut().is_some_and(|open| {
            let arrived = open.arrived.load(Relaxed);
            std::mem::replace(&mut open.seen, arrived) != arrived
        })
    }

    /// The next thing that happens here.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Some(connecting) = &mut self.connecting
            && let Poll::Ready(result) = connecting.as_mut().poll(cx)
        {
            self.connecting = None;
            return Poll::Ready(match result {
                Ok(connection) => {
                    self.open = Some(Open::new(connection, self.transport.generation()));
                    Input::Opened
                }
                Err(ending) => Input::Ended(ending),
            });
        }
        if let Some(revision) = self.read.take() {
            return Poll::Ready(Input::Read(Ok(revision)));
        }
        let Some(open) = &mut self.open else {
            return Poll::Pending;
        };
        let input = open.poll(cx);
        if let Poll::Ready(Input::Read(Ok(revision))) = input {
            return Poll::Ready(self.read_of_epoch(revision));
        }
        input
    }
}

impl WatchStream {
    /// What a read says: that the store was replaced before it, or since the last one, comes first.
    fn read_of_epoch(&mut self, revision: i64) -> Input {
        let store = self.transport.store();
        let epoch = store.epoch();
        if epoch == self.epoch {
            return Input::Read(Ok(revision));
        }
        self.epoch = epoch;
        self.read = Some(revision);
        let why = store.last_replacement().map(|how| how.to_string());
        Input::Replaced {
            epoch,
            why: why.unwrap_or_default(),
        }
    }
}

impl Open {
    fn new(connection: Connection, generation: u64) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let arrived = Arc::new(AtomicU64::new(0));
        let asked = connection.clone().duplex(queue, Arc::clone(&arrived));
        Open {
            arrived,
            seen: 0,
            responses: Responses::Asked(Box::pin(asked)),
            version: Some(Box::pin(orders_progress(connection.clone()))),
            reading: None,
            asked: connection.store.known(),
            connection,
            generation,
            requests,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Some(version) = &mut self.version
            && let Poll::Ready(orders_progress) = version.as_mut().poll(cx)
        {
            self.version = None;
            return Poll::Ready(Input::Version { orders_progress });
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(result) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            return Poll::Ready(Input::Read(result));
        }
        if let Responses::Asked(asked) = &mut self.responses {
            match asked.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => self.responses = Responses::Flowing(Box::new(stream)),
                Poll::Ready(Err(problem)) => return self.over(ending(problem)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Responses::Flowing(stream) = &mut self.responses else {
            return Poll::Pending;
        };
        let item = stream.poll_next(cx);
        if let Poll::Ready(Some(Ok(
            Item::Message(message)
            | Item::TooLarge {
                outline: message, ..
            },
        ))) = &item
            && let Some(header) = WatchRequest::header(message)
        {
            let store = &self.connection.store;
            store.answered(header, Consistency::Local, self.asked);
        }
        match item {
            Poll::Ready(Some(Ok(Item::Message(message)))) => Poll::Ready(Input::Message(message)),
            Poll::Ready(Some(Ok(Item::TooLarge {
                outline,
                entries,
                bytes,
            }))) => Poll::Ready(Input::TooLarge {
                outline,
                events: entries,
                bytes,
            }),
            Poll::Ready(Some(Err(problem))) => self.over(ending(problem)),
            Poll::Ready(None) => self.over(Ending::Eof),
            Poll::Pending => Poll::Pending,
        }
    }

    fn over(&mut self, ending: Ending) -> Poll<Input> {
        self.responses = Responses::Over;
        Poll::Ready(Input::Ended(ending))
    }
}

/// Why there is no stream: an answer is one about name and password.
fn unready(problem: RpcError) -> Ending {
    match problem {
        RpcError::ConnectError(fault) if fault.kind == ErrorKind::Tls => {
            Ending::Refused(fault.text)
        }
        RpcError::ConnectError(fault) => Ending::Unconnected(fault.text),
        RpcError::Answer(answer) => Ending::Answer(answer),
    }
}

fn ending(problem: RpcError) -> Ending {
    match problem {
        RpcError::ConnectError(fault) => Ending::Broken(fault.text),
        RpcError::Answer(answer) => Ending::Answer(answer),
    }
}

/// Reads the revision of the store; twice when the first answer leaves open whether the store went back.
async fn read(connection: Connection, key: Bytes, arrived: Arc<AtomicU64>) -> Result<i64, Ending> {
    let revision = read_once(connection.clone(), key.clone(), &arrived).await?;
    match connection.store.is_doubted() {
        true => read_once(connection, key, &arrived).await,
        false => Ok(revision),
    }
}

async fn read_once(connection: Connection, key: Bytes, arrived: &AtomicU64) -> Result<i64, Ending> {
    let request = RangeRequest {
        key,
        limit: 1,
        count_only: true,
        ..RangeRequest::default()
    };
    let request = Framed::new(&request).consistency(Consistency::Linearizable);
    let mut answer = std::pin::pin!(connection.ask(request));
    loop {
        let before = arrived.load(Relaxed);
        match tokio::time::timeout(READ_WITHIN, &mut answer).await {
            Ok(Ok(response)) => {
                let revision = response.header.map(|header| header.revision);
                return revision.ok_or(Ending::Broken("a reply without a header".into()));
            }
            Ok(Err(problem)) => return Err(ending(problem)),
            Err(_) if arrived.load(Relaxed) != before => {}
            Err(_) => {
                let text = format!("no answer to a read in {READ_WITHIN:?}");
                return Err(Ending::Silent(text));
            }
        }
    }
}

/// Whether the member's answers to progress requests come after the events that they speak of:
/// since 3.4.25 and 3.5.8.
async fn orders_progress(connection: Connection) -> bool {
    let status = connection.ask(Framed::new(&StatusRequest {}).needs_leader(false));
    match tokio::time::timeout(READ_WITHIN, status).await {
        Ok(Ok(response)) => is_ordered(&response.version),
        // The versions that want a user or a permission for this are all new enough.
        Ok(Err(problem)) => matches!(
            problem,
            RpcError::Answer(ServerError {
                kind: ErrorKind::PermissionDenied | ErrorKind::Unauthenticated,
                ..
            })
        ),
        Err(_) => false,
    }
}

fn is_ordered(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 25,
        (Some(3), Some(5), Some(patch)) => patch >= 8,
        (Some(major), Some(minor), _) => (major, minor) >= (3, 6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_ordered;

    #[test]
    fn the_versions_that_order_progress() {
        for version in ["3.4.25", "3.5.8", "3.6.0", "3.7.2", "3.6.0-rc.1", "4.0.0"] {
            assert!(is_ordered(version), "{version}");
        }
        for version in ["3.4.24", "3.5.7", "3.3.99", "", "x", "3"] {
            assert!(!is_ordered(version), "{version}");
        }
    }
}

//! Observes the leaders of an election over a stream.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use super::leader::{Leader, LeaderResponse};
use crate::error::{Error, Result, ServerError};
use crate::grpc::etcd_rs_proto::v3electionpb::LeaderRequest;
use crate::grpc::{
    AttemptFailure, ConnectionRole, GrpcStream, MemberCondition, StreamClosed, StreamEvent,
    Transport, Urgency,
};
use crate::rpc::namespace::Namespace;
use crate::runtime::{BoundedReceiver, BoundedSender, Capacity, SendOutcome, Spawn, bounded_queue};
use crate::types::Revision;
use crate::util::backoff::Backoff;
use crate::util::jitter;
use crate::util::receive::receive_methods;

/// The room for leaders that are not read.
const ROOM: Capacity = Capacity {
    items: 128,
    bytes: usize::MAX,
};

/// The waits between streams.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// The interval at which a full channel is checked for room.
const ROOM_CHECK: Duration = Duration::from_millis(50);

/// Receives the leaders of an election. Made by
/// [`LockService::observe`](crate::lock_service::LockService::observe).
///
/// The first item is the present leader, as soon as there is one. Then each proclamation and each new
/// leader is an item. Lost connections are not visible, but leaders and proclamations may be missing
/// that were replaced meanwhile, or while the channel was full (128 items). An `Err` is the last item.
///
/// Dropping it ends the observation, without blocking.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let leaders = client.lock_service().observe("elections/scheduler")?;
/// for leader in &leaders {
///     println!("leader: {:?}", leader?.kv());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the observation"]
pub struct Leaders {
    leaders: BoundedReceiver<Result<LeaderResponse>>,
    _alive: oneshot::Sender<()>,
}

impl Leaders {
    /// The channel of the leaders, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<LeaderResponse>> {
        self.leaders.receiver()
    }

    /// Returns the error of the last item: the reason why the observation ended. `None` before the last
    /// item. It does not block.
    pub fn ended(&self) -> Option<Error> {
        self.leaders.ended()
    }
}

receive_methods!(Leaders, Result<LeaderResponse>);

/// Starts to observe an election.
pub(crate) fn observe(
    spawn: &impl Spawn,
    transport: Arc<Transport>,
    election: Leader,
    namespace: Option<Namespace>,
) -> Result<Leaders> {
    let (bounded_sender, leaders) = bounded_queue(ROOM, Err);
    // Nothing is sent on this channel: it closes when the handle is dropped.
    let (alive, handle_dropped) = oneshot::channel::<()>();
    let mut request = election.clone();
    if let Some(namespace) = &namespace {
        request.enter(namespace);
    }
    let observation = Observation {
        stream: transport.server_stream(ConnectionRole::Waits, request.message()),
        election,
        namespace,
        bounded_sender,
        last: None,
        pending: None,
    };
    spawn.spawn(Box::pin(async move {
        let mut handle_dropped = pin!(handle_dropped);
        let mut observation = pin!(observation.run());
        poll_fn(|cx| match handle_dropped.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => observation.as_mut().poll(cx),
        })
        .await;
    }))?;
    Ok(Leaders {
        leaders,
        _alive: alive,
    })
}

/// The task of one observation.
struct Observation {
    stream: GrpcStream<LeaderRequest>,
    /// With its name inside the namespace.
    election: Leader,
    namespace: Option<Namespace>,
    bounded_sender: BoundedSender<Result<LeaderResponse>>,
    /// The key and revision of the last item. A new stream repeats it.
    last: Option<(Bytes, Revision)>,
    /// The newest leader that the channel had no room for.
    pending: Option<LeaderResponse>,
}

impl Observation {
    async fn run(mut self) {
        let mut backoff = REOPEN;
        loop {
            let before = self.last.clone();
            if let Err(error) = self.observe_once().await {
                let about = self.election.operation_named("election service: observe");
                // The namespace was added only to the request, so the error names the election
                // without it.
                let error = Error::new(error.kind, error.text).operation(about);
                return self.bounded_sender.finish(error);
            }
            // A stream that delivered something was a success. Others count as failures, also if
            // they ended without an error.
            if self.last != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next(jitter::fraction())).await;
        }
    }

    /// Observes over one stream until it ends. An error is permanent.
    async fn observe_once(&mut self) -> Result<(), ServerError> {
        self.stream.open(Urgency::Background);
        loop {
            let next = {
                let mut next = pin!(self.stream.next());
                // The channel does not report when a receiver makes room, so a pending leader is
                // offered at intervals.
                let room_check = self
                    .pending
                    .is_some()
                    .then(|| tokio::time::sleep(ROOM_CHECK));
                let mut room_check = pin!(async {
                    match room_check {
                        Some(sleep) => sleep.await,
                        None => std::future::pending().await,
                    }
                });
                poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(next) => Poll::Ready(Some(next)),
                    Poll::Pending => room_check.as_mut().poll(cx).map(|()| None),
                })
                .await
            };
            match next {
                Some(StreamEvent::Opened) => {}
                Some(StreamEvent::Message(leader)) => self.deliver(leader.into()),
                Some(StreamEvent::Closed(closed)) => {
                    return permanent_error(closed).map_or(Ok(()), Err);
                }
                None => self.flush(),
            }
        }
    }

    fn deliver(&mut self, mut leader: LeaderResponse) {
        if let Some(namespace) = &self.namespace {
            leader.strip(namespace);
        }
        let newest = (leader.kv().key().clone(), leader.kv().mod_revision());
        // A message may have a header only.
        if newest.0.is_empty() || self.last.as_ref() == Some(&newest) {
            return;
        }
        // Set although the leader may stay pending: a newer one replaces it, and it must not be
        // offered twice.
        self.last = Some(newest);
        self.pending = Some(leader);
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(leader) = self.pending.take()
            && self.bounded_sender.offer(Ok(leader.clone()), 0) == SendOutcome::Full
        {
            self.pending = Some(leader);
        }
    }
}

/// The error of this end of a stream, if another stream would end in the same way.
fn permanent_error(closed: StreamClosed) -> Option<ServerError> {
    let failure = closed.failure?;
    // Without a connection, an answer is one to the request for a token.
    let is_permanent = closed.endpoint.is_none()
        || failure.token_rejection().is_none()
            && failure.member_condition() == MemberCondition::Healthy;
    match failure {
        AttemptFailure::Status(answer) if is_permanent => Some(answer),
        _ => None,
    }
}

//! The election that the server runs: following who leads, over a stream.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use tokio::sync::oneshot;
use tonic::Status;

use super::leader::{Leader, LeaderResponse};
use crate::error::{Error, Remedy, Result, ServerError};
use crate::grpc::{
    Connection, ConnectionRole, Demand, RpcError, Suspicion, Transport, classify, outgoing,
    suspicion,
};
use crate::rpc::namespace::Namespace;
use crate::runtime::{BoundedSender, Offer, Room, Spawn};
use crate::types::Revision;
use crate::util::backoff::Backoff;
use crate::util::jitter;
use crate::util::receive::receive_methods;

/// Leaders that wait for a reader.
const ROOM: Room = Room {
    items: 128,
    bytes: usize::MAX,
};

/// The waits between streams.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// How often to look whether a reader that was slow has made room.
const LOOK: Duration = Duration::from_millis(50);

/// The leaders of an election, as the server tells them. Made by
/// [`Client::observe_leader`](crate::lock_service::LockService::observe).
///
/// The first item is the leader there is, as soon as there is one; then one for each proclamation
/// and each new leader. It survives lost connections, and then may leave out what came and went
/// meanwhile; a reader that does not read misses the oldest after 128. An `Err` is the last item.
///
/// Dropping it ends it, without blocking.
#[derive(Debug)]
#[must_use = "who is dropped observes nothing"]
pub struct Leaders {
    receiver: Receiver<Result<LeaderResponse>>,
    _alive: oneshot::Sender<()>,
}

impl Leaders {
    /// The channel that leaders arrive on, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<LeaderResponse>> {
        &self.receiver
    }
}

receive_methods!(Leaders, Result<LeaderResponse>);

/// Starts to follow an election.
pub(crate) fn follow(
    spawn: &impl Spawn,
    transport: Arc<Transport>,
    election: Leader,
    namespace: Option<Namespace>,
) -> Result<Leaders> {
    let (bounded_sender, receiver) = BoundedSender::new(ROOM, || Some(Err(Error::abandoned())));
    let (alive, owner) = oneshot::channel::<()>();
    let following = Following {
        transport,
        election,
        namespace,
        bounded_sender,
        last: None,
        waiting: None,
    };
    spawn.spawn(Box::pin(async move {
        let mut owner = pin!(owner);
        let mut following = pin!(following.run());
        poll_fn(|cx| match owner.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => following.as_mut().poll(cx),
        })
        .await;
    }))?;
    Ok(Leaders {
        receiver,
        _alive: alive,
    })
}

struct Following {
    transport: Arc<Transport>,
    /// By its name inside the namespace.
    election: Leader,
    namespace: Option<Namespace>,
    bounded_sender: BoundedSender<Result<LeaderResponse>>,
    /// What was told last: a new stream begins with it again.
    last: Option<(Bytes, Revision)>,
    /// The newest one that there was no room for.
    waiting: Option<LeaderResponse>,
}

impl Following {
    async fn run(mut self) {
        let mut backoff = REOPEN;
        loop {
            let before = self.last.clone();
            if let Err(error) = self.once().await {
                let about = self.election.named("election service: observe");
                let error = Error::new(error.kind, error.text).operation(about);
                return self.bounded_sender.finish(Err(error));
            }
            if self.last != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next(jitter::fraction())).await;
        }
    }

    /// Follows over one connection, to its end. An error is one that does not pass.
    async fn once(&mut self) -> Result<(), ServerError> {
        let role = ConnectionRole::Waits;
        let connection = match self.transport.connection(role, Demand::Background).await {
            Ok(connection) => connection,
            Err(RpcError::ConnectError(_)) => return Ok(()),
            Err(RpcError::Answer(refused)) => return Err(refused),
        };
        let generation = self.transport.generation();
        let Some(status) = self.read(connection.clone()).await else {
            return Ok(());
        };
        let RpcError::Answer(error) = classify(&status) else {
            return Ok(());
        };
        if matches!(error.remedy, Remedy::Token(_)) {
            return match self.transport.renew(generation, &error).await {
                Ok(()) | Err(RpcError::ConnectError(_)) => Ok(()),
                Err(RpcError::Answer(refused)) => Err(refused),
            };
        }
        let member = suspicion(&error);
        self.transport.report(role, &connection, member);
        if member == Suspicion::None {
            return Err(error);
        }
        Ok(())
    }

    /// Reads one stream to its end, and says how it ended.
    async fn read(&mut self, connection: Connection) -> Option<Status> {
        let mut election = self.election.clone();
        if let Some(namespace) = &self.namespace {
            election.enter(namespace);
        }
        let request = outgoing(election.message(), true);
        let mut leaders = match connection.election().observe(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Some(status),
        };
        loop {
            let next = {
                let mut next = pin!(leaders.message());
                let look = self.waiting.is_some().then(|| tokio::time::sleep(LOOK));
                let mut look = pin!(async {
                    match look {
                        Some(look) => look.await,
                        None => std::future::pending().await,
                    }
                });
                poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(next) => Poll::Ready(Some(next)),
                    Poll::Pending => look.as_mut().poll(cx).map(|()| None),
                })
                .await
            };
            match next {
                Some(Ok(Some(leader))) => self.tell(leader.into()),
                Some(Ok(None)) => return None,
                Some(Err(status)) => return Some(status),
                None => self.flush(),
            }
        }
    }

    fn tell(&mut self, mut leader: LeaderResponse) {
        if let Some(namespace) = &self.namespace {
            leader.strip(namespace);
        }
        let said = (leader.kv().key().clone(), leader.kv().mod_revision());
        // Headers can come alone.
        if said.0.is_empty() || self.last.as_ref() == Some(&said) {
            return;
        }
        self.last = Some(said);
        self.waiting = Some(leader);
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(leader) = self.waiting.take()
            && self.bounded_sender.offer(Ok(leader.clone()), 0) == Offer::Full
        {
            self.waiting = Some(leader);
        }
    }
}

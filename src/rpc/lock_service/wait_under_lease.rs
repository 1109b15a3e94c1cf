//! Calls without a time limit, which end with the lease that they are made under.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::Unary;
use crate::grpc::{Call, ConnectionRole, Framed, Transport};
use crate::rpc::kv::Get;
use crate::rpc::lease::LeaseWaiter;
use crate::rpc::request::sealed::Rpc as _;
use crate::runtime::clock;
use crate::types::{KeyValue, LeaseId, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The time limit of one attempt, which stands for no limit. A member that waits for a lock sends
/// nothing, and pings detect whether it is alive.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The waits between attempts whose key is not held.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The lease of a waiting call, and its time limit.
#[derive(Clone, Debug)]
pub(super) struct WaitUnderLease {
    pub(super) lease: LeaseWaiter,
    pub(super) within: Option<Duration>,
}

impl WaitUnderLease {
    /// Calls until the server answers with a key that this lease holds.
    ///
    /// The call is repeated when the connection breaks: the key is named after the lease, so the next
    /// attempt finds it, or puts it again if the server has deleted it. The key of an answer is read,
    /// because a server may answer after the lease has ended. When the time or the lease ends, the
    /// future is dropped, which cancels the call on the server; the server then deletes the key.
    pub(super) async fn until_held<M: Unary>(
        self,
        transport: Arc<Transport>,
        operation: Operation,
        timeout: Duration,
        message: M,
        key_of: impl Fn(&M::Reply) -> (Bytes, Option<Revision>),
    ) -> Result<(M::Reply, KeyValue)> {
        let lease = self.lease.lease();
        // A call under an ended lease would only be refused: it is not sent.
        self.lease.check(clock::now())?;
        let waiter = self.lease.clone();
        let about = operation.clone();
        let request = Framed::new(&message);
        let held = async {
            let mut backoff = RETRY;
            loop {
                // As a read, the call may be sent again: a second attempt under the same lease
                // finds the same key.
                let call = Call::read(NO_LIMIT).over(ConnectionRole::Waits);
                let about = || operation.clone();
                let calling = Arc::clone(&transport).unary(call, about, request.clone());
                let answer: M::Reply = calling.await?;
                let (key, revision) = key_of(&answer);
                // The read is linearizable: it shows whether the key was deleted after the server
                // answered.
                let found = Get::key(key)
                    .execute(Arc::clone(&transport), timeout)
                    .await?;
                match held_key(found.into_kvs(), lease, revision) {
                    Some(kv) => {
                        // The lease may have ended while the key was read.
                        waiter.check(clock::now())?;
                        return Ok((answer, kv));
                    }
                    // The key was deleted or replaced meanwhile: the next call queues again.
                    None => tokio::time::sleep(backoff.next(jitter::fraction())).await,
                }
            }
        };
        let within = self.within;
        let lease_end = self.lease.wait();
        let time_limit = async {
            match within {
                // A very long time limit is cut, because the sum with the present time would
                // overflow.
                Some(within) => tokio::time::sleep(within.min(NO_LIMIT)).await,
                None => std::future::pending().await,
            }
        };
        let (mut held, mut lease_end) = (pin!(held), pin!(lease_end));
        let mut time_limit = pin!(time_limit);
        // Polled in this order: a held key is returned even if the time ends at the same moment.
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = held.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if let Poll::Ready(why) = lease_end.as_mut().poll(cx) {
                return Poll::Ready(Err(why));
            }
            time_limit.as_mut().poll(cx).map(|()| {
                let reason = format!("it was not acquired in {:?}", within.unwrap_or_default());
                Err(Error::new(ErrorKind::Timeout, reason))
            })
        })
        .await;
        result.map_err(|error| error.operation(about))
    }
}

/// The key, if this lease holds it.
fn held_key(kvs: Vec<KeyValue>, lease: LeaseId, revision: Option<Revision>) -> Option<KeyValue> {
    let is_held = |kv: &KeyValue| {
        kv.lease() == Some(lease) && revision.is_none_or(|wanted| kv.create_revision() == wanted)
    };
    kvs.into_iter().next().filter(is_held)
}

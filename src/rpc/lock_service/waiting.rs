//! A call that takes as long as it takes, and ends with the lease it is made under.

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

/// Longer than anybody waits. One attempt has all of it: a member that waits for a lock is not
/// silent, and whether it still lives is found out by pings.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Between two turns that came to nothing.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Under which lease to wait, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) kept: LeaseWaiter,
    pub(super) within: Option<Duration>,
}

impl Waiting {
    /// Calls until an answer is there whose key is really ours.
    ///
    /// A connection that breaks while the server waits takes nothing away: the key is named after the
    /// lease, so that the next attempt finds it, or puts it again when the server had cleaned up.
    /// Nor is an answer proof: a server may give it after the lease died, and so the key is read. The
    /// future that is dropped, when the time is over or the lease is, is cancelled on the server, which
    /// then takes the key away.
    pub(super) async fn until_ours<M: Unary>(
        self,
        transport: Arc<Transport>,
        operation: Operation,
        timeout: Duration,
        message: M,
        key_of: impl Fn(&M::Reply) -> (Bytes, Option<Revision>),
    ) -> Result<(M::Reply, KeyValue)> {
        let lease = self.kept.lease();
        self.kept.check(clock::now())?;
        let kept = self.kept.clone();
        let about = operation.clone();
        let request = Framed::new(&message);
        let winning = async {
            let mut backoff = AGAIN;
            loop {
                let call = Call::read(FOR_EVER).over(ConnectionRole::Waits);
                let about = || operation.clone();
                let calling = Arc::clone(&transport).unary(call, about, request.clone());
                let answer: M::Reply = calling.await?;
                let (key, revision) = key_of(&answer);
                let found = Get::key(key)
                    .exchange(Arc::clone(&transport), timeout)
                    .await?;
                match ours(found.into_kvs(), lease, revision) {
                    Some(kv) => {
                        kept.check(clock::now())?;
                        return Ok((answer, kv));
                    }
                    None => tokio::time::sleep(backoff.next(jitter::fraction())).await,
                }
            }
        };
        let within = self.within;
        let over = self.kept.over();
        let late = async {
            match within {
                Some(within) => tokio::time::sleep(within.min(FOR_EVER)).await,
                None => std::future::pending().await,
            }
        };
        let (mut winning, mut over, mut late) = (pin!(winning), pin!(over), pin!(late));
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = winning.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if let Poll::Ready(why) = over.as_mut().poll(cx) {
                return Poll::Ready(Err(why));
            }
            late.as_mut().poll(cx).map(|()| {
                let reason = format!("it was not our turn in {:?}", within.unwrap_or_default());
                Err(Error::new(ErrorKind::Timeout, reason))
            })
        })
        .await;
        result.map_err(|error| error.operation(about))
    }
}

fn ours(kvs: Vec<KeyValue>, lease: LeaseId, revision: Option<Revision>) -> Option<KeyValue> {
    let mine = |kv: &KeyValue| {
        kv.lease() == Some(lease) && revision.is_none_or(|wanted| kv.create_revision() == wanted)
    };
    kvs.into_iter().next().filter(mine)
}

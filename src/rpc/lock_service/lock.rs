//! The lock that the server takes on behalf of a lease.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::waiting::Waiting;
use crate::error::{Error, Operation, Result};
use crate::grpc::Transport;
use crate::grpc::etcd_rs_proto::v3lockpb::{
    LockRequest, UnlockRequest, UnlockResponse as PbUnlockResponse,
};
use crate::rpc::kv::{Compare, header};
use crate::rpc::lease::KeepsAlive;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{ResponseHeader, Revision};

/// Has the server take a lock under a lease that is kept alive. It is the same lock as a
/// [`concurrency::Mutex`](crate::concurrency::Mutex) of that name.
///
/// It waits for its turn however long that takes: the client's timeout does not end it,
/// [`within`](Lock::within) does, and so does the end of the lease or of the client. Then the server
/// takes the waiting key away. Whoever has the lock loses it with the lease.
///
/// A member that is cut off from the others while it waits does not say so: prefer the recipe where
/// that matters.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct Lock {
    name: Bytes,
    waiting: Waiting,
}

impl Lock {
    /// Takes the lock of this name under the lease that `alive` keeps.
    pub fn new(name: impl IntoBytes, alive: &impl KeepsAlive) -> Self {
        Lock {
            name: name.into_bytes(),
            waiting: Waiting {
                kept: alive.kept(),
                within: None,
            },
        }
    }

    /// Gives up after this time, with [`Timeout`](crate::ErrorKind::Timeout).
    pub fn within(mut self, timeout: Duration) -> Self {
        self.waiting.within = Some(timeout);
        self
    }

    fn message(&self) -> LockRequest {
        LockRequest {
            name: self.name.clone(),
            lease: self.waiting.kept.lease().get(),
        }
    }
}

impl Rpc for Lock {
    type Response = LockResponse;

    fn operation(&self) -> Operation {
        Operation::on("lock service: lock", KeyRange::key(self.name.clone()))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter_name(&mut self.name);
        Ok(Namespaced {
            request: self,
            strip: |response, namespace| {
                namespace.leave(&mut response.key);
            },
        })
    }

    async fn exchange(self, transport: Arc<Transport>, timeout: Duration) -> Result<LockResponse> {
        let (message, operation) = (self.message(), self.operation());
        let key = |answer: &crate::grpc::etcd_rs_proto::v3lockpb::LockResponse| {
            (answer.key.clone(), None)
        };
        let locked = self
            .waiting
            .until_ours(transport, operation, timeout, message, key);
        let (answer, kv) = locked.await?;
        Ok(LockResponse {
            header: header(answer.header),
            key: answer.key,
            fencing_token: kv.create_revision(),
        })
    }
}

/// The answer to a [`Lock`]: the lock is held.
#[derive(Clone, Debug, PartialEq)]
pub struct LockResponse {
    header: ResponseHeader,
    key: Bytes,
    fencing_token: Revision,
}

impl LockResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The key that holds the lock, for [`Unlock`].
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The number of this holder, greater than that of everybody before: the key's create revision.
    pub fn fencing_token(&self) -> Revision {
        self.fencing_token
    }

    /// Holds for as long as the lock is held: for [`Txn::when`](crate::Txn::when).
    pub fn is_owner(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.fencing_token)
    }
}

/// Has the server give a lock back: it deletes the key, whoever put it.
///
/// The key of a lock is named after the lease, so everything that locks under one lease has the same
/// key. A lost answer is therefore no reason to repeat: between the two attempts another thread may
/// have taken the lock under the same lease, and the repetition would take it away. Unless the server
/// said that it did not execute the first attempt, the error says
/// [`outcome_unknown`](crate::Error::outcome_unknown).
///
/// For the same reason a holder that lost its lock can take it from another holder of the same lease.
/// [`LockResponse::is_owner`] guards against that:
///
/// ```no_run
/// # use etcd_blocking::{Client, Delete, Txn, concurrency::Session};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// # let session = Session::builder(&client).start()?;
/// let locked = client.lock_service().lock("locks/report", &session)?;
/// client.txn(Txn::when([locked.is_owner()]).then([Delete::key(locked.key().clone())]))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Unlock {
    key: Bytes,
}

impl Unlock {
    /// Gives back the lock that this [key](LockResponse::key) holds.
    pub fn new(key: impl IntoBytes) -> Self {
        Unlock {
            key: key.into_bytes(),
        }
    }

    fn message(&self) -> UnlockRequest {
        UnlockRequest {
            key: self.key.clone(),
        }
    }
}

impl Rpc for Unlock {
    type Response = UnlockResponse;

    fn operation(&self) -> Operation {
        Operation::on("lock service: unlock", KeyRange::key(self.key.clone()))
    }

    fn check(&self) -> Result<()> {
        if self.key.is_empty() {
            return Err(Error::invalid("the key is empty; etcd has no empty key"));
        }
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter(&mut self.key, &mut Bytes::new());
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(write UnlockRequest);
}

/// The answer to an [`Unlock`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UnlockResponse {
    header: ResponseHeader,
}

impl UnlockResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

impl From<PbUnlockResponse> for UnlockResponse {
    fn from(pb: PbUnlockResponse) -> Self {
        UnlockResponse {
            header: header(pb.header),
        }
    }
}

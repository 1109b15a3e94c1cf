//! The requests of the lock service: lock and unlock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::wait_under_lease::WaitUnderLease;
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

/// Takes a lock under a lease that is kept alive. It is the same lock as a
/// [`concurrency::Mutex`](crate::concurrency::Mutex) of that name.
///
/// The call blocks until the lock is taken, without the client's timeout. [`within`](Lock::within), the
/// end of the lease and the end of the client end the call; then the server deletes the waiting key.
/// The holder loses the lock when its lease ends.
///
/// A member that is cut off from the others does not report that to a waiting call:
/// [`concurrency::Mutex`](crate::concurrency::Mutex) detects it.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::concurrency::Session;
/// use etcd_blocking::lock_service::Lock;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// let lock = Lock::new("locks/report", &session).within(Duration::from_secs(30));
/// let locked = client.call(lock)?;
/// println!("held with token {}", locked.fencing_token());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct Lock {
    name: Bytes,
    wait: WaitUnderLease,
}

impl Lock {
    /// Takes the lock of this name under the lease that `alive` keeps alive.
    pub fn new(name: impl IntoBytes, alive: &impl KeepsAlive) -> Self {
        Lock {
            name: name.into_bytes(),
            wait: WaitUnderLease {
                lease: alive.lease_waiter(),
                within: None,
            },
        }
    }

    /// Sets a time limit. The call then fails with [`Timeout`](crate::ErrorKind::Timeout).
    pub fn within(mut self, timeout: Duration) -> Self {
        self.wait.within = Some(timeout);
        self
    }

    fn message(&self) -> LockRequest {
        LockRequest {
            name: self.name.clone(),
            lease: self.wait.lease.lease().get(),
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

    async fn execute(self, transport: Arc<Transport>, timeout: Duration) -> Result<LockResponse> {
        let (message, operation) = (self.message(), self.operation());
        let key = |response: &crate::grpc::etcd_rs_proto::v3lockpb::LockResponse| {
            // The response has no revision: the key alone is compared, which is named after the
            // lease.
            (response.key.clone(), None)
        };
        let locked = self
            .wait
            .until_held(transport, operation, timeout, message, key);
        let (response, kv) = locked.await?;
        Ok(LockResponse {
            header: header(response.header),
            key: response.key,
            fencing_token: kv.create_revision(),
        })
    }
}

/// The response to a [`Lock`]. The lock is held.
#[derive(Clone, Debug, PartialEq)]
pub struct LockResponse {
    header: ResponseHeader,
    key: Bytes,
    fencing_token: Revision,
}

impl LockResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The key that holds the lock, for [`Unlock`].
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The fencing token: the create revision of the key. It is greater than those of all holders before.
    pub fn fencing_token(&self) -> Revision {
        self.fencing_token
    }

    /// A comparison that is true while the lock is held, for [`Txn::when`](crate::Txn::when).
    pub fn is_owner(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.fencing_token)
    }
}

/// Releases a lock: deletes its key, without a check of the holder.
///
/// The key of a lock is named after the lease, so all holders under one lease have the same key. The
/// request is not repeated when its answer is lost: meanwhile another thread may have taken the lock
/// under the same lease, and a repetition would release it. Unless the server reported that it did not
/// execute the request, the error has [`outcome_unknown`](crate::Error::outcome_unknown).
///
/// For the same reason, a holder that has lost its lock can release the lock of another holder under
/// the same lease. A transaction with [`LockResponse::is_owner`] prevents that:
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
    /// Releases the lock of this [key](LockResponse::key).
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

/// The response to an [`Unlock`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UnlockResponse {
    header: ResponseHeader,
}

impl UnlockResponse {
    /// The header of the response.
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

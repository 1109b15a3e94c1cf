//! Hashes of a member's data, to compare members with.

use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse as KvPb, HashRequest, HashResponse as Pb,
};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{ResponseHeader, Revision};

/// Hashes a member's whole database, its own bookkeeping included: of use for tests of etcd, because
/// healthy members differ. To compare members, use [`HashKv`].
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct Hash {}

impl Hash {
    /// Hashes all of it; there is nothing to choose.
    pub fn new() -> Self {
        Hash {}
    }

    fn message(&self) -> HashRequest {
        HashRequest {}
    }
}

/// Hashes the keys of a member as of one revision. Members that have that revision, and compacted
/// the same, have the same hash; if not, one of them is corrupt.
///
/// Reads everything up to that revision: seconds, on a large store. With several endpoints any member
/// answers; [`Client::at`](crate::Client::at) chooses.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct HashKv {
    revision: i64,
}

impl HashKv {
    /// The newest revision that the member has.
    pub fn current() -> Self {
        HashKv { revision: 0 }
    }

    /// This revision. [`Compacted`](crate::ErrorKind::Compacted) or
    /// [`FutureRevision`](crate::ErrorKind::FutureRevision) when the member does not have it.
    pub fn at(revision: Revision) -> Self {
        HashKv {
            revision: revision.get(),
        }
    }

    fn message(&self) -> HashKvRequest {
        HashKvRequest {
            revision: self.revision,
        }
    }
}

impl Rpc for Hash {
    type Response = HashResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("hash")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    unary_rpc!(read HashRequest, without leader);
}

impl Rpc for HashKv {
    type Response = HashKvResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("hash kv")
    }

    fn check(&self) -> Result<()> {
        if self.revision < 0 {
            return Err(Error::invalid("a revision is not negative"));
        }
        Ok(())
    }

    unary_rpc!(read HashKvRequest, without leader);
}

/// The answer to [`struct@Hash`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HashResponse {
    header: ResponseHeader,
    hash: u32,
}

impl HashResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The hash.
    pub fn hash(&self) -> u32 {
        self.hash
    }
}

/// The answer to [`HashKv`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HashKvResponse {
    header: ResponseHeader,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

impl HashKvResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The hash; compare it only when [`compact_revision`](Self::compact_revision) and
    /// [`hash_revision`](Self::hash_revision) are the same too.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Up to where the member had compacted; [`Revision::NONE`] when it never had.
    pub fn compact_revision(&self) -> Revision {
        Revision::new(self.compact_revision.max(0))
    }

    /// The revision that was hashed; [`Revision::NONE`] from servers before 3.6.
    pub fn hash_revision(&self) -> Revision {
        Revision::new(self.hash_revision)
    }
}

impl From<Pb> for HashResponse {
    fn from(pb: Pb) -> Self {
        HashResponse {
            header: header(pb.header),
            hash: pb.hash,
        }
    }
}

impl From<KvPb> for HashKvResponse {
    fn from(pb: KvPb) -> Self {
        HashKvResponse {
            header: header(pb.header),
            hash: pb.hash,
            compact_revision: pb.compact_revision,
            hash_revision: pb.hash_revision,
        }
    }
}

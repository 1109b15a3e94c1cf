//! The requests for hashes of a member's data, which compare members.

use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse as KvPb, HashRequest, HashResponse as Pb,
};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{ResponseHeader, Revision};

/// Hashes the whole database of a member, including its internal data, which differs between healthy
/// members. It is for tests of etcd. To compare members, use [`HashKv`].
///
/// ```no_run
/// use etcd_blocking::maintenance::Hash;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:08x}", client.call(Hash::new())?.hash());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct Hash {}

impl Hash {
    /// Hashes the whole database. There are no options.
    pub fn new() -> Self {
        Hash {}
    }

    fn message(&self) -> HashRequest {
        HashRequest {}
    }
}

/// Hashes the keys of a member as of one revision. Members with the same compact revision have the same
/// hash; otherwise one of them is corrupt.
///
/// The member reads everything up to that revision, which takes seconds on a large store. A client with
/// several endpoints uses any member; [`Client::at`](crate::Client::at) selects one.
///
/// ```no_run
/// use etcd_blocking::maintenance::HashKv;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let revision = client.put("color", "red")?.revision();
/// for endpoint in client.endpoints() {
///     let hash = client.at(&endpoint)?.call(HashKv::at(revision))?;
///     println!("{endpoint}: {:08x} since {:?}", hash.hash(), hash.compact_revision());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct HashKv {
    revision: i64,
}

impl HashKv {
    /// Hashes the newest revision of the member.
    pub fn current() -> Self {
        HashKv { revision: 0 }
    }

    /// Hashes this revision. The call fails with [`Compacted`](crate::ErrorKind::Compacted) or
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
            return Err(Error::invalid(
                "the revision of the hash is negative: use a positive one, or HashKv::current",
            ));
        }
        Ok(())
    }

    unary_rpc!(read HashKvRequest, without leader);
}

/// The response to a [`struct@Hash`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HashResponse {
    header: ResponseHeader,
    hash: u32,
}

impl HashResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The hash.
    pub fn hash(&self) -> u32 {
        self.hash
    }
}

/// The response to a [`HashKv`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HashKvResponse {
    header: ResponseHeader,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
}

impl HashKvResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The hash. Hashes are comparable only when [`compact_revision`](Self::compact_revision) and
    /// [`hash_revision`](Self::hash_revision) are equal.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The revision at which the member is compacted. [`Revision::NONE`] without a compaction.
    pub fn compact_revision(&self) -> Revision {
        Revision::new(self.compact_revision.max(0))
    }

    /// The hashed revision. [`Revision::NONE`] from servers before 3.6.
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

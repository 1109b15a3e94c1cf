//! Compacting the history of the store.

use super::convert::header;
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{CompactionRequest, CompactionResponse};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{ResponseHeader, Revision};

/// Compacts the history of the store: revisions before this one can no longer be read or watched.
///
/// The call fails with [`Compacted`](crate::ErrorKind::Compacted) when the store is already compacted
/// at this revision or a later one, and with [`FutureRevision`](crate::ErrorKind::FutureRevision) when
/// the store has not reached it.
///
/// ```no_run
/// use etcd_blocking::kv::Compact;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let now = client.put("color", "red")?.revision();
/// client.call(Compact::at(now).physical())?; // returns after the data was removed
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Compact {
    pb: CompactionRequest,
}

impl Compact {
    /// Compacts the history before `revision`. That revision and later ones are kept.
    pub fn at(revision: Revision) -> Self {
        Compact {
            pb: CompactionRequest {
                revision: revision.get(),
                physical: false,
            },
        }
    }

    /// Waits until the old history is removed from the server's database, which can take long.
    pub fn physical(mut self) -> Self {
        self.pb.physical = true;
        self
    }

    fn message(&self) -> &CompactionRequest {
        &self.pb
    }
}

impl Rpc for Compact {
    type Response = CompactResponse;

    fn operation(&self) -> Operation {
        Operation::about("compact", format_args!("at {}", self.pb.revision))
    }

    fn check(&self) -> Result<()> {
        // A store that was never compacted would accept 0, which is more likely a missing revision.
        if self.pb.revision < 1 {
            return Err(Error::invalid(
                "the revision of a compaction is less than 1: pass the first revision to keep",
            ));
        }
        Ok(())
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(write CompactionRequest);
}

/// The response to a [`Compact`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CompactResponse {
    header: ResponseHeader,
}

impl CompactResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

impl From<CompactionResponse> for CompactResponse {
    fn from(pb: CompactionResponse) -> Self {
        CompactResponse {
            header: header(pb.header),
        }
    }
}

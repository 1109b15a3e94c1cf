//! Forgetting history.

use super::header;
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{CompactionRequest, CompactionResponse};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{ResponseHeader, Revision};

/// Forgets the history of the store before a revision: reads and watches cannot go back behind it.
///
/// [`Compacted`](crate::ErrorKind::Compacted) when it was compacted that far already,
/// [`FutureRevision`](crate::ErrorKind::FutureRevision) when the revision is not there yet.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Compact {
    pb: CompactionRequest,
}

impl Compact {
    /// Keeps `revision` and what came after it.
    pub fn at(revision: Revision) -> Self {
        Compact {
            pb: CompactionRequest {
                revision: revision.get(),
                physical: false,
            },
        }
    }

    /// Answers only when the old history is gone from the server's disk, which can take long.
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
        if self.pb.revision < 1 {
            return Err(Error::invalid(
                "a compaction needs the first revision to keep",
            ));
        }
        Ok(())
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(write CompactionRequest);
}

/// The answer to a [`Compact`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CompactResponse {
    header: ResponseHeader,
}

impl CompactResponse {
    /// Who answered.
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

//! Listing leases.

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseLeasesRequest, LeaseLeasesResponse};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{LeaseId, ResponseHeader};

/// Lists every lease of the cluster.
///
/// One member answers from what it knows; a lease granted or ended a moment ago may be missing or
/// still there.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct Leases {}

impl Leases {
    /// Lists all of them; there is nothing to choose.
    pub fn new() -> Self {
        Leases {}
    }

    fn message(&self) -> LeaseLeasesRequest {
        LeaseLeasesRequest {}
    }
}

impl Rpc for Leases {
    type Response = LeasesResponse;

    fn operation(&self) -> Operation {
        Operation::new("leases")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(read LeaseLeasesRequest);
}

/// The answer to [`Leases`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeasesResponse {
    header: ResponseHeader,
    ids: Vec<LeaseId>,
}

impl LeasesResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The ids of the leases; those that would end first come first, as far as that member knows.
    pub fn ids(&self) -> &[LeaseId] {
        &self.ids
    }
}

impl From<LeaseLeasesResponse> for LeasesResponse {
    fn from(pb: LeaseLeasesResponse) -> Self {
        LeasesResponse {
            header: header(pb.header),
            ids: pb
                .leases
                .iter()
                .filter_map(|l| LeaseId::new(l.id))
                .collect(),
        }
    }
}

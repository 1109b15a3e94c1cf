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
/// One member answers from its own state: a lease that was just granted may be missing, and one that
/// just ended may be listed.
///
/// ```no_run
/// use etcd_blocking::lease::Leases;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for id in client.call(Leases::new())?.ids() {
///     println!("{id}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct Leases {}

impl Leases {
    /// Lists all leases. There are no options.
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

/// The response to [`Leases`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeasesResponse {
    header: ResponseHeader,
    ids: Vec<LeaseId>,
}

impl LeasesResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The ids of the leases, ordered by the time at which they end, as far as that member knows.
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

//! The generated stubs of streaming methods, with the client's size limits.

use super::connect::connection::Connection;
use crate::grpc::etcd_rs_proto::etcdserverpb::kv_client::KvClient;
use crate::grpc::etcd_rs_proto::etcdserverpb::lease_client::LeaseClient;
use crate::grpc::etcd_rs_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::grpc::etcd_rs_proto::v3electionpb::election_client::ElectionClient;

macro_rules! stubs {
    ($($name:ident -> $stub:ident),*) => {
        impl Connection {
            $(
                pub(crate) fn $name(self) -> $stub<Connection> {
                    let (origin, limits) = (self.origin.clone(), self.limits);
                    $stub::with_origin(self, origin)
                        .max_decoding_message_size(limits.receive)
                        // The size was checked before the call, with a better error.
                        .max_encoding_message_size(usize::MAX)
                }
            )*
        }
    };
}

stubs! {
    election -> ElectionClient, kv -> KvClient, lease -> LeaseClient,
    maintenance -> MaintenanceClient
}

/// Builds a request with the metadata of all requests. The connection adds the token itself, so
/// that no request can be sent without it.
pub(crate) fn outgoing<T>(message: T, require_leader: bool) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if require_leader {
        // A member without a leader then rejects the request at once instead of holding it until a
        // timeout.
        request.metadata_mut().insert(
            "hasleader",
            tonic::metadata::MetadataValue::from_static("true"),
        );
    }
    request
}

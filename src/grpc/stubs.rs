//! The generated stubs of the methods that stream, over a connection, with the client's size limits.

use super::Connection;
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
                        // Checked before the call, with a better error.
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

//! Files of `src/grpc`, and their models.

mod connect;
#[path = "../../../src/grpc/rpc_error.rs"]
pub(crate) mod rpc_error;
mod token;

use crate::harness::Model;

pub(crate) fn models() -> Vec<Model> {
    [connect::models(), token::MODELS.to_vec()].concat()
}

/// The identity of the store: here only its epoch, which does not change.
#[derive(Debug, Default)]
pub(crate) struct SharedStoreIdentity(pub(crate) u64);

impl SharedStoreIdentity {
    pub(crate) fn epoch(&self) -> u64 {
        self.0
    }
}

/// The only generated names that the files use.
pub(crate) mod etcd_rs_proto {
    pub(crate) trait Unary {
        const PATH: &str;
    }

    pub(crate) mod etcdserverpb {
        pub(crate) struct AuthenticateRequest;

        impl super::Unary for AuthenticateRequest {
            const PATH: &str = "/etcdserverpb.Auth/Authenticate";
        }
    }
}

//! The code generated from `proto/`: the messages, and the path and the reply of each method.
//! Private to the crate.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    rustdoc::all,
    reason = "generated; it holds the whole contract, not only what is called"
)]

use std::fmt;

/// The request of a unary method. No message is the request of two unary methods.
pub(crate) trait Unary: prost::Message + Clone {
    /// The response message.
    type Reply: prost::Message + Default;

    /// The path of the method on the wire.
    const PATH: &'static str;

    /// The header of a response.
    fn header(reply: &Self::Reply) -> Option<&etcdserverpb::ResponseHeader>;
}

/// The request of a streaming method. No message is the request of two streaming methods.
pub(crate) trait Streaming: prost::Message + Clone + Send + Sync + 'static {
    /// The messages of the server.
    type Reply: prost::Message + Default + Send + Sync + 'static;

    /// The path of the method on the wire.
    const PATH: &'static str;
}

/// The request of a method to which the server answers with a stream.
pub(crate) trait ServerStream: Streaming {}

/// A message of the client in a method with a stream in each direction.
pub(crate) trait Duplex: Streaming {}

/// `mvccpb`: keys, values, events.
pub(crate) mod mvccpb {
    tonic::include_proto!("mvccpb");
}
/// `authpb`: users, roles, permissions.
pub(crate) mod authpb {
    tonic::include_proto!("authpb");
}
/// `etcdserverpb`: the six core services.
pub(crate) mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
/// `v3lockpb`: the server's lock service.
pub(crate) mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
/// `v3electionpb`: the server's election service.
pub(crate) mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// `grpc.health.v1`: the health service of any gRPC server.
pub(crate) mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Replaces secrets in `Debug` output.
const HIDDEN: &str = "***";

impl fmt::Debug for authpb::User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .field("roles", &self.roles)
            .field("options", &self.options)
            .finish()
    }
}

impl fmt::Debug for etcdserverpb::AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for etcdserverpb::AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateResponse")
            .field("header", &self.header)
            .field("token", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for etcdserverpb::AuthUserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserAddRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .field("options", &self.options)
            .finish()
    }
}

impl fmt::Debug for etcdserverpb::AuthUserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserChangePasswordRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::etcdserverpb::{
        AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest,
        AuthenticateResponse,
    };

    #[test]
    fn secrets_are_not_printed() {
        let secret = "canary-4711";
        let printed = [
            format!(
                "{:?}",
                AuthenticateRequest {
                    name: "u".into(),
                    password: secret.into()
                }
            ),
            format!(
                "{:#?}",
                AuthenticateResponse {
                    header: None,
                    token: secret.into()
                }
            ),
            format!(
                "{:?}",
                AuthUserAddRequest {
                    name: "u".into(),
                    password: secret.into(),
                    hashed_password: secret.into(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                AuthUserChangePasswordRequest {
                    name: "u".into(),
                    password: secret.into(),
                    hashed_password: secret.into()
                }
            ),
            format!(
                "{:?}",
                super::authpb::User {
                    name: "u".into(),
                    password: secret.into(),
                    ..Default::default()
                }
            ),
        ];
        for text in printed {
            assert!(text.contains("***") && !text.contains(secret), "{text}");
        }
    }
}

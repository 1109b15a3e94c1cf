//! Connections to the members of a cluster, and calls over them.
//!
//! Unary methods and the watch stream run directly on `h2`; the other streaming methods use tonic's
//! generated stubs and codec over the same connections. Connections have roles (`connection_role`),
//! so that many events or keys delay no call, and nothing delays a lease renewal.

mod attempts;
mod authenticated;
mod call;
mod codec;
pub(crate) mod connect;
pub(crate) mod etcd_rs_proto;
mod limits;
mod oversized_message;
mod retry;
mod rpc_error;
mod settings;
mod stream;
mod stubs;
#[cfg(test)]
mod tests;
#[cfg(feature = "__tls")]
pub(crate) mod tls;
mod token;
mod transport;
mod unary;

pub(crate) use call::Call;
pub(crate) use codec::Codec;
pub(crate) use connect::connect_error::ConnectError;
pub(crate) use connect::connection::Connection;
pub(crate) use connect::connection_role::ConnectionRole;
pub(crate) use connect::resolver::Resolver;
pub(crate) use connect::store_identity::{Consistency, KnownStore};
pub(crate) use connect::urgency::Urgency;
pub(crate) use limits::MessageLimits;
pub(crate) use retry::{MemberCondition, member_condition};
pub(crate) use rpc_error::{RpcError, classify};
pub(crate) use settings::TransportSettings;
pub(crate) use stream::{GrpcStream, StreamItem};
pub(crate) use stubs::outgoing;
pub(crate) use token::identity::Identity;
pub(crate) use token::tokens::Tokens;
pub(crate) use transport::Transport;
pub(crate) use unary::Framed;

//! Connections to the members of a cluster, and three ways to use them: `unary`, `server_stream` and
//! `duplex`.
//!
//! A unary call runs directly on `h2`, with the attempts that `attempts` decides. Both kinds of streams
//! are a [`GrpcStream`], which is tonic's client and codec over the same connections. Connections have
//! roles (`connection_role`), so that many events or keys delay no call, and nothing delays a lease
//! renewal.

mod attempt_failure;
mod attempts;
mod authenticated;
mod call;
pub(crate) mod connect;
pub(crate) mod etcd_rs_proto;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod grpc_status;
mod grpc_stream;
mod health;
mod limits;
mod member_condition;
mod message_splitter;
mod oversized_message;
mod received;
mod response_body;
mod retry;
mod rpc_error;
mod settings;
mod stream_codec;
mod stream_halves;
mod stream_service;
#[cfg(test)]
mod tests;
mod timers;
#[cfg(feature = "__tls")]
pub(crate) mod tls;
mod token;
mod transport;
mod unary;

pub(crate) use attempt_failure::AttemptFailure;
pub(crate) use call::Call;
pub(crate) use connect::connection::Connection;
pub(crate) use connect::connection_role::ConnectionRole;
pub(crate) use connect::resolver::Resolver;
pub(crate) use connect::shared_store_identity::SharedStoreIdentity;
pub(crate) use connect::store_identity::{Consistency, KnownStore, StoreVerdict};
pub(crate) use connect::urgency::Urgency;
pub(crate) use grpc_stream::{GrpcStream, StreamClosed, StreamEvent};
pub(crate) use health::check_health;
pub(crate) use limits::MessageLimits;
pub(crate) use member_condition::MemberCondition;
pub(crate) use received::Received;
pub(crate) use rpc_error::RpcError;
pub(crate) use settings::TransportSettings;
pub(crate) use stream_codec::StreamItem;
pub(crate) use timers::{Timer, Timers, Window};
pub(crate) use token::identity::Identity;
pub(crate) use token::tokens::Tokens;
pub(crate) use transport::Transport;
pub(crate) use unary::Framed;

//! Fuzz targets: functions that take any bytes and check what must hold for them.
//!
//! The programs in `fuzz/fuzz_targets` call them under libFuzzer. The unit tests here call them on stable Rust, with
//! each file of `fuzz/corpus` and with a fixed number of mutations of these. A target is in the module that it
//! tests, in a file `fuzz.rs`, and reports a fault by a panic.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
// Only cargo-fuzz makes the module public.
#![cfg_attr(not(fuzzing), allow(unreachable_pub))]

#[cfg(test)]
mod campaign;
pub(crate) mod input;
mod keys;
mod replies;
mod settings;
#[cfg(test)]
mod tests;

/// Defines each target as a function, and as a unit test of the same name.
macro_rules! targets {
    ($($(#[$attribute:meta])* $name:ident = $path:path;)*) => {
        $($(#[$attribute])* pub fn $name(data: &[u8]) {
            $path(data);
        })*

        #[cfg(test)]
        mod targets {
            $($(#[$attribute])* #[test] fn $name() {
                super::campaign::run(stringify!($name), super::$name);
            })*
        }

        /// The names of all targets, with those that need a feature.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    /// Responses of a server that keeps no promise, to the watches of a client.
    watch_messages = crate::rpc::watch::fuzz::messages;
    /// A server that keeps its promises, over a network that fails: no event is lost or repeated.
    watch_history = crate::rpc::watch::fuzz::history;
    /// Answers to renewals, and the times at which they arrive.
    lease_schedule = crate::rpc::lease::fuzz::schedule;
    /// The bytes of a reply to a unary call, in pieces.
    grpc_reply = crate::grpc::fuzz::reply;
    /// The bytes of a stream of messages, in pieces.
    grpc_stream = crate::grpc::fuzz::stream;
    /// The headers or trailers of a response.
    grpc_status = crate::grpc::fuzz::status;
    /// Error texts of a server.
    status_text = crate::error::fuzz::text;
    /// Replies of every kind, as protobuf.
    replies = replies::replies;
    /// The pages of a read, and the chunks of a stream of keys.
    pages = crate::rpc::kv::fuzz::pages;
    /// The chunks of a snapshot.
    snapshot = crate::rpc::maintenance::fuzz::snapshot;
    /// The reply of an HTTP server to a health check.
    http_reply = crate::rpc::probe::fuzz::reply;
    /// The URL of a health check.
    http_url = crate::rpc::probe::fuzz::url;
    /// Answers of a name server.
    dns_srv = crate::grpc::connect::dns_srv::fuzz::answers;
    /// Endpoints as users write them.
    endpoints = settings::endpoints;
    /// Settings from the environment.
    config_env = settings::env;
    /// Settings from a file.
    #[cfg(feature = "serde")]
    config_text = settings::text;
    /// Certificates and keys as PEM text.
    #[cfg(feature = "__tls")]
    pem = crate::grpc::tls::fuzz::pem;
    /// Certificates as DER.
    #[cfg(feature = "__tls")]
    x509 = crate::grpc::tls::fuzz::x509;
    /// Keys, ranges, prefixes and namespaces.
    keys = keys::keys;
    /// Keys and values of instances, in each format.
    codecs = crate::discovery::codec::fuzz::codecs;
    /// Overrides of an operator.
    overrides = crate::discovery::overrides::fuzz::overrides;
    /// The cache file of a view.
    cache_file = crate::discovery::resolve::fuzz::cache_file;
}

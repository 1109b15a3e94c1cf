//! Replacement of the name resolver, for tests.

use std::io;
use std::net::IpAddr;

use crate::client::builder::ClientBuilder;
use crate::grpc::Resolver;

/// Replaces the system's name resolver of a client with `resolve`.
///
/// For tests of resolvers that are slow, fail, or change their answer. `resolve` gets the host name; it
/// may block, and runs on a thread of its own.
///
/// ```no_run
/// use etcd_blocking::{Client, local};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let builder = Client::builder("http://etcd.example:2379");
/// let client = local::resolve_with(builder, |_host| Ok(vec![[127, 0, 0, 1].into()])).connect()?;
/// # Ok(()) }
/// ```
pub fn resolve_with<F>(builder: ClientBuilder, resolve: F) -> ClientBuilder
where
    F: Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
{
    builder.resolve_with(Resolver::new(move |host| {
        let found = resolve(host)?;
        Ok(found.into_iter().map(|ip| (ip, 0).into()).collect())
    }))
}

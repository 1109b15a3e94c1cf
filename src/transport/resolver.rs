//! The addresses of names: one look-up at a time for each name, on a thread of its own.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::single_flight::SingleFlight;

/// What finds the addresses of a host; it may block for as long as it likes. Ports do not count.
type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The look-ups of a client.
#[derive(Clone)]
pub(crate) struct Resolver {
    resolve: Arc<Resolve>,
    look_ups: Arc<SingleFlight<String, Result<Vec<SocketAddr>, String>>>,
}

impl Resolver {
    /// One that asks `resolve`.
    pub(crate) fn new(
        resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Resolver {
            resolve: Arc::new(resolve),
            look_ups: SingleFlight::new("etcd-look-up"),
        }
    }

    /// One that asks the system.
    pub(crate) fn system() -> Self {
        Resolver::new(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// The addresses of `host`, or why there are none. It joins a look-up that is under way, and waits
    /// for as long as that takes.
    pub(super) async fn addresses(&self, host: String) -> Result<Vec<SocketAddr>, String> {
        let (resolve, name) = (Arc::clone(&self.resolve), host.clone());
        let work = move || resolve(&name).map_err(|error| error.to_string());
        let found = self.look_ups.run(host, work).await;
        found.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").field(&self.look_ups).finish()
    }
}

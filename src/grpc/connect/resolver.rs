//! Looks up the addresses of host names: one look-up at a time for each name, on its own thread.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::single_flight::SingleFlight;

/// A function that finds the addresses of a host. It may block for any time. The ports of the
/// result are ignored.
type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The name look-ups of a client.
#[derive(Clone)]
pub(crate) struct Resolver {
    resolve: Arc<Resolve>,
    look_ups: Arc<SingleFlight<String, Result<Vec<SocketAddr>, String>>>,
}

impl Resolver {
    /// Creates a resolver that calls `resolve`.
    pub(crate) fn new(
        resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Resolver {
            resolve: Arc::new(resolve),
            look_ups: SingleFlight::new("etcd-look-up"),
        }
    }

    /// Creates a resolver that uses the operating system.
    pub(crate) fn system() -> Self {
        Resolver::new(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    /// Returns the addresses of `host`, or why there are none. Joins a look-up that is running, and
    /// waits until it ends.
    pub(crate) async fn addresses(&self, host: String) -> Result<Vec<SocketAddr>, String> {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn ask(resolver: &Resolver, host: &str) -> Result<Vec<SocketAddr>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(resolver.addresses(host.into()))
    }

    #[test]
    fn each_name_is_resolved_separately_and_a_failure_has_a_reason() {
        let (hang, gate) = mpsc::channel::<()>();
        let gate = parking_lot::Mutex::new(gate);
        let resolver = Resolver::new(move |host| match host {
            "slow" => {
                gate.lock().recv().ok();
                Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))])
            }
            "quick" => Ok(vec![SocketAddr::from(([10, 0, 0, 2], 0))]),
            "odd" => std::panic::resume_unwind(Box::new("on purpose")),
            _ => Err(io::Error::other("no such name")),
        });
        let slow = resolver.clone();
        let slow = std::thread::spawn(move || ask(&slow, "slow"));
        let text = |answer: Result<Vec<SocketAddr>, String>| format!("{answer:?}");
        assert_eq!(text(ask(&resolver, "quick")), "Ok([10.0.0.2:0])");
        assert_eq!(ask(&resolver, "unknown").unwrap_err(), "no such name");
        assert_eq!(ask(&resolver, "odd").unwrap_err(), "etcd-look-up panicked");
        drop(hang);
        assert_eq!(text(slow.join().unwrap()), "Ok([10.0.0.1:0])");
    }

    #[test]
    fn the_system_resolver_finds_localhost() {
        let found = ask(&Resolver::system(), "127.0.0.1").unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 0))]);
    }
}

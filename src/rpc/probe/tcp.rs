//! Opens a TCP connection to one of the addresses of a host.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::grpc::Resolver;

/// Tries the addresses in their order, each with an equal share of the time that is left, so that an
/// address that drops packets leaves time for the next one.
pub(super) async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<TcpStream, String> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let found = resolver.addresses(host.to_owned()).await;
            let mut found = found.map_err(|why| format!("no address of {host:?}: {why}"))?;
            found.iter_mut().for_each(|address| address.set_port(port));
            found
        }
    };
    let mut last = format!("no address of {host:?}");
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left.max(1);
        left -= 1;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request is one small write.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = format!("no connection to {address}: {error}"),
            Err(_) => last = format!("no connection to {address} in {share:?}"),
        }
    }
    Err(last)
}

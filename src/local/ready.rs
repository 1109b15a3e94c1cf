//! Requests the health and version pages of a server, and decides whether it is ready.

use std::{io, net::SocketAddr, time::Duration};

use super::http;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    /// With the page that says so, for an error.
    No(String),
}

/// Requests the health page from `health` and the version page from the peer port.
///
/// etcd decides the version of a new cluster some milliseconds after it is healthy. A member that is added
/// before that never joins: from then on the cluster needs the new member to decide, and the new member exits
/// as long as the version is not decided.
pub(super) fn request(
    health: SocketAddr,
    peer: SocketAddr,
    timeout: Duration,
) -> io::Result<Ready> {
    let page = get(health, "/health", timeout)?;
    if !page.body.replace(' ', "").contains(r#""health":"true""#) {
        return Ok(no(&page));
    }
    match get(peer, "/version", timeout) {
        Ok(page) if page.body.contains("not_decided") => Ok(no(&page)),
        Ok(_) => Ok(Ready::Yes),
        // The peer port has TLS, by flags of the caller, and closes the connection. The version is not waited for.
        Err(error) if is_closed(&error) => Ok(Ready::Yes),
        Err(error) => Err(error),
    }
}

/// Returns whether the server closed the connection without a reply.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn get(addr: SocketAddr, path: &str, timeout: Duration) -> io::Result<http::Reply> {
    http::get(addr, path, timeout)
        .map_err(|error| io::Error::new(error.kind(), format!("{addr}{path}: {error}")))
}

fn no(page: &http::Reply) -> Ready {
    Ready::No(format!("HTTP {} {}", page.status, page.body.trim()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener},
        thread,
        time::Duration,
    };

    use super::{Ready, request};

    /// Answers one request with this status and body, or closes the connection without a status.
    fn server(status: u16, body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            assert_ne!(stream.read(&mut request).unwrap(), 0);
            if status != 0 {
                write!(stream, "HTTP/1.0 {status} x\r\n\r\n{body}").unwrap();
            }
        });
        addr
    }

    fn ready(health: SocketAddr, version: (u16, &'static str)) -> Ready {
        request(
            health,
            server(version.0, version.1),
            Duration::from_secs(30),
        )
        .unwrap()
    }

    const DECIDED: (u16, &str) = (200, r#"{"etcdserver":"3.6.15","etcdcluster":"3.6.0"}"#);

    #[test]
    fn a_server_is_ready_when_it_is_healthy_and_the_version_of_its_cluster_is_decided() {
        let healthy = || server(200, r#"{"health":"true","reason":""}"#);
        assert_eq!(ready(healthy(), DECIDED), Ready::Yes);
        let undecided = r#"{"etcdserver":"3.6.15","etcdcluster":"not_decided"}"#;
        assert_eq!(
            ready(healthy(), (200, undecided)),
            Ready::No(format!("HTTP 200 {undecided}"))
        );
        let unhealthy = server(503, r#"{"health":"false"}"#);
        assert_eq!(
            ready(unhealthy, DECIDED),
            Ready::No(r#"HTTP 503 {"health":"false"}"#.into())
        );
    }

    #[test]
    fn the_version_is_not_waited_for_when_the_peer_port_has_tls() {
        let healthy = server(200, r#"{ "health": "true" }"#);
        assert_eq!(ready(healthy, (0, "")), Ready::Yes);
    }
}

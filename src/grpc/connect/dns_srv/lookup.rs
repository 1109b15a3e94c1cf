//! Looks up the endpoints of a cluster in DNS SRV records.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Answer, Server, answer, question};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::util::jitter;

/// The file that lists the name servers of the system.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long one name server has to answer when there is another one: UDP may lose a packet.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest timeout. It can be added to any `Instant` without overflow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The size of the receive buffer. Answers over UDP have at most 512 bytes (RFC 1035, section
/// 4.2.1), but some servers send more.
const PACKET: usize = 4096;

/// Finds the endpoints of a cluster in the SRV records of a domain, as `etcdctl --discovery-srv`
/// does.
///
/// The records of `_etcd-client-ssl._tcp.DOMAIN` are `https` endpoints, those of
/// `_etcd-client._tcp.DOMAIN` are `http`. If there are `https` endpoints, only those are returned:
/// the two are never mixed.
///
/// **DNS is not authenticated**: a forged answer decides which servers the client uses. With
/// `https`, verify the certificates against the domain itself, not against the names from DNS.
///
/// ```no_run
/// use etcd_blocking::Client;
/// use etcd_blocking::config::SrvLookup;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let endpoints = SrvLookup::new("example.com").endpoints()?;
/// let client = Client::connect(endpoints)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "no query is sent before endpoints()"]
pub struct SrvLookup {
    domain: String,
    name: Option<String>,
    nameservers: Vec<SocketAddr>,
    secure_only: bool,
    timeout: Duration,
}

impl SrvLookup {
    /// Creates a look-up for this domain that uses the system's name servers (`/etc/resolv.conf`).
    pub fn new(domain: impl Into<String>) -> Self {
        SrvLookup {
            domain: domain.into(),
            name: None,
            nameservers: Vec::new(),
            secure_only: false,
            timeout: Duration::from_secs(5),
        }
    }

    /// Selects one of several clusters of the domain: `_etcd-client-NAME._tcp.DOMAIN`, as `etcdctl
    /// --discovery-srv-name` does.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Uses this name server instead of the system's. Further calls add further name servers.
    pub fn nameserver(mut self, address: SocketAddr) -> Self {
        self.nameservers.push(address);
        self
    }

    /// Returns `https` endpoints only.
    pub fn secure_only(mut self) -> Self {
        self.secure_only = true;
        self
    }

    /// Sets the total time to wait for answers, for all name servers together. The default is 5 s;
    /// the maximum is one day.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the look-up and returns the endpoints, best priority first. Blocks for at most the
    /// timeout.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when the domain is not a valid name;
    /// [`NotFound`](ErrorKind::NotFound) when it has no such records;
    /// [`Timeout`](ErrorKind::Timeout) when no name server answers;
    /// [`Unavailable`](ErrorKind::Unavailable) when the name servers fail or refuse.
    pub fn endpoints(&self) -> Result<Vec<String>> {
        let named =
            |e: Error| e.operation(Operation::about("look up SRV records of", &self.domain));
        self.find().map_err(named)
    }

    fn find(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + self.timeout.min(LONGEST);
        let nameservers = match self.nameservers.as_slice() {
            [] => system_nameservers(),
            given => given.to_vec(),
        };
        let schemes: &[(&str, &str)] = if self.secure_only {
            &[("https", "-ssl")]
        } else {
            &[("https", "-ssl"), ("http", "")]
        };
        let suffix = self.name.as_ref().map(|name| format!("-{name}"));
        for (scheme, kind) in schemes {
            let suffix = suffix.as_deref().unwrap_or_default();
            let name = format!("_etcd-client{kind}{suffix}._tcp.{}", self.domain);
            let mut servers = ask(&name, &nameservers, deadline)?;
            servers
                .sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
            let endpoint = |server: &Server| format!("{scheme}://{}:{}", server.host, server.port);
            if !servers.is_empty() {
                return Ok(servers.iter().map(endpoint).collect());
            }
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "the domain has no SRV records for etcd clients",
        ))
    }
}

/// Queries the name servers in turn until one answers.
fn ask(name: &str, nameservers: &[SocketAddr], deadline: Instant) -> Result<Vec<Server>> {
    let mut last = None;
    for nameserver in nameservers.iter().cycle() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // The id and the local port match an answer to its question.
        let Some(question) = question(jitter::number() as u16, name) else {
            return Err(Error::invalid("the domain name is not valid"));
        };
        let within = left.min(QUERY_TIMEOUT);
        let asked = match over_udp(&question, *nameserver, within) {
            Ok(Answer::Truncated) => over_tcp(&question, *nameserver, left),
            asked => asked,
        };
        let pause = match asked {
            Ok(Answer::Servers(servers)) => return Ok(servers),
            Ok(Answer::None) => return Ok(Vec::new()),
            Ok(Answer::Truncated) => {
                last = Some(format!("{nameserver} truncates its answers"));
                true
            }
            Ok(Answer::Refused(code)) => {
                last = Some(format!("{nameserver} refused the query with code {code}"));
                true
            }
            Err(error) => {
                last = Some(format!("{nameserver}: {error}"));
                !matches!(
                    error.kind(),
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
                )
            }
        };
        if pause {
            // Bounds the rate of queries to a name server that fails at once.
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
    let (kind, reason) = match last {
        Some(_) => (ErrorKind::Unavailable, "the name servers cannot answer"),
        None => (ErrorKind::Timeout, "no name server answered in time"),
    };
    let error = Error::new(kind, reason);
    Err(match last {
        Some(last) => error.last(last),
        None => error,
    })
}

fn over_udp(question: &[u8], nameserver: SocketAddr, within: Duration) -> io::Result<Answer> {
    let any: IpAddr = match nameserver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // A connected socket only receives packets from this name server.
    socket.connect(nameserver)?;
    socket.send(question)?;
    let deadline = Instant::now() + within;
    let mut packet = [0; PACKET];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let size = socket.recv(&mut packet)?;
        // Answers to other questions are ignored.
        let read = packet.get(..size).and_then(|bytes| answer(question, bytes));
        if let Some(answer) = read {
            return Ok(answer);
        }
    }
}

fn over_tcp(question: &[u8], nameserver: SocketAddr, within: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + within;
    let mut stream = TcpStream::connect_timeout(&nameserver, within)?;
    stream.set_write_timeout(Some(left_until(deadline)?))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, deadline)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut bytes, deadline)?;
    answer(question, &bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Fills `bytes` before the deadline. A socket timeout applies to a single read, and a server may
/// send one byte at a time.
fn read_until(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(left_until(deadline)?))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// The name servers of the system; this machine when none is configured, as system resolvers do.
fn system_nameservers() -> Vec<SocketAddr> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let found = nameservers_in(&text);
    if found.is_empty() {
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))]
    } else {
        found
    }
}

fn nameservers_in(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("nameserver"), Some(address)) = (words.next(), words.next())
            && let Ok(ip) = address.parse::<IpAddr>()
        {
            servers.push(SocketAddr::new(ip, 53));
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.53\n\
                    nameserver ::1 \n nameserver nonsense\noptions rotate\n";
        let servers = nameservers_in(text);
        assert_eq!(
            servers,
            ["10.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
    }
}

//! Asking a name server for the endpoints of a domain.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Answer, Server, answer, question};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::util::jitter;

/// Where a system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long one name server has, when there is another to ask: a packet may be lost.
const ONE_TRY: Duration = Duration::from_secs(1);

/// A longer timeout is none; and this one can be added to any time there is.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The largest answer over UDP to who did not say that it takes more (RFC 1035, section 4.2.1), and
/// some, for servers that do not care.
const PACKET: usize = 4096;

/// Finds the endpoints of a cluster in the SRV records of a domain, as `etcdctl --discovery-srv` does.
///
/// The records of `_etcd-client-ssl._tcp.DOMAIN` are `https` endpoints, those of
/// `_etcd-client._tcp.DOMAIN` are `http`. Where there are `https` ones, only those are taken: endpoints
/// are never mixed.
///
/// **DNS is not authenticated**: who can forge an answer chooses the servers. Over `https`, have the
/// certificates checked against the domain itself, not against the names that DNS gave.
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
#[must_use = "nothing is asked before endpoints()"]
pub struct SrvLookup {
    domain: String,
    name: Option<String>,
    nameservers: Vec<SocketAddr>,
    secure_only: bool,
    timeout: Duration,
}

impl SrvLookup {
    /// The endpoints of this domain, asked of the system's name servers (`/etc/resolv.conf`).
    pub fn new(domain: impl Into<String>) -> Self {
        SrvLookup {
            domain: domain.into(),
            name: None,
            nameservers: Vec::new(),
            secure_only: false,
            timeout: Duration::from_secs(5),
        }
    }

    /// One of several clusters of the domain: `_etcd-client-NAME._tcp.DOMAIN`, as
    /// `etcdctl --discovery-srv-name`.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Asks this name server instead; called again, that one too.
    pub fn nameserver(mut self, address: SocketAddr) -> Self {
        self.nameservers.push(address);
        self
    }

    /// Takes `https` endpoints only.
    pub fn secure_only(mut self) -> Self {
        self.secure_only = true;
        self
    }

    /// How long to wait for answers altogether, whatever servers are asked and however slowly they
    /// send; 5 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks, and returns the endpoints, those of the best priority first. Blocks for at most the
    /// timeout.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no domain;
    /// [`NotFound`](ErrorKind::NotFound) when it has no such records;
    /// [`Timeout`](ErrorKind::Timeout) or [`Unavailable`](ErrorKind::Unavailable) when no name server
    /// answers, or none that answers knows.
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
            "it has none for etcd clients",
        ))
    }
}

/// Asks one name server after the other, around and around, until one knows.
fn ask(name: &str, nameservers: &[SocketAddr], deadline: Instant) -> Result<Vec<Server>> {
    let mut last = None;
    for nameserver in nameservers.iter().cycle() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // An answer belongs to its question by this number, and by the port that it comes to.
        let Some(question) = question(jitter::number() as u16, name) else {
            return Err(Error::invalid("that is no domain name"));
        };
        let within = left.min(ONE_TRY);
        let asked = match over_udp(&question, *nameserver, within) {
            Ok(Answer::Truncated) => over_tcp(&question, *nameserver, left),
            asked => asked,
        };
        let pause = match asked {
            Ok(Answer::Servers(servers)) => return Ok(servers),
            Ok(Answer::None) => return Ok(Vec::new()),
            Ok(Answer::Truncated) => {
                last = Some(format!("{nameserver} cuts its answers short"));
                true
            }
            Ok(Answer::Refused(code)) => {
                last = Some(format!("{nameserver} refused, by code {code}"));
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
            // One that fails at once must not be asked a thousand times a second.
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
    let (kind, reason) = match last {
        Some(_) => (ErrorKind::Unavailable, "no name server knows"),
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
    // Packets from anywhere else do not arrive.
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
        // What answers another question is let pass.
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

/// Fills `bytes`. The deadline is that of all of them: the timeout of a socket is that of one read, and
/// a server may send a byte at a time.
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

/// Those of the system; this machine when it names none, as resolvers do.
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
    fn name_servers_are_read_as_the_system_writes_them() {
        let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.53\n\
                    nameserver ::1 \n nameserver nonsense\noptions rotate\n";
        let servers = nameservers_in(text);
        assert_eq!(
            servers,
            ["10.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
    }
}

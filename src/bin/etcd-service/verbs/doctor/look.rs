//! Looks at what listens behind an endpoint, beside the client: name, port, protocol, certificate and clock.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use etcd_blocking::crossbeam_channel::{Receiver, bounded};

use super::certificate::Certificate;
use super::http_answer::{Answer, recognise, request};
use super::identity::Identity;
use super::tls_look;

/// The largest answer that is read.
const LARGEST: usize = 64 * 1024;

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) reached: Reached,
    /// The certificate of the server, which was not verified.
    pub(super) certificate: Option<Certificate>,
    pub(super) clock: Option<ClockReading>,
}

/// How far the look came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The endpoint is a socket of this machine, which was not looked at.
    NotLooked,
    /// The name has no address.
    NotResolved(String),
    /// Nothing listens on the port.
    Refused,
    /// There is no connection for another reason.
    NotConnected(String),
    /// The connection is open, and nothing came.
    Silent,
    /// The TLS handshake failed.
    NoTls(String),
    Answered(Answer),
}

/// A clock that was read over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockReading {
    /// The time of this machine when the question was sent.
    pub(super) before: SystemTime,
    /// The time that the server told, in whole seconds.
    pub(super) told: SystemTime,
    /// The time of this machine when the answer had come.
    pub(super) after: SystemTime,
}

impl Look {
    fn only(reached: Reached) -> Self {
        Look {
            reached,
            certificate: None,
            clock: None,
        }
    }
}

/// A look that is in progress on a thread of its own, because a lookup of a name can hang.
#[derive(Debug)]
pub(super) struct Looking {
    done: Receiver<Look>,
    until: Instant,
}

/// Begins to look at an endpoint such as `http://10.0.0.1:2379`.
pub(super) fn begin(endpoint: &str, identity: Option<Identity>, limit: Duration) -> Looking {
    let (sender, done) = bounded(1);
    let until = Instant::now() + limit;
    let endpoint = endpoint.to_owned();
    let thread = thread::Builder::new().name("look".into());
    // Without a thread nothing is received, which `finish` handles.
    let _ = thread.spawn(move || {
        let _ = sender.send(look(&endpoint, identity.as_ref(), until));
    });
    Looking { done, until }
}

impl Looking {
    /// Waits for the end of the look.
    pub(super) fn finish(self) -> Look {
        let late = "the look-up of the name takes too long".to_owned();
        let limit = self.until + Duration::from_millis(500);
        let look = self.done.recv_deadline(limit);
        look.unwrap_or_else(|_| Look::only(Reached::NotResolved(late)))
    }
}

fn look(endpoint: &str, identity: Option<&Identity>, until: Instant) -> Look {
    let (is_tls, authority) = match endpoint.split_once("://") {
        Some(("http", authority)) => (false, authority),
        Some(("https", authority)) => (true, authority),
        _ => return Look::only(Reached::NotLooked),
    };
    let stream = match connect(authority, until) {
        Ok(stream) => stream,
        Err(reached) => return Look::only(reached),
    };
    let mut certificate = None;
    let exchanged = match is_tls {
        false => exchange(stream, authority, until),
        true => {
            let host = host(authority);
            let handshake = tls_look::handshake(stream, host, identity, &mut certificate);
            match handshake {
                Ok(stream) => exchange(stream, authority, until),
                Err(error) => {
                    return Look {
                        certificate,
                        ..Look::only(Reached::NoTls(error.to_string()))
                    };
                }
            }
        }
    };
    let (bytes, before, after) = exchanged;
    let reached = match bytes {
        Some(bytes) => Reached::Answered(recognise(&bytes)),
        None => Reached::Silent,
    };
    let clock = match &reached {
        Reached::Answered(Answer::Http(answer)) => answer.date.map(|told| ClockReading {
            before,
            told,
            after,
        }),
        _ => None,
    };
    Look {
        reached,
        certificate,
        clock,
    }
}

/// The host of `HOST:PORT`, without brackets.
fn host(authority: &str) -> &str {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

fn connect(authority: &str, until: Instant) -> Result<TcpStream, Reached> {
    let addresses = authority.to_socket_addrs();
    let addresses: Vec<_> = match addresses {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(Reached::NotResolved(error.to_string())),
    };
    let mut reached = Reached::NotResolved("it has no address".into());
    for address in addresses {
        let Some(limit) = left(until) else {
            break;
        };
        let stream = TcpStream::connect_timeout(&address, limit);
        match stream.and_then(|stream| timed(stream, until)) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                reached = Reached::Refused;
            }
            Err(error) => reached = Reached::NotConnected(error.to_string()),
        }
    }
    Err(reached)
}

/// Limits the reads and writes of a handshake.
fn timed(stream: TcpStream, until: Instant) -> io::Result<TcpStream> {
    let limit = left(until).unwrap_or(Duration::from_millis(1));
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// Sends the question, and reads the answer: `None` if nothing came.
fn exchange(
    mut stream: impl Read + Write,
    authority: &str,
    until: Instant,
) -> (Option<Vec<u8>>, SystemTime, SystemTime) {
    let before = SystemTime::now();
    let mut after = before;
    let mut answer = Vec::new();
    let mut is_ended = stream.write_all(request(authority).as_bytes()).is_err();
    let mut chunk = [0; 4096];
    while !is_ended && answer.len() < LARGEST && left(until).is_some() {
        match stream.read(&mut chunk) {
            Ok(0) => is_ended = true,
            Ok(count) => {
                if answer.is_empty() {
                    after = SystemTime::now();
                }
                answer.extend(chunk.iter().take(count));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let is_late = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                );
                is_ended = !is_late;
                break;
            }
        }
    }
    let bytes = (is_ended || !answer.is_empty()).then_some(answer);
    (bytes, before, after)
}

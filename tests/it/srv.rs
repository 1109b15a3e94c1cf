//! Endpoints from DNS SRV records, with a scripted name server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::config::SrvLookup;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind};

use crate::support::pace::Pace;

/// A name, a priority, a host and a port.
type Record = (&'static str, u16, &'static str, u16);

/// Answers questions for SRV records; its threads end with the process.
struct NameServer {
    addr: SocketAddr,
    over_tcp: Arc<AtomicUsize>,
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn reply(records: &[Record], question: &[u8]) -> Vec<u8> {
    let known = |(name, ..): &&Record| question[12..].starts_with(&labels(name));
    let found: Vec<_> = records.iter().filter(known).collect();
    // NXDOMAIN when the name has no records.
    let code = if found.is_empty() { 3 } else { 0 };
    let mut bytes = [
        &question[..2],
        &[0x81, 0x80 | code, 0, 1, 0, found.len() as u8],
    ]
    .concat();
    bytes.extend([0; 4]);
    bytes.extend(&question[12..]);
    for (_, priority, host, port) in found {
        let host = labels(host);
        bytes.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 6 + host.len() as u8]);
        for word in [*priority, 5, *port] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(host);
    }
    bytes
}

impl NameServer {
    /// With `truncates`, its UDP answers are empty and truncated, and the records come over TCP.
    fn start(records: Vec<Record>, truncates: bool) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(addr).unwrap();
        let over_tcp = Arc::new(AtomicUsize::new(0));
        let (asked, theirs) = (Arc::clone(&over_tcp), records.clone());
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = reply(&theirs, &question);
                let length = (answer.len() as u16).to_be_bytes();
                stream.write_all(&[&length, &answer[..]].concat()).unwrap();
            }
        });
        thread::spawn(move || {
            let mut packet = [0; 512];
            loop {
                let (size, from) = udp.recv_from(&mut packet).unwrap();
                let mut answer = reply(&records, &packet[..size]);
                if truncates {
                    answer[2] |= 2;
                    answer.truncate(size);
                }
                // First an answer with another id, which must be ignored.
                let mut stray = answer.clone();
                stray[0] ^= 1;
                udp.send_to(&stray, from).unwrap();
                udp.send_to(&answer, from).unwrap();
            }
        });
        NameServer { addr, over_tcp }
    }

    fn lookup(&self) -> SrvLookup {
        SrvLookup::new("example.com").nameserver(self.addr)
    }
}

#[test]
fn a_domain_resolves_to_the_endpoints_of_its_cluster() {
    let etcd = LocalEtcd::start().unwrap();
    let port = etcd.client_addr().port();
    let plain = "_etcd-client._tcp.example.com";
    let records = vec![
        (plain, 20, "backup.example.com", 2379),
        (plain, 10, "localhost", port),
    ];
    for truncates in [false, true] {
        let dns = NameServer::start(records.clone(), truncates);
        let endpoints = dns.lookup().endpoints().unwrap();
        let nearest = format!("http://localhost:{port}");
        assert_eq!(endpoints, [&nearest, "http://backup.example.com:2379"]);
        assert_eq!(dns.over_tcp.load(Ordering::SeqCst) > 0, truncates);
        let client = Client::connect([&endpoints[0]]).unwrap();
        client.put("k", "v").unwrap();
    }
}

#[test]
fn connect_looks_up_the_endpoints_of_a_domain() {
    let etcd = LocalEtcd::start().unwrap();
    let port = etcd.client_addr().port();
    let records = vec![("_etcd-client._tcp.example.com", 0, "localhost", port)];
    let dns = NameServer::start(records, false);
    let client = Client::builder([""; 0]).discovery_srv(dns.lookup());
    let client = client.connect().unwrap();
    assert_eq!(client.endpoints(), [format!("http://localhost:{port}")]);
    client.put("k", "v").unwrap();

    let both = Client::builder(["a:1"]).discovery_srv(dns.lookup());
    let error = both.connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let nothing = dns.lookup().service_name("other");
    let error = Client::builder([""; 0]).discovery_srv(nothing).connect();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("example.com"), "{error}");
}

#[test]
fn https_records_are_preferred_and_schemes_are_never_mixed() {
    let dns = NameServer::start(
        vec![
            ("_etcd-client._tcp.example.com", 0, "plain.example.com", 1),
            ("_etcd-client-ssl._tcp.example.com", 0, "tls.example.com", 2),
            (
                "_etcd-client-prod._tcp.example.com",
                0,
                "prod.example.com",
                3,
            ),
        ],
        false,
    );
    let endpoints = |lookup: SrvLookup| lookup.endpoints();
    assert_eq!(
        endpoints(dns.lookup()).unwrap(),
        ["https://tls.example.com:2"]
    );
    assert_eq!(
        endpoints(dns.lookup().service_name("prod")).unwrap(),
        ["http://prod.example.com:3"]
    );
    for nothing in [
        dns.lookup().service_name("prod").secure_only(),
        dns.lookup().service_name("other"),
        SrvLookup::new("example.org").nameserver(dns.addr),
    ] {
        let error = endpoints(nothing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let error = endpoints(SrvLookup::new("no domain").nameserver(dns.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("no domain"), "{error}");
}

#[test]
fn a_silent_name_server_is_skipped_and_the_lookup_ends_in_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = NameServer::start(
        vec![("_etcd-client._tcp.example.com", 0, "a.example.com", 1)],
        false,
    );
    let lookup = SrvLookup::new("example.com").nameserver(silent.local_addr().unwrap());
    let both = lookup
        .clone()
        .nameserver(dns.addr)
        .timeout(Duration::from_secs(20));
    assert_eq!(both.endpoints().unwrap(), ["http://a.example.com:1"]);
    let begun = Instant::now();
    let error = lookup.timeout(Duration::from_millis(300)).endpoints();
    let error = error.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

// Fault: N10
#[test]
fn a_name_server_that_sends_single_bytes_is_abandoned_after_the_timeout() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).unwrap();
    // Over UDP it sends a truncated answer, and over TCP an endless answer slowly.
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((size, from)) = udp.recv_from(&mut packet) {
            packet[2] = 0x83;
            packet[3] = 0x80;
            let _ = udp.send_to(&packet[..size], from);
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            thread::spawn(move || {
                while stream.write_all(&[0xff]).is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    let lookup = SrvLookup::new("example.com").nameserver(addr);
    let (pace, begun) = (Pace::start(), Instant::now());
    let error = lookup
        .timeout(Duration::from_secs(1))
        .endpoints()
        .unwrap_err();
    pace.check("the lookup", begun, Duration::from_secs(2));
    assert!(
        matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
        "{error}"
    );
}

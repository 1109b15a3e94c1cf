//! Addresses of a host name: which of them a client uses, and the cost of a resolver that hangs, fails or
//! changes its answer. Linux only, because all of 127.0.0.0/8 is on its loopback interface.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::local::resolve_with;
use etcd_blocking::{Client, ClientBuilder, ErrorKind, Watcher};

use crate::support::pace::Pace;
use crate::support::proxy::Proxy;
use crate::support::raw::{RawServer, swallow};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn host(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// The answer for a name.
#[derive(Clone)]
enum Found {
    At(Vec<u8>),
    Nothing,
    /// The resolver does not answer, until it is dropped or the name is set to something else.
    Hangs,
}

/// A scripted resolver.
#[derive(Clone, Default)]
struct Names(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    found: HashMap<String, Found>,
    asked: HashMap<String, usize>,
}

impl Names {
    fn set(&self, name: &str, found: Found) {
        self.0.0.lock().unwrap().found.insert(name.into(), found);
        self.0.1.notify_all();
    }

    fn at(self, name: &str, hosts: &[u8]) -> Self {
        self.set(name, Found::At(hosts.to_vec()));
        self
    }

    /// The number of lookups of a name.
    fn asked(&self, name: &str) -> usize {
        let state = self.0.0.lock().unwrap();
        state.asked.get(name).copied().unwrap_or(0)
    }

    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut state = self.0.0.lock().unwrap();
        *state.asked.entry(name.into()).or_default() += 1;
        loop {
            match state.found.get(name) {
                Some(Found::At(hosts)) => return Ok(hosts.iter().copied().map(host).collect()),
                Some(Found::Hangs) => {}
                Some(Found::Nothing) | None => {
                    return Err(io::Error::other("no such name"));
                }
            }
            let (next, waited) = self.0.1.wait_timeout(state, secs(120)).unwrap();
            assert!(!waited.timed_out(), "a test took longer than that");
            state = next;
        }
    }

    fn client<const N: usize>(&self, endpoints: [String; N]) -> ClientBuilder {
        let names = self.clone();
        resolve_with(Client::builder(endpoints), move |name| names.resolve(name))
    }
}

/// Ends all lookups that wait.
struct LetGo(Names);

impl Drop for LetGo {
    fn drop(&mut self) {
        for found in self.0.0.0.lock().unwrap().found.values_mut() {
            *found = Found::Nothing;
        }
        self.0.0.1.notify_all();
    }
}

/// A server at 127.0.0.`last`, on a port of that address that is free.
fn proxy(last: u8, port: u16, etcd: &LocalEtcd) -> Proxy {
    Proxy::builder(etcd.client_addr())
        .listen((host(last), port).into())
        .start()
        .unwrap()
}

#[track_caller]
fn value(watcher: &Watcher) -> String {
    let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
    let kv = response.events().last().unwrap().kv();
    kv.value_str().unwrap().to_owned()
}

// Fault: N1
#[test]
fn after_a_silent_address_the_next_address_of_the_name_is_used() {
    let etcd = LocalEtcd::start().unwrap();
    let good = proxy(1, 0, &etcd);
    let port = good.addr().port();
    let silent = RawServer::listening((host(2), port).into(), |stream, _| swallow(stream));
    let names = Names::default().at("etcd.test", &[2, 1]);
    let client = names.client([format!("http://etcd.test:{port}")]);
    let client = client.connect().unwrap();
    let pace = Pace::start();
    let begun = Instant::now();
    client.put("k", "0").unwrap();
    pace.check("the first call", begun, secs(1));
    let tried = silent.connections();
    assert_eq!(tried, 1);

    // The address is kept: later connections use it at once.
    let watcher = client.watch("k").unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    client.put("k", "1").unwrap();
    assert_eq!(value(&watcher), "1");
    assert_eq!(silent.connections(), tried);

    // After broken connections it is used again; the silent address is dialled beside it.
    for round in 2..6 {
        good.drop_connections();
        eventually(SOON, "a call goes through", || {
            client.put("k", round.to_string()).ok()
        });
        assert_eq!(value(&watcher), round.to_string());
    }
    // At most once by each of three connections (calls, watches, leases) in each of four rounds.
    let most = tried + 3 * 4;
    assert!(silent.connections() <= most, "{}", silent.connections());
}

// Fault: N1
#[test]
fn after_a_failing_address_the_next_address_of_the_name_is_used() {
    let scripts: [fn(TcpStream, usize); 3] = [
        |stream, _| drop(stream),
        |mut stream, _| {
            let _ = io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            swallow(stream);
        },
        |mut stream, _| {
            let _ = io::Write::write_all(&mut stream, &[21, 3, 1, 0, 2, 2, 70, 0, 0]);
            swallow(stream);
        },
    ];
    let etcd = LocalEtcd::start().unwrap();
    for script in scripts {
        let good = proxy(1, 0, &etcd);
        let port = good.addr().port();
        let bad = RawServer::listening((host(2), port).into(), script);
        // There is no server at the third address.
        let names = Names::default().at("etcd.test", &[3, 2, 1]);
        let client = names.client([format!("http://etcd.test:{port}")]);
        let client = client.connect().unwrap();
        let watcher = client.watch("k").unwrap();
        client.put("k", "v").unwrap();
        assert_eq!(value(&watcher), "v");
        assert!(bad.connections() > 0);
    }
}

// Fault: N2, F11
#[test]
fn a_hanging_lookup_does_not_delay_other_names() {
    let mut etcd = LocalEtcd::start().unwrap();
    let proxy = proxy(1, 0, &etcd);
    let names = Names::default().at("good.test", &[1]);
    names.set("slow.test", Found::Hangs);
    let _let_go = LetGo(names.clone());
    let endpoints = [
        String::from("http://slow.test:2379"),
        format!("http://good.test:{}", proxy.addr().port()),
    ];
    let client = names.client(endpoints).connect().unwrap();
    let watcher = client.watch("k").unwrap();
    for round in 0..10 {
        match round % 3 {
            0 => etcd.restart().unwrap(),
            _ => proxy.drop_connections(),
        }
        let text = round.to_string();
        eventually(SOON, "a put goes through", || client.put("k", &*text).ok());
        assert_eq!(value(&watcher), text);
    }
    assert_eq!(names.asked("slow.test"), 1, "one look-up at a time");
    assert!(names.asked("good.test") > 1);
    let (pace, begun) = (Pace::start(), Instant::now());
    drop((client, watcher));
    pace.check("closing while a look-up hangs", begun, secs(1));
}

#[test]
fn a_client_whose_lookup_hangs_reports_it_and_closes_in_time() {
    let names = Names::default();
    names.set("slow.test", Found::Hangs);
    let _let_go = LetGo(names.clone());
    let client = names
        .client([String::from("http://slow.test:2379")])
        .connect_timeout(Duration::from_millis(300))
        .timeout(secs(1));
    let client = client.connect().unwrap();
    for _ in 0..3 {
        let error = client.put("k", "v").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("name look-up: no answer in 300ms"), "{text}");
        assert!(text.contains("http://slow.test:2379"), "{text}");
        assert!(!error.outcome_unknown(), "{text}");
    }
    assert_eq!(names.asked("slow.test"), 1);
    let (pace, begun) = (Pace::start(), Instant::now());
    drop(client);
    pace.check("closing while a look-up hangs", begun, secs(1));
}

#[test]
fn known_addresses_are_dialled_while_a_lookup_hangs_or_fails() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = proxy(1, 0, &etcd);
    let names = Names::default().at("etcd.test", &[1]);
    let _let_go = LetGo(names.clone());
    let endpoint = format!("http://etcd.test:{}", proxy.addr().port());
    let client = names.client([endpoint]).connect().unwrap();
    let watcher = client.watch("k").unwrap();
    for (round, found) in [Found::Nothing, Found::Hangs].into_iter().enumerate() {
        names.set("etcd.test", found);
        // Open connections continue.
        client.put("k", "still").unwrap();
        assert_eq!(value(&watcher), "still");
        let before = names.asked("etcd.test");
        eventually(SOON, "it is looked up again", || {
            proxy.drop_connections();
            eventually(SOON, "a put goes through", || client.put("other", "v").ok());
            (names.asked("etcd.test") > before).then_some(())
        });
        let text = format!("after {round}");
        eventually(SOON, "a put goes through", || client.put("k", &*text).ok());
        eventually(SOON, "the watch shows it", || {
            (value(&watcher) == text).then_some(())
        });
    }
}

// Fault: F11
#[test]
fn the_new_address_of_a_name_is_used_after_a_change() {
    let etcd = LocalEtcd::start().unwrap();
    let old = proxy(2, 0, &etcd);
    let port = old.addr().port();
    let new = proxy(3, port, &etcd);
    let names = Names::default().at("etcd.test", &[2]);
    let client = names.client([format!("http://etcd.test:{port}")]);
    let client = client.connect().unwrap();
    let watcher = client.watch("k").unwrap();
    client.put("k", "old").unwrap();
    assert_eq!(value(&watcher), "old");
    names.set("etcd.test", Found::At(vec![3]));
    client.put("k", "old").unwrap();
    assert_eq!(new.connections(), 0, "working connections are kept");
    assert_eq!(value(&watcher), "old");

    // The old address accepts connections and is silent.
    old.black_hole(true);
    old.drop_connections();
    eventually(SOON, "a put goes through", || client.put("k", "new").ok());
    assert_eq!(value(&watcher), "new");
    assert!(new.connections() > 0);
    let dialled = old.connections();
    for round in 0..5 {
        new.drop_connections();
        let text = round.to_string();
        eventually(SOON, "a put goes through", || client.put("k", &*text).ok());
        assert_eq!(value(&watcher), text);
    }
    assert_eq!(old.connections(), dialled, "the old address is not dialled");
}

#[test]
fn an_outage_of_all_addresses_costs_a_bounded_number_of_dials() {
    let first = RawServer::listening((host(2), 0).into(), |stream, _| drop(stream));
    let port = first.addr().port();
    let others = (3..=9).map(|last| {
        let addr: SocketAddr = (host(last), port).into();
        RawServer::listening(addr, |stream, _| drop(stream))
    });
    let servers: Vec<RawServer> = [first].into_iter().chain(others).collect();
    let names = Names::default().at("etcd.test", &[2, 3, 4, 5, 6, 7, 8, 9]);
    let client = names
        .client([format!("http://etcd.test:{port}")])
        .timeout(secs(3));
    let client = client.connect().unwrap();
    let begun = Instant::now();
    let errors: Vec<_> = std::thread::scope(|scope| {
        let puts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.put("k", "v")))
            .collect();
        puts.into_iter()
            .map(|put| put.join().unwrap().unwrap_err())
            .collect()
    });
    let waited = begun.elapsed().as_secs_f64();
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("127.0.0."), "{error}");
    }
    let dials: usize = servers.iter().map(RawServer::connections).sum();
    // Each address once at first, and once for the TLS probe; then 8 dials a second for the name.
    let bound = 16 + 4 + (waited * 8.0).ceil() as usize;
    assert!(dials <= bound, "{dials} dials, and at most {bound} are due");
    assert!(dials >= 16, "{dials} dials: all have been tried");
}

// Fault: F11, F38
#[test]
fn an_unknown_name_and_a_panicking_resolver_are_errors_with_the_reason() {
    let names = Names::default();
    let client = names
        .client([String::from("http://nowhere.test:1")])
        .timeout(Duration::from_millis(700));
    let error = client.connect().unwrap().put("k", "v").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("name look-up: no such name"),
        "{error}"
    );
    // The first lookup, and one after 250 ms or more.
    let asked = names.asked("nowhere.test");
    assert!((1..=3).contains(&asked), "{asked}");

    let builder = Client::builder("http://panics.test:1").timeout(Duration::from_millis(500));
    // Without the panic hook, which may take longer than the call's timeout.
    let client = resolve_with(builder, |_| {
        std::panic::resume_unwind(Box::new("on purpose"))
    });
    let error = client.connect().unwrap().put("k", "v").unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

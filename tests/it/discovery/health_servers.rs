//! Health checks of servers that misbehave, and many checks at once.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{bounded, unbounded};
use etcd_blocking::health::{Check, CheckStatus, Initial};

use super::*;
use crate::support::child::alone;
use crate::support::raw::RawServer;
use crate::support::wait::threads;

const QUICK: Duration = Duration::from_millis(20);
/// The timeout of checks that must fail by it.
const SHORT: Duration = Duration::from_millis(100);
/// The timeout of checks that hang for the whole test.
const HOUR: Duration = Duration::from_secs(3600);

/// Reads the head of a request, and returns its path.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    Some(head.split(' ').nth(1)?.to_owned())
}

fn reply(stream: &mut TcpStream, status: u16) {
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
    let _ = stream.write_all(text.as_bytes());
}

fn status(registration: &Registration) -> CheckStatus {
    registration.health().unwrap().status
}

/// Registers an instance, and waits until its check fails.
fn failure(registrar: &Registrar, n: u16, check: Check) -> String {
    let check = check.interval(QUICK).fall(2);
    let failing = registrar.announce_checked(web(n), check).unwrap();
    eventually(SOON, "the check fails", || {
        failing
            .health()
            .unwrap()
            .reason
            .filter(|_| status(&failing) == CheckStatus::Failing)
    })
}

#[test]
fn an_http_server_that_flaps_changes_the_status_at_exactly_the_rise_and_fall_counts() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let (ask, asked) = unbounded();
    let (answers, answer) = bounded(1);
    let server = RawServer::start(move |mut stream, _| {
        if request(&mut stream).is_some() {
            let _ = ask.send(());
            reply(&mut stream, answer.recv().unwrap_or(200));
        }
    });
    let check = Check::http(format!("http://{}/", server.addr()))
        .interval(QUICK)
        .timeout(SOON)
        .rise(2)
        .fall(3);
    let checks = etcd_blocking::health::Checks::from(check).initial(Initial::Healthy);
    let web = registrar.register_checked(web(1), checks).unwrap();
    // Results, and the status after each: the next probe begins when the result has been counted.
    let results = "+--+---+-++-+-+-+---";
    let statuses = "PPPPPPFFFFPPPPPPPPPF";
    for (result, after) in results.chars().zip(statuses.chars()) {
        asked.recv_timeout(SOON).unwrap();
        answers.send(if result == '+' { 204 } else { 503 }).unwrap();
        // The next probe is asked for, and not answered yet.
        eventually(SOON, "the next probe", || (!asked.is_empty()).then_some(()));
        let expected = match after {
            'P' => CheckStatus::Passing,
            _ => CheckStatus::Failing,
        };
        assert_eq!(status(&web), expected, "{result}");
    }
    assert_eq!(
        web.health().unwrap().reason.unwrap().rsplit(' ').next(),
        Some("503")
    );
    drop(answers);
}

#[test]
fn servers_that_misbehave_fail_their_checks_with_a_reason() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let url = |addr: SocketAddr| format!("http://{addr}/health");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|addr| (addr, silent)).unwrap();
    let http = Check::http(url(silent.0)).timeout(SHORT);
    assert!(failure(&registrar, 1, http).contains(" in 100ms"));
    let grpc = Check::grpc(silent.0, "").timeout(SHORT);
    assert!(failure(&registrar, 2, grpc).contains(" in 100ms"));

    let errors = RawServer::start(|mut stream, _| {
        if request(&mut stream).is_some() {
            reply(&mut stream, 500);
        }
    });
    let http = Check::http(url(errors.addr())).timeout(SOON);
    assert!(failure(&registrar, 3, http).ends_with("status 500"));
    let wanted = Check::http(url(errors.addr()))
        .timeout(SOON)
        .status(500..=599)
        .body("no");
    assert!(failure(&registrar, 4, wanted).contains("does not contain \"no\""));
    let wanted = Check::http(url(errors.addr()))
        .timeout(SOON)
        .status(500..=599)
        .body("ok");
    let passes = registrar.register_checked(web(5), wanted).unwrap();
    assert!(passes.health().unwrap().is_passing());

    // A byte every few milliseconds, for ever: the timeout is for the whole probe.
    let slow = RawServer::start(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let http = Check::http(url(slow.addr())).timeout(SHORT);
    assert!(failure(&registrar, 6, http).contains(" in 100ms"));

    let closing = RawServer::start(|mut stream, _| drop(request(&mut stream)));
    let http = Check::http(url(closing.addr())).timeout(SOON);
    assert!(failure(&registrar, 7, http).contains("ended before a reply"));
    // A socket that is bound and does not listen: nobody else gets the port meanwhile.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = bound.local_addr().unwrap();
    for (n, check) in [Check::tcp(nobody), Check::grpc(nobody, "")]
        .into_iter()
        .enumerate()
    {
        let n = 8 + u16::try_from(n).unwrap();
        assert!(failure(&registrar, n, check.timeout(SOON)).contains("refused"));
    }
}

#[test]
fn a_grpc_check_asks_the_health_service_of_a_real_server() {
    let etcd = LocalEtcd::start().unwrap();
    let checked = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    // etcd serves the health service on its client port.
    let addr = checked.client_addr();
    let unknown = Check::grpc(addr, "no.such.Service").timeout(SOON);
    let why = failure(&registrar, 1, unknown);
    assert!(why.contains("unknown service"), "{why}");
    let check = Check::grpc(addr, "").interval(QUICK).rise(1).fall(1);
    let check = check.timeout(Duration::from_secs(1));
    let web = registrar.register_checked(web(2), check).unwrap();
    eventually(SOON, "the check passes", || {
        (status(&web) == CheckStatus::Passing).then_some(())
    });
    checked.pause().unwrap();
    eventually(SOON, "the check fails", || {
        (status(&web) == CheckStatus::Failing).then_some(())
    });
    checked.resume().unwrap();
    eventually(SOON, "the check passes", || {
        (status(&web) == CheckStatus::Passing).then_some(())
    });
}

/// A listener whose queue is full, so that further connections hang, with the sockets that fill it.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, SHORT) {
        filling.push(stream);
    }
    (listener, filling)
}

/// 100 checks of servers share the threads that the client has anyway.
#[test]
fn checks_of_servers_start_no_threads() {
    let name = "discovery::health_servers::checks_of_servers_start_no_threads";
    alone(name, 2 * SOON, || {
        let etcd = LocalEtcd::start().unwrap();
        let client = client(&etcd);
        let registrar = registrar(&client, 60);
        let _first = registrar.register(web(1)).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap();
        let before = threads();
        let checked = (2..=100).map(|n| {
            let check = match n % 3 {
                0 => Check::tcp(addr).interval(HOUR),
                1 => Check::http(format!("http://{addr}/")).timeout(HOUR),
                _ => Check::grpc(addr, "").timeout(HOUR),
            };
            registrar.announce_checked(web(n), check).unwrap()
        });
        let checked: Vec<_> = checked.collect();
        eventually(SOON, "the TCP checks have passed", || {
            let passed = checked
                .iter()
                .filter(|one| status(one) == CheckStatus::Passing);
            (passed.count() == 33).then_some(())
        });
        assert_eq!(threads(), before);
        let closure = Check::run(|| Ok::<(), String>(()));
        let closure = registrar.register_checked(web(101), closure).unwrap();
        assert_eq!(threads(), before + 1, "one for a closure");
        drop((checked, closure));
        eventually(SOON, "the thread of the closure ends", || {
            (threads() == before).then_some(())
        });
    });
}

/// Without a limit of time, 180 of the checks never end. The other 20 are only on time if they wait for
/// none of those.
#[test]
fn two_hundred_checks_of_which_most_hang_for_ever_do_not_delay_each_other() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_addr = silent.local_addr().unwrap();
    let (full, _filling) = full_listener();
    let (unblock, blocked) = bounded::<()>(0);
    let mut hanging = Vec::new();
    for n in 0..60 {
        hanging.push(Check::http(format!("http://{silent_addr}/{n}")));
        hanging.push(Check::grpc(silent_addr, ""));
    }
    hanging.extend((0..40).map(|_| Check::tcp(full.local_addr().unwrap())));
    hanging.extend((0..20).map(|_| {
        let blocked = blocked.clone();
        Check::run(move || blocked.recv().map_err(|_| "it was unblocked"))
    }));
    drop(blocked);
    let hanging: Vec<_> = (1..)
        .zip(hanging)
        .map(|(n, check)| {
            let check = check.interval(HOUR).timeout(HOUR);
            registrar.announce_checked(web(n), check).unwrap()
        })
        .collect();
    assert_eq!(hanging.len(), 180);

    let probes = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let counts = Arc::clone(&probes);
    let server = RawServer::start(move |mut stream, _| {
        if let Some(path) = request(&mut stream) {
            *counts.lock().unwrap().entry(path).or_default() += 1;
            reply(&mut stream, 200);
        }
    });
    let good: Vec<_> = (181..=200)
        .map(|n| {
            let check = Check::http(format!("http://{}/{n}", server.addr()));
            let check = check.interval(QUICK).timeout(SOON);
            registrar.announce_checked(web(n), check).unwrap()
        })
        .collect();
    eventually(SOON, "every good check is probed 20 times", || {
        let probes = probes.lock().unwrap();
        let done = probes.values().filter(|count| **count >= 20).count();
        (done == good.len()).then_some(())
    });
    assert!(good.iter().all(|one| status(one) == CheckStatus::Passing));
    assert!(good.iter().all(|one| one.wait_registered(SOON).is_ok()));
    assert!(
        hanging
            .iter()
            .all(|one| status(one) == CheckStatus::Starting)
    );
    let view = Discovery::new(&client).service("web").unwrap();
    assert_eq!(view.wait_for(20, SOON).unwrap().len(), 20);

    // The end waits for none of them either.
    registrar.leave_all().unwrap();
    drop(hanging);
    drop(unblock);
}

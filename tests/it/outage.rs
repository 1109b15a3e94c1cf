//! Servers that are stopped, silent, paused or restarted: results and delays of calls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Error, ErrorKind, Get, KeyRange, Put, Txn};

use crate::support::child::alone;
use crate::support::load::Load;
use crate::support::pace::Pace;
use crate::support::proxy::{Dir, Proxy};
use crate::support::raw::RawServer;
use crate::support::wait::{Raise, cpu_time, eventually};

const SOON: Duration = Duration::from_secs(30);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A port without a listener: no test can take it meanwhile, as it could a port that was free a moment ago.
fn closed_port() -> String {
    "http://127.0.0.1:1".to_owned()
}

/// Checks that the error of a failed call has all details.
#[track_caller]
fn check_error_details(error: &Error, operation: &str, endpoint: &str) {
    let text = error.to_string();
    assert!(text.starts_with(operation), "{text}");
    assert!(text.contains(endpoint), "{text}");
    assert!(!text.contains('\n') && error.attempts() >= 1, "{text}");
    assert_eq!(error.endpoint(), Some(endpoint));
}

// Fault: F12
#[test]
fn dead_or_silent_members_fail_no_call_and_cause_short_delays() {
    let etcd = LocalEtcd::start().unwrap();
    let silent = RawServer::silent();
    let hole = Proxy::start(etcd.client_addr()).unwrap();
    hole.black_hole(true);
    let (live, dead) = (etcd.endpoint(), closed_port());
    let pace = Pace::start();
    let mut first_calls = Vec::new();
    let (mut calls, mut slowest) = (0, Duration::ZERO);
    for mute in [silent.endpoint(), hole.endpoint()] {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let all = [&live, &dead, &mute];
            let client = Client::connect(order.map(|n| all[n].clone())).unwrap();
            let begun = Instant::now();
            client.put("k", "v").unwrap();
            // Two silent members are dialled before it, 100 ms apart.
            first_calls.push(pace.check("the first call", begun, ms(300)));
            thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|n| {
                        let client = &client;
                        scope.spawn(move || {
                            let mut slowest = Duration::ZERO;
                            for round in 0..210 {
                                let begun = Instant::now();
                                if round % 2 == 0 {
                                    client.put(format!("k{n}"), "v").unwrap();
                                } else {
                                    client.get(format!("k{n}")).unwrap().unwrap();
                                }
                                slowest = slowest.max(begun.elapsed());
                            }
                            slowest
                        })
                    })
                    .collect();
                for thread in threads {
                    slowest = slowest.max(thread.join().unwrap());
                    calls += 210;
                }
            });
        }
    }
    println!(
        "first calls {first_calls:?}; 0 of {calls} later calls failed, the slowest took {slowest:?}"
    );
    assert!(calls > 10_000, "{calls}");
    assert!(
        silent.connections() <= 6 && hole.connections() <= 6,
        "in the steady state no other member receives a request"
    );
}

// Fault: F13
#[test]
fn reads_survive_the_loss_of_every_connection_with_dead_members_in_the_list() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let silent = RawServer::silent();
    let client = Client::connect([silent.endpoint(), closed_port(), proxy.endpoint()]).unwrap();
    client.put("k", "v").unwrap();
    let pace = Pace::start();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        proxy.drop_connections();
        let begun = Instant::now();
        client.get("k").unwrap().unwrap();
        slowest = slowest.max(pace.check("a read on a broken connection", begun, secs(2)));
    }
    println!("the slowest of 20 reads on a broken connection took {slowest:?}");
}

#[test]
fn an_abandoned_connection_is_closed() {
    let etcd = LocalEtcd::start().unwrap();
    let proxies = [0, 1].map(|_| Proxy::start(etcd.client_addr()).unwrap());
    let client = Client::connect(proxies.each_ref().map(Proxy::endpoint)).unwrap();
    client.put("k", "v").unwrap();
    let used = proxies.iter().position(|p| p.bytes_up() > 0).unwrap();
    proxies[used].hold(Dir::Down, true);
    client.get("k").unwrap().unwrap();
    // The old connection would work again now, if it were still open.
    proxies[used].hold(Dir::Down, false);
    eventually(SOON, "it is closed", || {
        (proxies[used].open_connections() == 0).then_some(())
    });
    client.get("k").unwrap().unwrap();
}

// Fault: F2
#[test]
fn calls_to_a_paused_server_end_at_their_deadline_and_succeed_after_it_resumes() {
    let name =
        "outage::calls_to_a_paused_server_end_at_their_deadline_and_succeed_after_it_resumes";
    alone(name, secs(90), || {
        let etcd = LocalEtcd::start().unwrap();
        let client = Client::builder([etcd.endpoint()])
            .timeout(ms(500))
            .connect()
            .unwrap();
        client.put("k", "v").unwrap();
        let lease = client.grant(secs(60)).unwrap();
        let _alive = client.keep_alive(lease.id()).unwrap();
        let watcher = client.watch("k").unwrap();
        etcd.pause().unwrap();

        let pace = Pace::start();
        let begun = Instant::now();
        let error = client.get("k").unwrap_err();
        pace.check("a get with a deadline of 500 ms", begun, ms(900));
        check_error_details(&error, "get \"k\": ", &etcd.endpoint());
        assert_eq!(
            (error.kind(), error.outcome_unknown()),
            (ErrorKind::Timeout, false),
            "{error}"
        );
        assert!(error.elapsed() >= ms(450), "{error}");
        let begun = Instant::now();
        let writes = [
            ("put \"k\": ", client.put("k", "w").unwrap_err()),
            ("delete \"k\": ", client.delete("k").unwrap_err()),
            (
                "txn ",
                client.txn(Txn::always([Put::new("k", "x")])).unwrap_err(),
            ),
            (
                "put \"k\": ",
                client.submit(Put::new("k", "y")).wait().unwrap_err(),
            ),
        ];
        for (operation, error) in &writes {
            check_error_details(error, operation, &etcd.endpoint());
            assert_eq!(
                (error.kind(), error.outcome_unknown()),
                (ErrorKind::Timeout, true),
                "{error}"
            );
            assert!(!error.is_retryable(), "{error}");
        }
        pace.check("four writes", begun, 4 * ms(900));
        println!("{}", writes[0].1);

        // Waiting callers, repeating callers, a watch and a lease, for 2 s.
        let patient = client.with_timeout(secs(30));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let done = Raise(&stop);
            for n in 0..8 {
                let (client, patient, stop) = (&client, &patient, &stop);
                scope.spawn(move || {
                    if n < 4 {
                        patient.get("k").unwrap();
                    } else {
                        while !stop.load(Ordering::SeqCst) {
                            let _ = client.get("k");
                        }
                    }
                });
            }
            let before = cpu_time();
            thread::sleep(secs(2));
            let used = cpu_time() - before;
            println!("{used:?} of processor time in 2 s of a paused server");
            assert!(used < ms(200), "{used:?}");
            drop(done);
            let resumed = Instant::now();
            etcd.resume().unwrap();
            eventually(SOON, "calls are answered", || client.get("k").ok());
            let again = pace.check("the first answer", resumed, secs(2));
            println!("answers again after {again:?}");
        });
        eventually(
            SOON,
            "the watch has what the paused server did after all",
            || {
                client.put("k", "last").ok()?;
                let seen = watcher.recv_timeout(SOON).unwrap().unwrap().into_events();
                (seen.last()?.kv().value() == "last").then_some(())
            },
        );
    });
}

#[test]
fn without_servers_a_client_uses_little_cpu_and_few_connections() {
    let name = "outage::without_servers_a_client_uses_little_cpu_and_few_connections";
    alone(name, secs(60), || {
        // The proxy accepts and closes each connection at once, and so counts them.
        let server = RawServer::start(|_, _| {});
        let client = Client::builder([server.endpoint()])
            .timeout(ms(500))
            .connect()
            .unwrap();
        let patient = client.with_timeout(secs(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| patient.get("k").unwrap_err());
                scope.spawn(|| patient.watch("k").unwrap_err());
            }
            let error = client.get("k").unwrap_err();
            check_error_details(&error, "get \"k\": ", &server.endpoint());
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            println!("{error}");
            let (before, dialled) = (cpu_time(), server.connections());
            thread::sleep(secs(2));
            let (used, dials) = (cpu_time() - before, server.connections() - dialled);
            println!("{used:?} of processor time and {dials} connections in 2 s");
            // Calls and watches dial separately, 4 times a second each.
            assert!(
                used < ms(200) && dials <= 2 * (2 * 4 + 1),
                "{used:?} {dials}"
            );
        });
    });
}

// Case: KV-22
// Fault: F3
#[test]
fn a_restarting_server_fails_no_read_and_write_errors_have_the_right_outcome() {
    for graceful in [false, true] {
        let mut etcd = LocalEtcd::start().unwrap();
        let client = Client::connect([etcd.endpoint()]).unwrap();
        client.put("r", "v").unwrap();
        let load = Load::start(&client, 8);
        let mut fault = Instant::now();
        for _ in 0..3 {
            fault = Instant::now();
            if graceful {
                etcd.stop().unwrap();
            }
            etcd.restart().unwrap();
            println!("graceful {graceful}: restarted in {:?}", fault.elapsed());
            load.flows(Instant::now(), SOON);
        }
        let report = load.finish(fault, secs(15));
        println!(
            "graceful {graceful}: {} reads, longest gap {:?}; {} writes, {} failed, {} of them in doubt",
            report.reads,
            report.longest_without_read,
            report.writes,
            report.failed_writes.len(),
            report
                .failed_writes
                .iter()
                .filter(|e| e.outcome_unknown())
                .count(),
        );
        assert!(report.failed_reads.is_empty(), "{:?}", report.failed_reads);
        for error in &report.failed_writes {
            assert!(error.to_string().contains(&etcd.endpoint()), "{error}");
        }
    }
}

// Case: KV-24
// Fault: F10
#[test]
fn a_put_is_executed_at_most_once_however_often_its_connection_breaks() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let stop = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let done = Raise(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // Each eighth connection stays open until it has returned an answer, however slow
                // the machine is: some puts must succeed.
                let before = answered.load(Ordering::SeqCst);
                for _ in 0..8 {
                    thread::sleep(ms(5));
                    proxy.drop_connections();
                }
                while answered.load(Ordering::SeqCst) == before && !stop.load(Ordering::SeqCst) {
                    thread::sleep(ms(1));
                }
            }
        });
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (client, outcomes, answered) = (&client, &outcomes, &answered);
                scope.spawn(move || {
                    let until = Instant::now() + secs(4);
                    let mut n = 0;
                    while Instant::now() < until {
                        let key = format!("k/{writer}/{n}");
                        let put = client.put(key.clone(), "v");
                        answered.fetch_add(usize::from(put.is_ok()), Ordering::SeqCst);
                        let counted = client.put(format!("count/{writer}"), n.to_string());
                        outcomes
                            .lock()
                            .unwrap()
                            .extend([(key, put), (String::new(), counted)]);
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        let counts: Vec<i64> = writers.into_iter().map(|w| w.join().unwrap()).collect();
        drop(done);
        for (writer, calls) in counts.into_iter().enumerate() {
            let version = direct
                .get(format!("count/{writer}"))
                .unwrap()
                .map_or(0, |kv| kv.version());
            assert!(version <= calls, "{version} executions of {calls} puts");
        }
    });
    let stored = direct.call(Get::range(KeyRange::prefix("k/"))).unwrap();
    assert!(stored.kvs().iter().all(|kv| kv.version() == 1));
    let there = |key: &str| stored.kvs().iter().any(|kv| kv.key_lossy() == key);
    let outcomes = outcomes.into_inner().unwrap();
    let (mut done, mut undone, mut doubtful) = (0, 0, 0);
    for (key, outcome) in outcomes.iter().filter(|(key, _)| !key.is_empty()) {
        match outcome {
            Ok(_) => {
                done += 1;
                assert!(there(key), "{key} was acknowledged");
            }
            Err(error) if error.outcome_unknown() => doubtful += 1,
            Err(error) => {
                undone += 1;
                assert!(!there(key), "{key} is there, but: {error}");
            }
        }
    }
    println!("{done} puts done, {undone} not done, {doubtful} in doubt");
    assert!(done > 0 && doubtful > 0, "{done} {doubtful}");
}

//! Many clients or watches at once, and a process that may open no more files.

use std::collections::BTreeSet;
use std::fs::File;
use std::thread;
use std::time::Instant;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Watch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{SOON, secs};
use crate::support::child::alone;
use crate::support::proxy::Proxy;
use crate::support::wait::{eventually, open_fds, threads};

// Fault: F35
#[test]
fn ten_thousand_watches_resume_after_their_connection_broke() {
    const WATCHES: usize = 10_000;
    let name = "faults::crowds::ten_thousand_watches_resume_after_their_connection_broke";
    alone(name, secs(120), || {
        let etcd = LocalEtcd::start().unwrap();
        let proxy = Proxy::start(etcd.client_addr()).unwrap();
        let client = Client::builder([proxy.endpoint()])
            .timeout(SOON)
            .connect()
            .unwrap();
        let direct = Client::connect([etcd.endpoint()]).unwrap();
        let set = client.watch_set().unwrap();
        let before = threads();
        set.add_all((0..WATCHES).map(|n| Watch::key(format!("k/{n}"))))
            .unwrap();
        for round in 0..2 {
            let resumed = client.metrics().watches.resumes;
            proxy.drop_connections();
            let begun = Instant::now();
            eventually(4 * SOON, "all watches are created again", || {
                let resumes = client.metrics().watches.resumes - resumed;
                (resumes >= WATCHES as u64).then_some(())
            });
            println!("{WATCHES} watches resumed in {:?}", begun.elapsed());
            // Fewer than a set holds, so that no watch is paused.
            for n in (0..WATCHES).step_by(100) {
                direct.put(format!("k/{n}"), round.to_string()).unwrap();
            }
            let mut seen = BTreeSet::new();
            while seen.len() < WATCHES / 100 {
                let (_, item) = set.receiver().recv_timeout(SOON).unwrap();
                for event in item.unwrap().events() {
                    assert_eq!(event.kv().value(), &*round.to_string());
                    assert!(seen.insert(event.key().clone()), "each event once");
                }
            }
            assert!(set.receiver().is_empty(), "each event once");
        }
        // A connection has two threads of the proxy.
        assert!(threads() <= before + 8, "no watch has a thread");
        let open = proxy.open_connections();
        assert!(open <= 2, "{open} connections");
    });
}

// Fault: F41
#[test]
fn a_process_without_free_files_gets_an_error_with_the_reason_and_recovers() {
    let name =
        "faults::crowds::a_process_without_free_files_gets_an_error_with_the_reason_and_recovers";
    alone(name, secs(120), || {
        let etcd = LocalEtcd::start().unwrap();
        let connected = Client::connect([etcd.endpoint()]).unwrap();
        connected.put("k", "v").unwrap();
        let late = Client::builder([etcd.endpoint()])
            .timeout(secs(5))
            .connect()
            .unwrap();
        let limit = Rlimit {
            current: Some(open_fds() as u64 + 20),
            ..getrlimit(Resource::Nofile)
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let mut files = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        let errors = thread::scope(|scope| {
            let calls = [
                scope.spawn(|| late.get("k").unwrap_err()),
                scope.spawn(|| late.put("k", "w").unwrap_err()),
                scope.spawn(|| late.watch("k").unwrap_err()),
                scope.spawn(|| late.grant(secs(60)).unwrap_err()),
                // A client needs files of its own.
                scope.spawn(|| Client::connect([etcd.endpoint()]).unwrap_err()),
            ];
            calls.map(|call| call.join().unwrap())
        });
        for error in &errors {
            println!("{error}");
            let kind = error.kind();
            let expected = [ErrorKind::Os, ErrorKind::Unavailable, ErrorKind::Timeout];
            assert!(expected.contains(&kind), "{kind:?}: {error}");
            assert!(error.to_string().contains("Too many open files"), "{error}");
            assert!(!error.outcome_unknown(), "nothing was sent: {error}");
        }
        assert_eq!(connected.get("k").unwrap().unwrap().value(), "v");
        drop(files);
        eventually(SOON, "it recovers", || late.put("k", "w").ok());
    });
}

// Fault: F42
#[test]
fn a_thousand_clients_return_after_a_restart_and_dial_at_a_bounded_rate_before() {
    const CLIENTS: usize = 1_000;
    let name = "faults::crowds::a_thousand_clients_return_after_a_restart_and_dial_at_a_bounded_rate_before";
    alone(name, secs(240), || {
        let mut etcd = LocalEtcd::start().unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                Client::builder([etcd.endpoint()])
                    .timeout(2 * SOON)
                    .connect()
                    .unwrap()
            })
            .collect();
        let watchers: Vec<_> = clients
            .iter()
            .map(|client| client.watch("k").unwrap())
            .collect();
        let killed = Instant::now();
        etcd.kill().unwrap();
        thread::sleep(secs(3));
        let dials: Vec<u64> = clients
            .iter()
            .flat_map(|client| client.metrics().endpoints)
            .map(|endpoint| endpoint.failed_dials)
            .collect();
        let away = killed.elapsed().as_secs_f64();
        etcd.restart().unwrap();
        let restarted = Instant::now();
        let put = clients[0].with_timeout(2 * SOON).get("k");
        put.unwrap();
        let last = eventually(SOON, "a put", || clients[0].put("k", "v").ok()).revision();
        for watcher in &watchers {
            while watcher.recv_timeout(2 * SOON).unwrap().unwrap().revision() < last {}
        }
        let (sum, most) = (dials.iter().sum::<u64>(), dials.iter().max().unwrap());
        println!(
            "{sum} failed dials of {CLIENTS} clients in {away:.1} s, at most {most} of one; all are back after {:?}",
            restarted.elapsed()
        );
        // Four a second for each member, and those in progress.
        assert!((*most as f64) <= 4.0 * away + 4.0, "{most} in {away} s");
    });
}

//! Failed writes: the outcome in the error matches the contents of the store.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, Error, ErrorKind, Put, Txn};

const QUOTA: usize = 12 << 20;
const VALUE: usize = 60 << 10;
const THREADS: usize = 32;

/// Writes new keys, half of the threads by put and half by transaction, until one fails.
fn fill(client: &Client, thread: usize) -> (String, Error) {
    let value = vec![7; VALUE];
    let most = 2 * QUOTA / VALUE;
    let failed = (0..most).find_map(|n| {
        let key = format!("{thread}/{n}");
        let put = Put::new(key.clone(), value.clone());
        let written = match thread % 2 {
            0 => client.call(put).map(drop),
            _ => client.txn(Txn::always([put])).map(drop),
        };
        written.err().map(|error| (key, error))
    });
    failed.expect("the quota is reached")
}

/// etcd checks its quota before it proposes a write, and again after it has applied it. A write in flight
/// when the store becomes full gets the same error, whether or not it was executed.
// Fault: N9, F23
#[test]
fn a_write_refused_for_lack_of_space_has_an_unknown_outcome() {
    // Whether a write was executed depends on the timing; nearly always many were.
    for _ in 0..3 {
        let etcd = LocalEtcd::builder()
            .arg(format!("--quota-backend-bytes={QUOTA}"))
            .start()
            .unwrap();
        let client = Client::builder([etcd.endpoint()])
            .timeout(Duration::from_secs(30))
            .connect()
            .unwrap();
        let failed: Vec<_> = thread::scope(|scope| {
            let client = &client;
            let threads: Vec<_> = (0..THREADS)
                .map(|n| scope.spawn(move || fill(client, n)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut executed = 0;
        for (key, error) in &failed {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            if client.get(key.as_str()).unwrap().is_some() {
                executed += 1;
                assert!(error.outcome_unknown(), "it was executed: {error}");
            }
        }
        eprintln!("{executed} of {THREADS} failed writes were executed");
        if executed > 0 {
            return;
        }
    }
    panic!("nothing that was refused was executed: the label can say so");
}

/// A leader that hands over drops proposals, with an error text of raft. No write whose error
/// has a known outcome was executed.
// Fault: F5
#[test]
fn failed_writes_during_leader_changes_have_the_right_outcome() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::builder(cluster.endpoints())
        .timeout(Duration::from_secs(30))
        .connect()
        .unwrap();
    let over = AtomicBool::new(false);
    let failed: Vec<(String, Error)> = thread::scope(|scope| {
        let put = |thread| {
            let (client, over) = (&client, &over);
            move || {
                let mut failed = Vec::new();
                for n in (0..).take_while(|_| !over.load(SeqCst)) {
                    let key = format!("{thread}/{n}");
                    if let Err(error) = client.put(key.as_str(), "v") {
                        failed.push((key, error));
                    }
                }
                failed
            }
        };
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(put(n))).collect();
        for round in 0..12 {
            let members = client.cluster().member_list().unwrap();
            let leader = client.maintenance().status().unwrap().leader();
            let others = members.members().iter().map(|member| member.id());
            let others: Vec<_> = others.filter(|id| Some(*id) != leader).collect();
            // It may have just lost the leadership.
            let _ = client
                .maintenance()
                .move_leader(others[round % others.len()]);
        }
        over.store(true, SeqCst);
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    eprintln!("{} puts failed", failed.len());
    for (key, error) in failed {
        let executed = client.get(key.as_str()).unwrap().is_some();
        assert!(error.outcome_unknown() || !executed, "{key}: {error}");
        assert_ne!(error.kind(), ErrorKind::Server, "{error}");
    }
}

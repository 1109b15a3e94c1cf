//! Calls while the server is unreachable, and after it has come back.

use std::time::{Duration, Instant};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, Delete, ErrorKind, Get, Put, Txn};

use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// Case: KV-10
// Fault: F7
#[test]
fn without_a_majority_the_error_of_a_put_names_the_missing_leader() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::builder([cluster.member(0).endpoint()])
        .timeout(secs(2))
        .connect()
        .unwrap();
    client.put("k", "v").unwrap();
    cluster.member_mut(1).kill().unwrap();
    cluster.member_mut(2).kill().unwrap();
    eventually(SOON, "it has no leader", || {
        (cluster.member(0).status().ok()?.leader == 0).then_some(())
    });
    let begun = Instant::now();
    let error = client.put("k", "w").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("no leader"), "{error}");
    assert!(!error.outcome_unknown(), "{error}");
    assert!(begun.elapsed() < secs(4), "{:?}", begun.elapsed());
    let kv = client.call(Get::key("k").serializable()).unwrap();
    assert_eq!(kv.first().unwrap().value(), "v");
}

// Case: KV-23
// Case: KV-26
// Case: TXN-03
#[test]
fn calls_to_a_stopped_server_fail_in_time_and_are_not_sent_later() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .timeout(secs(1))
        .connect()
        .unwrap();
    let closing = Client::builder([etcd.endpoint()])
        .timeout(secs(1))
        .connect()
        .unwrap();
    for client in [&client, &closing] {
        client.put("before", "v").unwrap();
    }
    etcd.stop().unwrap();
    let begun = Instant::now();
    let errors = [
        client.put("put", "v").unwrap_err(),
        client.txn(Txn::always([Put::new("txn", "v")])).unwrap_err(),
        client.call(Delete::key("before")).unwrap_err(),
        client.get("before").unwrap_err(),
        closing.get("before").unwrap_err(),
    ];
    for error in &errors {
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout),
            "{error}"
        );
        assert!(!error.outcome_unknown(), "there was no server: {error}");
    }
    assert!(begun.elapsed() < secs(8), "{:?}", begun.elapsed());
    let begun = Instant::now();
    closing.close().unwrap();
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());

    etcd.spawn().unwrap();
    etcd.wait_ready(SOON).unwrap();
    let kv = eventually(SOON, "a read", || client.get("before").ok());
    assert_eq!(kv.unwrap().version(), 2, "it was not deleted");
    for key in ["put", "txn"] {
        assert!(client.get(key).unwrap().is_none(), "{key}");
    }
}

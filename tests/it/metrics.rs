//! Metrics of a client, compared with its operations.

use std::thread;
use std::time::Duration;

use etcd_blocking::config::Config;
use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::metrics::Metrics;
use etcd_blocking::{Client, Compact, ErrorKind, Get, KeyRange, Put, Revision, Txn};

use crate::support::proxy::Proxy;
use crate::support::raw::RawServer;
use crate::support::server::skip_unless_since;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// Waits until the metrics satisfy the condition.
#[track_caller]
fn until(client: &Client, what: &str, is: impl Fn(&Metrics) -> bool) -> Metrics {
    eventually(SOON, what, || Some(client.metrics()).filter(&is))
}

#[test]
fn calls_are_counted_by_verb_and_outcome_and_timed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    assert_eq!(client.metrics(), Metrics::default(), "nothing has happened");
    for n in 0..50 {
        client.put(format!("k{n}"), "v").unwrap();
    }
    let pending: Vec<_> = (0..50).map(|_| client.submit(Get::key("k1"))).collect();
    pending
        .into_iter()
        .for_each(|get| drop(get.wait().unwrap()));
    let future = client
        .call(Compact::at(Revision::new(1_000_000)))
        .unwrap_err();
    let empty = client.call(Put::new("", "v")).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidArgument);
    // Errors and metrics use the same name.
    assert!(empty.to_string().starts_with("put "), "{empty}");
    assert!(future.to_string().starts_with("compact "), "{future}");

    let metrics = client.metrics();
    let verbs: Vec<_> = metrics.calls.iter().map(|call| call.verb).collect();
    assert_eq!(verbs, ["compact", "get", "put"]);
    let (get, put) = (metrics.call("get").unwrap(), metrics.call("put").unwrap());
    assert_eq!((get.ok, get.failed(), get.latency.count()), (50, 0, 50));
    assert_eq!(
        (put.ok, put.failed_with(ErrorKind::InvalidArgument)),
        (50, 1)
    );
    let compact = metrics.call("compact").unwrap();
    assert_eq!(compact.errors, [(future.kind(), 1)]);
    assert_eq!(
        (metrics.finished(), metrics.failed(), metrics.in_flight()),
        (102, 2, 0)
    );
    let p50 = put.latency.quantile(0.5).unwrap();
    assert!(
        p50 > Duration::from_micros(20) && p50 < Duration::from_secs(5),
        "{p50:?}"
    );
    assert_eq!(metrics.open_connections(), 1);
    let text = metrics.to_string();
    assert!(
        text.contains("put: 50 ok, 1 InvalidArgument, 0 in flight, p50 "),
        "{text}"
    );
    // A view shares the metrics of its client.
    assert_eq!(client.with_timeout(SOON).metrics().finished(), 102);
}

#[test]
fn calls_in_flight_are_counted_and_end_as_closed_with_their_client() {
    let silent = RawServer::silent();
    let client = Client::builder([silent.endpoint()])
        .timeout(SOON)
        .connect()
        .unwrap();
    let submitted = client.submit(Get::key("k"));
    let caller = thread::spawn({
        let client = client.clone();
        move || client.get("k").unwrap_err().kind()
    });
    until(&client, "two calls in flight", |m| m.in_flight() == 2);
    let view = client.clone();
    client.close().unwrap();
    assert_eq!(caller.join().unwrap(), ErrorKind::Closed);
    assert_eq!(submitted.wait().unwrap_err().kind(), ErrorKind::Closed);
    let metrics = until(&view, "none in flight", |m| m.in_flight() == 0);
    assert_eq!(
        metrics.call("get").unwrap().failed_with(ErrorKind::Closed),
        2
    );
}

#[test]
fn connections_failed_dials_retries_and_ejections_are_counted_by_endpoint() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    client.put("k", "v").unwrap();
    proxy.drop_connections();
    eventually(SOON, "a new connection", || client.get("k").ok());
    let metrics = client.metrics();
    let [at] = metrics.endpoints.as_slice() else {
        panic!("one endpoint: {metrics:?}");
    };
    assert_eq!(*at.endpoint, *proxy.endpoint());
    assert!(at.opened >= 2 && at.ejections >= 1, "{at:?}");
    until(&client, "one is open", |m| m.open_connections() == 1);

    let dead = RawServer::silent();
    let client = Client::builder([dead.endpoint()])
        .connect_timeout(Duration::from_millis(50))
        .timeout(Duration::from_millis(900))
        .connect()
        .unwrap();
    client.get("k").unwrap_err();
    let metrics = client.metrics();
    assert!(metrics.endpoints[0].failed_dials >= 2, "{metrics}");
    assert!(metrics.retries >= 1, "{metrics}");
    assert_eq!(metrics.open_connections(), 0);
}

#[test]
fn unread_items_and_pauses_of_a_slow_watch_are_counted() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .watch_queue(4, 1 << 20)
        .connect()
        .unwrap();
    let slow = client.watch("k").unwrap();
    let set = client.watch_set().unwrap();
    set.add("k").unwrap();
    let mirror = client.mirror(KeyRange::prefix("m")).unwrap();
    for n in 0..50 {
        client.put("k", vec![b'v'; 1000 + n]).unwrap();
    }
    let metrics = until(&client, "both pause", |m| m.watches.paused == 2);
    let watches = metrics.watches;
    assert_eq!((watches.open, watches.streams), (3, 1));
    assert!(watches.pauses >= 2 && watches.delivered >= 8, "{watches:?}");
    // 4 items of each, of about 1 kB, and the first event of the mirror.
    assert!(watches.queued >= 8 && watches.queued < 12, "{watches:?}");
    assert!(
        watches.queued_bytes >= 8_000 && watches.queued_bytes < 20_000,
        "{watches:?}"
    );
    // History is delivered in batches.
    let mut read = 0;
    while read < 50 {
        read += slow.recv_timeout(SOON).unwrap().unwrap().events().len();
    }
    until(&client, "what was read waits no more", |m| {
        m.watches.paused == 1 && m.watches.queued < 8
    });
    drop((slow, set, mirror));
    until(&client, "none is left", |m| {
        m.watches.open == 0 && m.watches.queued_bytes == 0
    });
}

#[test]
fn resumed_watches_are_counted() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let watcher = client.watch("k").unwrap();
    assert_eq!(client.metrics().watches.resumes, 0);
    etcd.restart().unwrap();
    let metrics = until(&client, "it resumes", |m| m.watches.resumes == 1);
    assert!(metrics.watches.streams >= 2, "{metrics}");
    drop(watcher);
}

#[test]
fn renewals_lost_leases_and_the_time_to_expiry_are_counted() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let (long, short) = (Duration::from_secs(600), Duration::from_secs(60));
    let leases = [long, short].map(|ttl| client.grant(ttl).unwrap());
    let kept = leases
        .each_ref()
        .map(|lease| client.keep_alive(lease.id()).unwrap());
    for kept in &kept {
        kept.receiver().recv_timeout(SOON).unwrap().unwrap();
    }
    let metrics = until(&client, "both are kept", |m| m.leases.renewals == 2);
    let slack = metrics.leases.smallest_slack.unwrap();
    assert!(
        slack <= short && slack > short - SOON,
        "the shorter one: {slack:?}"
    );
    assert_eq!((metrics.leases.kept, metrics.leases.streams), (2, 1));
    drop(kept);
    let metrics = until(&client, "none is kept", |m| m.leases.kept == 0);
    assert_eq!(
        (metrics.leases.smallest_slack, metrics.leases.lost),
        (None, 0)
    );

    let gone = client.grant(Duration::from_secs(2)).unwrap();
    let kept = client.keep_alive(gone.id()).unwrap();
    kept.receiver().recv_timeout(SOON).unwrap().unwrap();
    client.revoke(gone.id()).unwrap();
    until(&client, "it is lost", |m| {
        m.leases.lost == 1 && m.leases.kept == 0
    });
}

// Fault: F13
#[test]
fn a_dead_member_is_an_ejection_and_costs_no_failed_call() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    client.put("k", "v").unwrap();
    let used = client.metrics().endpoints;
    let used = used.iter().find(|at| at.open > 0).unwrap().endpoint.clone();
    let index = cluster
        .endpoints()
        .iter()
        .position(|e| **e == *used)
        .unwrap();
    cluster.member_mut(index).kill().unwrap();
    for _ in 0..20 {
        client.get("k").unwrap();
    }
    let metrics = client.metrics();
    let left = metrics
        .endpoints
        .iter()
        .find(|at| at.endpoint == used)
        .unwrap();
    assert!(left.ejections >= 1, "{metrics}");
    assert_eq!(metrics.failed(), 0, "{metrics}");
    until(&client, "its connection is closed", |m| {
        m.endpoints
            .iter()
            .any(|at| at.endpoint == used && at.open == 0)
    });
}

#[test]
fn fetched_and_refused_tokens_are_counted() {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let anybody = Client::connect([etcd.endpoint()]).unwrap();
    anybody.auth().user_add("root", "root-pw").unwrap();
    anybody.auth().user_grant_role("root", "root").unwrap();
    anybody.auth().enable().unwrap();
    let client = |password: &str| {
        let user = format!("root:{password}");
        let vars = [("ETCD_ENDPOINTS", etcd.endpoint()), ("ETCDCTL_USER", user)];
        let builder = Config::from_vars(vars).unwrap().builder().unwrap();
        builder
            .allow_plaintext_credentials()
            .timeout(SOON)
            .connect()
            .unwrap()
    };
    let (right, wrong) = (client("root-pw"), client("canary"));
    right.auth().user_list().unwrap();
    let tokens = right.metrics().tokens;
    assert_eq!((tokens.refreshes, tokens.failures), (1, 0));
    assert_eq!(
        wrong.auth().user_list().unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    let tokens = wrong.metrics().tokens;
    assert_eq!((tokens.refreshes, tokens.failures), (0, 1));
    assert!(!format!("{:?} {wrong:?}", wrong.metrics()).contains("canary"));
}

#[test]
fn internal_requests_are_counted_like_calls() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    client.sync_endpoints().unwrap();
    assert!(client.maintenance().health().unwrap()[0].is_healthy());
    let metrics = client.metrics();
    for verb in ["member list", "health", "alarms", "status", "get"] {
        let call = metrics
            .call(verb)
            .unwrap_or_else(|| panic!("{verb}: {metrics}"));
        assert_eq!(
            (call.ok, call.failed(), call.in_flight),
            (1, 0, 0),
            "{verb}"
        );
    }
    // Also for requests in the background.
    let syncing = Client::builder([etcd.endpoint()])
        .sync_interval(Duration::from_millis(20))
        .connect()
        .unwrap();
    until(&syncing, "it has sent member list", |metrics| {
        metrics.call("member list").is_some_and(|list| list.ok >= 2)
    });
}

#[test]
fn pieces_of_streamed_ranges_are_counted() {
    if skip_unless_since(3, 7, "there is no RangeStream") {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let puts = |from: u32| (from..from + 100).map(|n| Put::new(format!("k{n:04}"), "v"));
    for from in (0..1000).step_by(100) {
        client.txn(Txn::always(puts(from))).unwrap();
    }
    let pages = client.pages(Get::prefix("k"), 100).unwrap();
    let read: usize = pages.map(|page| page.unwrap().len()).sum();
    assert_eq!(read, 1000);
    let metrics = client.metrics();
    let pieces = metrics.call("range stream").unwrap();
    assert!(pieces.ok >= 1 && pieces.failed() == 0, "{metrics}");
    assert_eq!(metrics.in_flight(), 0);
}

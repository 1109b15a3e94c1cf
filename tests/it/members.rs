//! Loss of the member that a client uses: killed, paused, or isolated from its peers.

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, Error, ErrorKind, Get, Put, Txn};

use crate::support::load::{Load, Report};
use crate::support::pace::Pace;
use crate::support::peers::PeerLinks;
use crate::support::proxy::Proxy;
use crate::support::wait::{eventually, status};

const SOON: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The index of the member that answers the calls of a client.
fn used_by(cluster: &LocalCluster, client: &Client) -> usize {
    let id = client.put("r", "v").unwrap().header().member_id.get();
    let is_it = |index: &usize| status(cluster.member(*index)).member_id == id;
    (0..3).find(is_it).unwrap()
}

/// A client whose calls go to the leader, or to a follower; the first member of a client is random.
fn client_of(cluster: &LocalCluster, leader: bool) -> (Client, usize) {
    eventually(SOON, "a client of such a member", || {
        let client = Client::connect(cluster.endpoints()).unwrap();
        let used = used_by(cluster, &client);
        ((cluster.leader().ok()? == used) == leader).then_some((client, used))
    })
}

fn print(what: &str, report: &Report) {
    println!(
        "{what}: {} reads, {} failed, longest gap {:?}; {} writes, {} failed, longest gap {:?}; watch complete after {:?}",
        report.reads,
        report.failed_reads.len(),
        report.longest_without_read,
        report.writes,
        report.failed_writes.len(),
        report.longest_without_write,
        report.watch_caught_up,
    );
}

/// Checks that no read failed, and that each failed write has an unknown outcome, because any other call can be
/// repeated elsewhere.
#[track_caller]
fn only_writes_of_unknown_outcome_fail(report: &Report) {
    assert!(report.failed_reads.is_empty(), "{:?}", report.failed_reads);
    let clear: Vec<&Error> = report
        .failed_writes
        .iter()
        .filter(|e| !e.outcome_unknown())
        .collect();
    assert!(clear.is_empty(), "{clear:?}");
}

// Fault: F1
#[test]
fn calls_move_away_from_a_killed_follower_within_a_second() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let (client, used) = client_of(&cluster, false);
    let load = Load::start(&client, 2);
    let fault = Instant::now();
    cluster.member_mut(used).kill().unwrap();
    load.flows(Instant::now(), SOON);
    let report = load.finish(fault, secs(10));
    print("follower killed", &report);
    only_writes_of_unknown_outcome_fail(&report);
    assert!(report.longest_without_read < secs(1), "{report:?}");
    assert!(report.longest_without_write < secs(1), "{report:?}");
    assert!(report.watch_caught_up < secs(5), "{report:?}");
}

// Case: CN-11
// Fault: F31
#[test]
fn a_shutdown_of_a_member_fails_no_read_and_is_not_delayed() {
    for leader in [false, true] {
        let mut cluster = LocalCluster::start(3).unwrap();
        let (client, used) = client_of(&cluster, leader);
        let lease = client.grant(secs(10)).unwrap();
        let alive = client.keep_alive(lease.id()).unwrap();
        let load = Load::start(&client, 2);
        let pace = Pace::start();
        let fault = Instant::now();
        cluster.member_mut(used).stop().unwrap();
        // A server waits five seconds for open streams.
        let stopped = pace.check("shutting down", fault, secs(3));
        load.flows(Instant::now(), SOON);
        let report = load.finish(fault, secs(10));
        let kind = if leader { "leader" } else { "follower" };
        print(&format!("{kind} shut down in {stopped:?}"), &report);
        only_writes_of_unknown_outcome_fail(&report);
        assert!(report.longest_without_read < secs(1), "{report:?}");
        assert!(alive.is_alive());
    }
}

// Case: CN-11
// Fault: F1
#[test]
fn calls_continue_after_the_election_that_follows_a_killed_leader() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let (client, used) = client_of(&cluster, true);
    let load = Load::start(&client, 2);
    let fault = Instant::now();
    cluster.member_mut(used).kill().unwrap();
    load.flows(Instant::now(), SOON);
    let report = load.finish(fault, secs(10));
    print("leader killed", &report);
    only_writes_of_unknown_outcome_fail(&report);
    assert!(report.longest_without_read < secs(3), "{report:?}");
    assert!(report.longest_without_write < secs(6), "{report:?}");
}

// Fault: F2
#[test]
fn calls_move_away_from_a_silent_member_within_15_seconds() {
    let cluster = LocalCluster::start(3).unwrap();
    let (client, used) = client_of(&cluster, false);
    let load = Load::start(&client, 2);
    let fault = Instant::now();
    cluster.member(used).pause().unwrap();
    load.flows(Instant::now(), SOON);
    let report = load.finish(fault, secs(16));
    print("follower paused", &report);
    only_writes_of_unknown_outcome_fail(&report);
    // A read is repeated elsewhere after a third of its time; a write fails at its deadline.
    assert!(report.longest_without_read < secs(3), "{report:?}");
    assert!(report.longest_without_write < secs(6), "{report:?}");
    cluster.member(used).resume().unwrap();
}

// Case: CN-03
// Fault: F6
#[test]
fn calls_move_away_from_a_member_without_a_leader_within_5_seconds() {
    for leader in [false, true] {
        let (cluster, links) = PeerLinks::start(3, &[]);
        let (client, used) = client_of(&cluster, leader);
        let load = Load::start(&client, 2);
        let fault = Instant::now();
        links.isolate(used);
        load.flows(Instant::now(), SOON);
        let report = load.finish(fault, secs(8));
        print(
            if leader {
                "leader isolated"
            } else {
                "follower isolated"
            },
            &report,
        );
        assert!(report.failed_reads.is_empty(), "{:?}", report.failed_reads);
        assert!(report.longest_without_read < secs(5), "{report:?}");
        assert!(report.longest_without_write < secs(6), "{report:?}");
        links.heal();
        eventually(SOON, "the healed member is in step", || {
            cluster
                .member(used)
                .status()
                .ok()
                .filter(|status| status.leader != 0)
        });
        client.put("r", "healed").unwrap();
    }
}

/// The attempts with an unreachable member: all verbs, and reads of every kind.
type Attempt = (&'static str, fn(&Client) -> etcd_blocking::Result<()>);

const ATTEMPTS: &[Attempt] = &[
    ("put", |client| client.put("k", "v").map(drop)),
    ("delete", |client| client.delete("k").map(drop)),
    ("txn", |client| {
        client.txn(Txn::always([Put::new("k", "v")])).map(drop)
    }),
    ("get", |client| client.get("k").map(drop)),
    ("serializable get", |client| {
        client.call(Get::key("k").serializable()).map(drop)
    }),
];

/// A client of three proxies, each in front of a member, and the index of the used one.
fn behind_proxies(cluster: &LocalCluster) -> (Vec<Proxy>, Client, usize) {
    let proxies: Vec<_> = cluster
        .members()
        .iter()
        .map(|member| Proxy::start(member.client_addr()).unwrap())
        .collect();
    let client = Client::connect(proxies.iter().map(Proxy::endpoint).collect::<Vec<_>>()).unwrap();
    let used = used_by(cluster, &client);
    (proxies, client, used)
}

/// Repeats until success; returns the errors before.
fn tries(client: &Client, attempt: &Attempt) -> Vec<Error> {
    let mut errors = Vec::new();
    while let Err(error) = attempt.1(client) {
        errors.push(error);
        assert!(errors.len() <= 5, "{}: {errors:?}", attempt.0);
    }
    errors
}

// Case: CN-07
#[test]
fn a_member_behind_a_black_hole_fails_no_read_and_at_most_one_write() {
    let cluster = LocalCluster::start(3).unwrap();
    for attempt in ATTEMPTS {
        let (proxies, client, used) = behind_proxies(&cluster);
        proxies[used].black_hole(true);
        let errors = tries(&client.with_timeout(secs(3)), attempt);
        println!("{}: {errors:?}", attempt.0);
        let reads = attempt.0.ends_with("get");
        assert!(
            errors.len() <= usize::from(!reads),
            "{}: {errors:?}",
            attempt.0
        );
        for error in &errors {
            assert!(error.kind() == ErrorKind::Timeout && error.outcome_unknown());
        }
    }
}

// Case: CN-08
#[test]
fn an_isolated_member_answers_no_read_and_fails_at_most_one_write() {
    let (cluster, links) = PeerLinks::start(3, &[]);
    for attempt in ATTEMPTS {
        let (_proxies, client, used) = behind_proxies(&cluster);
        links.isolate(used);
        // A write in flight on the isolated member waits for its deadline, and for a new leader
        // if that member was the leader.
        let errors = tries(&client.with_timeout(secs(7)), attempt);
        println!("{}: {errors:?}", attempt.0);
        let reads = attempt.0.ends_with("get");
        assert!(
            errors.len() <= usize::from(!reads),
            "{}: {errors:?}",
            attempt.0
        );
        links.heal();
        eventually(SOON, "the healed member is in step", || {
            (cluster.member(used).status().ok()?.leader != 0).then_some(())
        });
    }
}

// Case: CN-13
#[test]
fn a_read_in_flight_survives_the_stop_of_its_member() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let pace = Pace::start();
    for (of_leader, paused_first) in [(true, true), (true, false), (false, true), (false, false)] {
        for serializable in [false, true] {
            let (client, used) = client_of(&cluster, of_leader);
            let client = client.with_timeout(secs(30));
            let get = match serializable {
                true => Get::key("r").serializable(),
                false => Get::key("r"),
            };
            if paused_first {
                // Sent to a member that will not answer it any more.
                cluster.member(used).pause().unwrap();
            }
            let begun = Instant::now();
            let read = client.submit(get);
            cluster.member_mut(used).kill().unwrap();
            assert_eq!(read.wait().unwrap().count(), 1);
            let took = pace.check("the read", begun, secs(7));
            println!("leader {of_leader}, serializable {serializable}: {took:?}");
            cluster.member_mut(used).restart().unwrap();
        }
    }
}

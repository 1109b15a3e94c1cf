//! Members: leaders that move, a lost majority, learners, and members that were removed.

use std::thread;
use std::time::Instant;

use etcd_blocking::cluster::MemberAdd;
use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, Get, Watch};

use super::{SOON, ms, secs};
use crate::support::load::Load;
use crate::support::wait::{eventually, join, status};

// Fault: F5
#[test]
fn a_leader_that_moves_fails_no_read_and_ends_no_watch_and_no_lease() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let operator = client.with_timeout(SOON);
    let lease = client.grant(secs(20)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    let load = Load::start(&client, 2);
    let begun = Instant::now();
    let mut moves = 0;
    for round in 0..8 {
        let members = operator.cluster().member_list().unwrap().into_members();
        let leader = operator.maintenance().status().unwrap().leader();
        let others = members.iter().map(|member| member.id());
        let others: Vec<_> = others.filter(|id| Some(*id) != leader).collect();
        // It may have just lost the leadership.
        let moved = operator.maintenance().move_leader(others[round % 2]);
        moves += usize::from(moved.is_ok());
        load.flows(Instant::now(), SOON);
    }
    assert!(moves > 2, "the leader moved {moves} times");
    let report = load.finish(begun, 4 * SOON);
    println!(
        "{moves} moves: {} failed writes",
        report.failed_writes.len()
    );
    assert!(report.failed_reads.is_empty(), "{:?}", report.failed_reads);
    alive.check().unwrap();
}

// Fault: F7
#[test]
fn without_a_majority_reads_wait_at_a_bounded_rate_and_succeed_when_it_returns() {
    const READERS: usize = 8;
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    client.put("k", "before").unwrap();
    let watcher = client.watch(Watch::key("k")).unwrap();
    for member in [1, 2] {
        cluster.member(member).pause().unwrap();
    }
    eventually(SOON, "the last member has no leader", || {
        (cluster.member(0).status().ok()?.leader == 0).then_some(())
    });
    let last = client.at(cluster.member(0).endpoint()).unwrap();
    let local = last.call(Get::key("k").serializable()).unwrap();
    assert_eq!(local.first().unwrap().value(), "before");
    let (patient, alone) = (client.with_timeout(3 * SOON), last.with_timeout(3 * SOON));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                // Half of them have no other member.
                let client = if n % 2 == 0 { &patient } else { &alone };
                scope.spawn(|| client.get("k"))
            })
            .collect();
        let (begun, before) = (Instant::now(), client.metrics().retries);
        thread::sleep(secs(4));
        let retries = client.metrics().retries - before;
        let waited = begun.elapsed().as_secs_f64();
        println!("{retries} retries of {READERS} reads in {waited:.1} s");
        // Attempts of a call are half a second apart in the end; a spin would be thousands.
        let most = READERS as f64 * (10.0 + 8.0 * waited);
        assert!((retries as f64) < most, "{retries} in {waited} s");
        for member in [1, 2] {
            cluster.member(member).resume().unwrap();
        }
        for reader in readers {
            let kv = reader.join().unwrap().unwrap().unwrap();
            assert_eq!(kv.value(), "before");
        }
    });
    let after = eventually(SOON, "a write", || client.put("k", "after").ok());
    while watcher.recv_timeout(SOON).unwrap().unwrap().revision() < after.revision() {}
}

// Fault: F44
#[test]
fn a_learner_in_the_list_fails_no_call() {
    let mut cluster = LocalCluster::start(1).unwrap();
    let voter = Client::connect(cluster.endpoints()).unwrap();
    let index = cluster.prepare_member().unwrap();
    let peer = cluster.member(index).peer_url();
    eventually(SOON, "a learner is added", || {
        voter.call(MemberAdd::new([&*peer]).learner()).ok()
    });
    join(cluster.member_mut(index));
    let learner = cluster.member(index).endpoint();
    let view = voter.at(&*learner).unwrap();
    eventually(SOON, "the learner runs", || {
        let status = view.with_timeout(ms(500)).maintenance().status().ok()?;
        status.is_learner().then_some(())
    });
    // The first member of a client is random.
    for round in 0..6 {
        let client = Client::connect(cluster.endpoints()).unwrap();
        let watcher = client.watch("k").unwrap();
        let put = client.put("k", round.to_string()).unwrap();
        while watcher.recv_timeout(SOON).unwrap().unwrap().revision() < put.revision() {}
        assert_eq!(
            client.get("k").unwrap().unwrap().value(),
            &*round.to_string()
        );
        let lease = client.grant(secs(30)).unwrap();
        let alive = client.keep_alive(lease.id()).unwrap();
        alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    }
    assert!(status(cluster.member(index)).member_id != 0);
}

// Fault: F44
#[test]
fn a_removed_member_in_the_list_fails_no_read() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let used = client.put("r", "v").unwrap().header().member_id;
    let load = Load::start(&client, 2);
    let begun = Instant::now();
    let others: Vec<_> = cluster
        .members()
        .iter()
        .filter(|member| status(member).member_id != used.get())
        .map(|member| member.endpoint())
        .collect();
    let operator = Client::connect(others).unwrap();
    eventually(SOON, "the member is removed", || {
        operator.cluster().member_remove(used).ok()
    });
    load.flows(Instant::now(), SOON);
    let report = load.finish(begun, 4 * SOON);
    println!("{} failed writes", report.failed_writes.len());
    assert!(report.failed_reads.is_empty(), "{:?}", report.failed_reads);
}

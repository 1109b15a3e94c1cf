//! Local servers of the feature `local`, and the faults that other tests inject with them.

use std::{
    io::ErrorKind,
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, Get, Put};

use crate::support::{
    gateway::{has_foo, put_foo},
    pace::Pace,
    peers::PeerLinks,
    proxy::Proxy,
    wait::{eventually, leader, status},
};

const SOON: Duration = Duration::from_secs(30);

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn start_returns_a_server_that_answers() {
    let etcd = LocalEtcd::start().unwrap();
    assert_eq!(etcd.endpoint(), format!("http://{}", etcd.client_addr()));
    let status = etcd.status().unwrap();
    assert!(status.is_leader());
    assert_eq!(status.revision, 1);
    assert!(put_foo(etcd.client_addr(), SOON));
    assert!(has_foo(etcd.client_addr(), SOON).unwrap());
}

#[test]
fn concurrently_started_servers_do_not_affect_each_other() {
    let starts: Vec<_> = (0..4).map(|_| thread::spawn(LocalEtcd::start)).collect();
    let servers: Vec<_> = starts
        .into_iter()
        .map(|start| start.join().unwrap().unwrap())
        .collect();
    assert!(put_foo(servers[0].client_addr(), SOON));
    let revisions: Vec<_> = servers
        .iter()
        .map(|etcd| etcd.status().unwrap().revision)
        .collect();
    assert_eq!(revisions, [2, 1, 1, 1]);
}

#[test]
fn restart_keeps_address_ids_and_data() {
    let mut etcd = LocalEtcd::start().unwrap();
    let (addr, pid, before) = (etcd.client_addr(), etcd.pid(), etcd.status().unwrap());
    assert!(put_foo(addr, SOON));
    etcd.restart().unwrap();
    assert_eq!(etcd.client_addr(), addr);
    assert_ne!(etcd.pid(), pid);
    let after = etcd.status().unwrap();
    assert_eq!(
        (after.member_id, after.revision),
        (before.member_id, before.revision + 1)
    );
    assert!(has_foo(addr, SOON).unwrap());
}

#[test]
fn a_wiped_server_restarts_with_its_ids_and_without_data() {
    let mut etcd = LocalEtcd::start().unwrap();
    let before = etcd.status().unwrap();
    assert!(put_foo(etcd.client_addr(), SOON));
    etcd.restart_wiped().unwrap();
    let after = etcd.status().unwrap();
    assert_eq!((after.member_id, after.revision), (before.member_id, 1));
    assert!(!has_foo(etcd.client_addr(), SOON).unwrap());
}

#[test]
fn killed_and_stopped_servers_keep_their_data_and_start_in_two_steps() {
    let mut etcd = LocalEtcd::start().unwrap();
    let addr = etcd.client_addr();
    assert!(put_foo(addr, SOON));
    for end in [LocalEtcd::kill, LocalEtcd::stop] {
        let pid = etcd.pid().unwrap();
        end(&mut etcd).unwrap();
        assert_eq!(etcd.pid(), None);
        assert!(!runs(pid));
        assert!(etcd.status().is_err());
        etcd.spawn().unwrap();
        assert!(
            etcd.spawn().is_err(),
            "a running server is not started twice"
        );
        assert!(etcd.wipe().is_err(), "a running server is not wiped");
        etcd.wait_ready(SOON).unwrap();
        assert!(has_foo(addr, SOON).unwrap());
    }
}

#[test]
fn paused_server_is_silent_until_it_is_resumed() {
    let mut etcd = LocalEtcd::start().unwrap();
    for _ in 0..2 {
        etcd.pause().unwrap();
        let error = etcd.status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        etcd.pause().expect("a paused server can be paused");
        etcd.resume().unwrap();
        etcd.resume().expect("a server that runs can be resumed");
        etcd.wait_ready(SOON).unwrap();
        assert!(etcd.status().is_ok());
    }
    etcd.kill().unwrap();
    assert!(etcd.pause().is_err() && etcd.resume().is_err());
}

#[test]
fn stop_ends_a_paused_server_without_waiting_for_it_to_be_killed() {
    let mut etcd = LocalEtcd::start().unwrap();
    etcd.pause().unwrap();
    let pace = Pace::start();
    let start = Instant::now();
    etcd.stop().unwrap();
    pace.check("stopping it", start, Duration::from_secs(4));
}

#[test]
fn drop_leaves_no_process_and_no_files() {
    for paused in [false, true] {
        let etcd = LocalEtcd::start().unwrap();
        let (pid, dir) = (etcd.pid().unwrap(), etcd.data_dir());
        assert!(runs(pid) && dir.exists());
        if paused {
            etcd.pause().unwrap();
        }
        drop(etcd);
        assert!(!runs(pid));
        assert!(!dir.parent().unwrap().exists());
    }
}

#[test]
fn arguments_reach_etcd_and_an_invalid_one_is_an_error_with_the_log() {
    let error = LocalEtcd::builder()
        .arg("--no-such-flag")
        .start()
        .unwrap_err();
    assert!(
        error.to_string().contains("flag provided but not defined"),
        "{error}"
    );
    let etcd = LocalEtcd::builder()
        .name("n1")
        .arg("--log-level=info")
        .start()
        .unwrap();
    assert_eq!(etcd.name(), "n1");
    eventually(SOON, "a line of level info", || {
        etcd.log_tail().contains(r#""level":"info""#).then_some(())
    });
}

#[test]
fn a_port_in_use_is_reported() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = format!("--listen-client-urls=http://{}", held.local_addr().unwrap());
    let error = LocalEtcd::builder().arg(urls).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
}

#[test]
fn all_members_of_a_cluster_report_the_same_leader() {
    let cluster = LocalCluster::start(3).unwrap();
    assert_eq!(cluster.endpoints().len(), 3);
    let leader = leader(&cluster);
    let id = status(cluster.member(leader)).member_id;
    for member in cluster.members() {
        eventually(SOON, "the member follows the leader", || {
            (member.status().ok()?.leader == id).then_some(())
        });
    }
}

#[test]
fn a_cluster_survives_the_crash_of_its_leader() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let old = leader(&cluster);
    let addr = cluster.member((old + 1) % 3).client_addr();
    assert!(put_foo(addr, SOON));
    cluster.member_mut(old).kill().unwrap();
    let new = eventually(SOON, "another leader", || {
        cluster.leader().ok().filter(|new| *new != old)
    });
    assert!(has_foo(cluster.member(new).client_addr(), SOON).unwrap());
    cluster.member_mut(old).restart().unwrap();
    assert!(has_foo(cluster.member(old).client_addr(), SOON).unwrap());
}

#[test]
fn isolated_leader_is_replaced_and_catches_up_after_healing() {
    let (cluster, links) = PeerLinks::start(3, &[]);
    let old = leader(&cluster);
    let isolated = cluster.member(old);
    links.isolate(old);
    let new = eventually(SOON, "the other two elect", || {
        cluster.leader().ok().filter(|new| *new != old)
    });
    eventually(SOON, "the isolated member reports no leader", || {
        (isolated.status().ok()?.leader == 0).then_some(())
    });
    assert!(put_foo(cluster.member(new).client_addr(), SOON));
    let read = has_foo(isolated.client_addr(), Duration::from_secs(1));
    assert!(
        read.is_err(),
        "a linearizable read of the isolated member answered {read:?}"
    );

    links.heal();
    eventually(
        SOON,
        "the member that was isolated serves what was written meanwhile",
        || has_foo(isolated.client_addr(), SOON).ok()?.then_some(()),
    );
}

#[test]
fn an_isolated_follower_does_not_affect_the_other_members() {
    // Long enough that a leader which waits for a processor is not regarded as dead.
    let patient = ["--heartbeat-interval=100", "--election-timeout=3000"];
    let (cluster, links) = PeerLinks::start(3, &patient);
    let leader = leader(&cluster);
    let follower = (leader + 1) % 3;
    let term = status(cluster.member(leader)).raft_term;
    links.isolate(follower);
    eventually(SOON, "the isolated member reports no leader", || {
        (cluster.member(follower).status().ok()?.leader == 0).then_some(())
    });
    let status = status(cluster.member(leader));
    assert!(status.is_leader());
    assert_eq!(status.raft_term, term);
}

#[test]
fn proxy_in_front_of_a_server_can_be_cut_and_restored() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    assert!(put_foo(proxy.addr(), SOON));
    proxy.cut();
    assert!(has_foo(proxy.addr(), SOON).is_err());
    proxy.restore();
    assert!(has_foo(proxy.addr(), SOON).unwrap());
    assert_eq!(proxy.connections(), 3);
}

#[test]
fn leases_are_revoked_and_history_is_compacted() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let leases = [(); 3].map(|()| client.grant(Duration::from_secs(600)).unwrap().id());
    client.call(Put::new("k", "v").lease(leases[0])).unwrap();
    let old = client.get("k").unwrap().unwrap().mod_revision();
    etcd.revoke(leases[0]).unwrap();
    assert!(client.get("k").unwrap().is_none());
    assert!(etcd.revoke(leases[0]).is_err(), "it is gone");
    assert_eq!(etcd.revoke_all().unwrap(), 2);
    assert_eq!(etcd.revoke_all().unwrap(), 0);

    client.call(Get::key("k").revision(old)).unwrap();
    let compacted = etcd.compact().unwrap();
    assert_eq!(compacted.get(), old.get() + 1, "the deletion of the key");
    assert_eq!(etcd.compact().unwrap(), compacted, "again");
    let error = client.call(Get::key("k").revision(old)).unwrap_err();
    assert_eq!(error.kind(), etcd_blocking::ErrorKind::Compacted);
}

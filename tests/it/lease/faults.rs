//! Leases during faults of networks, members and whole clusters.

use etcd_blocking::local::LocalCluster;

use super::*;
use crate::support::peers::PeerLinks;
use crate::support::server::{Version, skip_before};
use crate::support::wait::{items, leader};

#[test]
fn a_lease_survives_lost_connections() {
    let (_etcd, proxy, client) = behind_a_proxy();
    let lease = client.grant(secs(3)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    for _ in 0..5 {
        proxy.drop_connections();
        stays_alive_for(&alive, Duration::from_millis(1500));
    }
}

#[test]
fn a_lease_survives_a_restart_of_the_server() {
    let mut etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(5)).unwrap();
    client.call(Put::new("k", "v").lease(lease.id())).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    etcd.restart().unwrap();
    stays_alive_for(&alive, secs(6));
    assert!(exists(&client, "k"));
}

// Fault: F9
#[test]
fn a_lease_survives_a_black_hole_shorter_than_its_ttl() {
    let (_etcd, proxy, client) = behind_a_proxy();
    let lease = client.grant(secs(10)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    proxy.black_hole(true);
    stays_alive_for(&alive, secs(4));
    proxy.black_hole(false);
    // The connection stays silent: only a new one can renew.
    stays_alive_for(&alive, secs(11));
}

/// A client of three proxies, each in front of a member; it is connected to the member whose proxy
/// has an open connection.
fn behind_proxies(cluster: &LocalCluster) -> (Vec<Proxy>, Client) {
    let proxies: Vec<_> = cluster
        .members()
        .iter()
        .map(|member| Proxy::start(member.client_addr()).unwrap())
        .collect();
    let client = Client::connect(proxies.iter().map(Proxy::endpoint).collect::<Vec<_>>()).unwrap();
    (proxies, client)
}

fn connected_to(proxies: &[Proxy]) -> usize {
    eventually(SOON, "one member is connected", || {
        let open: Vec<_> = (0..proxies.len())
            .filter(|i| proxies[*i].open_connections() > 0)
            .collect();
        (open.len() == 1).then(|| open[0])
    })
}

// Fault: F2
#[test]
fn renewals_move_from_a_silent_member_to_another() {
    let cluster = LocalCluster::start(3).unwrap();
    let (proxies, client) = behind_proxies(&cluster);
    let lease = client.grant(secs(6)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    let member = cluster.member(connected_to(&proxies));
    member.pause().unwrap();
    stays_alive_for(&alive, secs(13));
    member.resume().unwrap();
}

// The only connection that works is the one whose answers were late.
#[test]
fn a_late_answer_renews_the_lease_while_another_member_is_asked() {
    let etcd = etcd();
    let proxies = [(); 2].map(|()| Proxy::start(etcd.client_addr()).unwrap());
    let client = Client::connect(proxies.each_ref().map(Proxy::endpoint)).unwrap();
    let lease = client.grant(secs(15)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    let open: Vec<_> = proxies.iter().flat_map(Proxy::open).collect();
    let dialled = || proxies.iter().map(Proxy::connections).sum::<usize>();
    let before = dialled();
    open.iter().for_each(|conn| conn.hold(Dir::Down, true));
    proxies.iter().for_each(|proxy| proxy.limit_data(0));
    eventually(SOON, "another member is dialled", || {
        (dialled() > before).then_some(())
    });
    open.iter().for_each(|conn| conn.hold(Dir::Down, false));
    renewed(&alive);
    assert!(alive.is_alive());
    proxies.iter().for_each(|proxy| proxy.limit_data(None));
    stays_alive_for(&alive, secs(16));
}

// Fault: F6
#[test]
fn a_member_without_a_leader_is_left_for_another() {
    let (cluster, links) = PeerLinks::start(3, &[]);
    let (proxies, client) = behind_proxies(&cluster);
    let lease = client.grant(secs(6)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    links.isolate(connected_to(&proxies));
    stays_alive_for(&alive, secs(13));
    links.heal();
}

// Case: L-19
// Fault: F1
#[test]
fn a_lease_survives_the_crash_of_the_leader() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let lease = client.grant(secs(6)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    let leader = leader(&cluster);
    cluster.member_mut(leader).kill().unwrap();
    stays_alive_for(&alive, secs(13));
}

// Case: L-10
// Fault: F17
#[test]
fn a_lease_that_cannot_be_renewed_is_reported_at_its_deadline() {
    let mut etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(3)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    etcd.kill().unwrap();
    while alive.receiver().try_recv().is_ok() {}
    let pace = Pace::start();
    let deadline = Instant::now() + alive.valid_for();
    let error = gone(alive.receiver(), SOON);
    assert_eq!(error.kind(), ErrorKind::LeaseExpired);
    assert!(
        error
            .to_string()
            .contains("no renewal was answered for 3.0s"),
        "{error}"
    );
    // `gone` also waited for the end of the channel, which comes with the item.
    pace.check("the end", deadline, Duration::from_millis(500));
    assert!(!alive.is_alive());
}

// Case: L-08
#[test]
fn a_lease_revoked_during_a_disconnect_is_reported_after_the_reconnect() {
    let (etcd, proxy, client) = behind_a_proxy();
    let direct = self::client(&etcd.endpoint());
    let lease = client.grant(secs(6)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    proxy.cut();
    direct.revoke(lease.id()).unwrap();
    proxy.restore();
    let error = gone(alive.receiver(), secs(6));
    assert_eq!(error.kind(), ErrorKind::LeaseNotFound, "{error}");
}

// Case: L-15
#[test]
fn leases_are_granted_and_revoked_while_members_restart() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    for round in 0..3 {
        let alive: Vec<_> = (0..20)
            .map(|_| {
                let lease = client.with_timeout(SOON).grant(secs(8)).unwrap();
                client.keep_alive(lease.id()).unwrap()
            })
            .collect();
        cluster.member_mut(round).kill().unwrap();
        // Leases granted in the outage live too; a grant that failed is revoked, or its lease expires.
        let more: Vec<_> = (0..20)
            .map(|_| {
                let lease = client.with_timeout(SOON).grant(secs(8)).unwrap();
                client.keep_alive(lease.id()).unwrap()
            })
            .collect();
        for alive in alive.iter().chain(&more) {
            renewed(alive);
            assert!(alive.is_alive());
        }
        for alive in &alive {
            client.with_timeout(SOON).revoke(alive.id()).unwrap();
        }
        cluster.member_mut(round).restart().unwrap();
        for alive in &more {
            assert!(alive.is_alive());
            client.with_timeout(SOON).revoke(alive.id()).unwrap();
        }
    }
    assert!(client.leases().unwrap().ids().is_empty());
}

// Case: L-20
#[test]
fn a_lease_survives_a_stalled_leader() {
    let fixed = [Version(3, 4, 31), Version(3, 5, 13)];
    if skip_before(
        &fixed,
        "a leader that stalled may revoke a lease that others renewed",
    ) {
        return;
    }
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let lease = client.grant(secs(6)).unwrap();
    client.call(Put::new("k", "v").lease(lease.id())).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    let leader = leader(&cluster);
    cluster.member(leader).pause().unwrap();
    stays_alive_for(&alive, secs(14));
    cluster.member(leader).resume().unwrap();
    // The resumed member still acts as the leader, and regards the lease as expired. etcd makes it check first
    // whether its clock ticked recently; right after it resumes it can revoke the lease nevertheless.
    let last = items(alive.receiver(), SOON).take(4).find_map(Result::err);
    let revoked = last.as_ref().map(etcd_blocking::Error::kind);
    assert!(
        matches!(revoked, None | Some(ErrorKind::LeaseNotFound)),
        "{last:?}"
    );
    assert_eq!(exists(&client, "k"), revoked.is_none());
}

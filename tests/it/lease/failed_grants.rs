//! Grants whose response arrives too late: no lease is left, and one with a known id is found.

use super::*;

/// A server that is asked through a proxy which lets no answer through.
struct Deaf {
    etcd: LocalEtcd,
    proxy: Proxy,
    client: Client,
}

impl Deaf {
    fn start() -> Self {
        let (etcd, proxy, client) = behind_a_proxy();
        // The connection is there before answers are held back.
        client.get("warm").unwrap();
        proxy.pause(Dir::Down, true);
        let client = client.with_timeout(Duration::from_millis(300));
        Deaf {
            etcd,
            proxy,
            client,
        }
    }

    /// Another way to the server, to see what is there.
    fn leases(&self) -> Vec<LeaseId> {
        let direct = self::client(&self.etcd.endpoint());
        direct.leases().unwrap().ids().to_vec()
    }

    #[track_caller]
    fn leases_become(&self, count: usize) {
        eventually(SOON, &format!("{count} leases"), || {
            (self.leases().len() == count).then_some(())
        });
    }
}

// Fault: R7
#[test]
fn a_failed_grant_leaves_no_lease() {
    let deaf = Deaf::start();
    for _ in 0..3 {
        let failed = deaf.client.grant(secs(3600)).unwrap_err();
        assert!(failed.outcome_unknown(), "{failed}");
    }
    deaf.proxy.pause(Dir::Down, false);
    deaf.leases_become(0);
}

// Fault: R7
#[test]
fn grants_with_a_timeout_below_the_round_trip_time_leave_no_lease() {
    let (etcd, proxy, client) = behind_a_proxy();
    client.get("warm").unwrap();
    proxy.latency(Duration::from_millis(75));
    let impatient = client.with_timeout(Duration::from_millis(100));
    for _ in 0..10 {
        assert!(impatient.grant(secs(3600)).is_err());
    }
    let direct = self::client(&etcd.endpoint());
    eventually(SOON, "no leases are left", || {
        direct.leases().unwrap().ids().is_empty().then_some(())
    });
}

#[test]
fn a_repeated_grant_with_the_same_id_returns_the_existing_lease() {
    let deaf = Deaf::start();
    let (grant, id) = Grant::ttl(secs(3600)).with_random_id();
    let failed = deaf.client.call(grant.clone()).unwrap_err();
    assert!(failed.outcome_unknown(), "{failed}");
    deaf.leases_become(1);
    deaf.proxy.pause(Dir::Down, false);
    let client = deaf.client.with_timeout(SOON);
    for _ in 0..2 {
        let found = client.call(grant.clone()).unwrap();
        assert_eq!((found.id(), found.ttl()), (id, secs(3600)));
    }
    // The lease of a known id is its owner's, and nobody revokes it in the background.
    assert_eq!(deaf.leases(), [id]);
    client.revoke(id).unwrap();
    assert_eq!(client.call(grant).unwrap().id(), id);
}

#[test]
fn a_failed_grant_does_not_revoke_the_lease_of_another_client() {
    let deaf = Deaf::start();
    let id = LeaseId::new(7).unwrap();
    let direct = self::client(&deaf.etcd.endpoint());
    direct.call(Grant::ttl(secs(3600)).id(id)).unwrap();
    let grant = Grant::ttl(secs(10)).id(id);
    assert!(deaf.client.call(grant.clone()).is_err());
    deaf.proxy.pause(Dir::Down, false);
    let refused = deaf.client.with_timeout(SOON).call(grant).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert!(!refused.outcome_unknown());
    assert_eq!(deaf.leases(), [id]);
}

#[test]
fn an_orphaned_lease_is_revoked_when_the_server_returns() {
    let deaf = Deaf::start();
    let client = deaf.client.with_timeout(secs(2));
    std::thread::scope(|scope| {
        let granting = scope.spawn(|| client.grant(secs(3600)));
        deaf.leases_become(1);
        deaf.proxy.pause(Dir::Up, true);
        assert!(granting.join().unwrap().is_err());
    });
    // Longer than one attempt to revoke takes.
    std::thread::sleep(secs(6));
    assert_eq!(deaf.leases().len(), 1);
    deaf.proxy.drop_connections();
    deaf.proxy.pause(Dir::Up, false);
    deaf.proxy.pause(Dir::Down, false);
    deaf.leases_become(0);
}

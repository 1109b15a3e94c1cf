//! Grants whose response arrives too late: no lease is left, and one with a known id is found.

use super::*;

/// A server behind a proxy that forwards no answer.
struct NoAnswers {
    etcd: LocalEtcd,
    proxy: Proxy,
    client: Client,
}

impl NoAnswers {
    fn start() -> Self {
        let (etcd, proxy, client) = behind_a_proxy();
        // The connection is open before answers are held back.
        client.get("warm").unwrap();
        proxy.hold(Dir::Down, true);
        let client = client.with_timeout(Duration::from_millis(300));
        NoAnswers {
            etcd,
            proxy,
            client,
        }
    }

    /// A direct client, which reads the leases of the server.
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
    let setup = NoAnswers::start();
    for _ in 0..3 {
        let failed = setup.client.grant(secs(3600)).unwrap_err();
        assert!(failed.outcome_unknown(), "{failed}");
    }
    setup.proxy.hold(Dir::Down, false);
    setup.leases_become(0);
}

// Fault: R7
#[test]
fn grants_with_a_timeout_below_the_round_trip_time_leave_no_lease() {
    let (etcd, proxy, client) = behind_a_proxy();
    client.get("warm").unwrap();
    proxy.delay(Dir::Both, Duration::from_millis(75));
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
    let setup = NoAnswers::start();
    let (grant, id) = Grant::ttl(secs(3600)).with_random_id();
    let failed = setup.client.call(grant.clone()).unwrap_err();
    assert!(failed.outcome_unknown(), "{failed}");
    setup.leases_become(1);
    setup.proxy.hold(Dir::Down, false);
    let client = setup.client.with_timeout(SOON);
    for _ in 0..2 {
        let found = client.call(grant.clone()).unwrap();
        assert_eq!((found.id(), found.ttl()), (id, secs(3600)));
    }
    // A lease with an id of the caller's choice is not revoked in the background.
    assert_eq!(setup.leases(), [id]);
    client.revoke(id).unwrap();
    assert_eq!(client.call(grant).unwrap().id(), id);
}

#[test]
fn a_failed_grant_does_not_revoke_the_lease_of_another_client() {
    let setup = NoAnswers::start();
    let id = LeaseId::new(7).unwrap();
    let direct = self::client(&setup.etcd.endpoint());
    direct.call(Grant::ttl(secs(3600)).id(id)).unwrap();
    let grant = Grant::ttl(secs(10)).id(id);
    assert!(setup.client.call(grant.clone()).is_err());
    setup.proxy.hold(Dir::Down, false);
    let refused = setup.client.with_timeout(SOON).call(grant).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert!(!refused.outcome_unknown());
    assert_eq!(setup.leases(), [id]);
}

#[test]
fn an_orphaned_lease_is_revoked_when_the_server_returns() {
    let setup = NoAnswers::start();
    let client = setup.client.with_timeout(secs(2));
    std::thread::scope(|scope| {
        let granting = scope.spawn(|| client.grant(secs(3600)));
        setup.leases_become(1);
        setup.proxy.hold(Dir::Up, true);
        assert!(granting.join().unwrap().is_err());
    });
    // Longer than one attempt to revoke.
    std::thread::sleep(secs(6));
    assert_eq!(setup.leases().len(), 1);
    setup.proxy.drop_connections();
    setup.proxy.hold(Dir::Up, false);
    setup.proxy.hold(Dir::Down, false);
    setup.leases_become(0);
}

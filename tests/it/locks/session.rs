//! Sessions: kept alive, lost, closed.

use super::*;
use crate::support::child::alone;
use crate::support::wait::threads;
use etcd_blocking::LeaseId;
use etcd_blocking::crossbeam_channel::RecvTimeoutError;

#[test]
fn a_revoked_session_is_reported_once_and_stays_lost() {
    let (_etcd, client) = start();
    let session = Session::builder(&client).ttl(secs(2)).start().unwrap();
    assert!(session.check().is_ok() && session.valid_for() > Duration::ZERO);
    client.revoke(session.lease()).unwrap();
    let why = session.lost().recv_timeout(SOON).unwrap();
    assert_eq!(why.kind(), ErrorKind::LeaseNotFound);
    let again = session.lost().recv_timeout(SOON).unwrap_err();
    assert_eq!(again, RecvTimeoutError::Disconnected);
    assert!(session.is_lost());
    assert_eq!(
        session.check().unwrap_err().kind(),
        ErrorKind::LeaseNotFound
    );
    assert!(session.valid_for().is_zero());
    assert!(session.close().is_ok());
}

#[test]
fn close_revokes_the_lease_and_orphan_does_not() {
    let (_etcd, client) = start();
    let closed = session(&client);
    client
        .call(Put::new("a", "").lease(closed.lease()))
        .unwrap();
    closed.close().unwrap();
    assert!(client.get("a").unwrap().is_none());
    assert_eq!(closed.check().unwrap_err().kind(), ErrorKind::Closed);
    assert!(closed.lost().recv_timeout(SOON).is_err(), "it was not lost");
    assert!(closed.close().is_ok(), "there is nothing left to do");

    let orphaned = session(&client);
    client
        .call(Put::new("b", "").lease(orphaned.lease()))
        .unwrap();
    orphaned.orphan();
    assert_eq!(orphaned.check().unwrap_err().kind(), ErrorKind::Closed);
    let lease = orphaned.lease();
    drop(orphaned);
    assert!(client.get("b").unwrap().is_some());
    assert!(
        !client
            .time_to_live(lease)
            .unwrap()
            .remaining()
            .unwrap()
            .is_zero()
    );
}

#[test]
fn dropping_the_last_handle_revokes_the_lease() {
    let (_etcd, client) = start();
    let session = session(&client);
    let clone = session.clone();
    client
        .call(Put::new("a", "").lease(session.lease()))
        .unwrap();
    drop(session);
    assert!(client.get("a").unwrap().is_some());
    drop(clone);
    assert!(client.get("a").unwrap().is_none());
}

#[test]
fn a_session_can_use_an_existing_lease_and_an_unknown_lease_is_refused() {
    let (_etcd, client) = start();
    let lease = client.grant(secs(20)).unwrap();
    let session = Session::builder(&client).lease(lease.id()).start().unwrap();
    assert_eq!((session.lease(), session.ttl()), (lease.id(), secs(20)));
    let none = LeaseId::new(4711).unwrap();
    let refused = Session::builder(&client).lease(none).start().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseNotFound);
    assert!(
        refused.to_string().starts_with("start session"),
        "{refused}"
    );
}

#[test]
fn a_session_without_renewals_for_its_ttl_is_lost_by_the_local_clock() {
    let (etcd, client) = start();
    let session = Session::builder(&client).ttl(secs(2)).start().unwrap();
    etcd.pause().unwrap();
    eventually(SOON, "its TTL has passed", || {
        session.is_lost().then_some(())
    });
    assert_eq!(session.check().unwrap_err().kind(), ErrorKind::LeaseExpired);
    assert_eq!(
        session.lost().recv_timeout(SOON).unwrap().kind(),
        ErrorKind::LeaseExpired
    );
    etcd.resume().unwrap();
    assert!(session.is_lost(), "a lost session stays lost");
}

#[test]
fn closing_the_client_ends_its_sessions() {
    let (_etcd, client) = start();
    let session = session(&client);
    client.close().unwrap();
    assert_eq!(
        session.lost().recv_timeout(SOON).unwrap().kind(),
        ErrorKind::Closed
    );
    assert_eq!(session.check().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn sessions_start_no_threads() {
    let name = "locks::session::sessions_start_no_threads";
    alone(name, secs(60), || {
        let (_etcd, client) = start();
        let one = session(&client);
        let before = threads();
        let more: Vec<_> = (0..50).map(|_| session(&client)).collect();
        assert_eq!(threads(), before);
        assert!(more.iter().all(|session| session.check().is_ok()));
        one.close().unwrap();
    });
}

//! Leases: granted, renewed, and reported when they end.

mod failed_grants;
mod faults;

use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, RecvTimeoutError};
use etcd_blocking::lease::RevokeResponse;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, ErrorKind, Grant, KeepAlive, LeaseId, Put, Renewal, Request, Result, Revoke, TimeToLive,
};

use crate::support::pace::Pace;
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn etcd() -> LocalEtcd {
    LocalEtcd::start().unwrap()
}

fn client(endpoint: &str) -> Client {
    Client::connect([endpoint]).unwrap()
}

/// A server behind a proxy, and a client of the proxy.
fn behind_a_proxy() -> (LocalEtcd, Proxy, Client) {
    let etcd = etcd();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = client(&proxy.endpoint());
    (etcd, proxy, client)
}

/// The next item, which must be a renewal.
#[track_caller]
fn renewed(alive: &KeepAlive) -> Renewal {
    alive.receiver().recv_timeout(SOON).unwrap().unwrap()
}

/// Returns the last item, and checks that nothing follows.
#[track_caller]
fn gone(receiver: &Receiver<Result<Renewal>>, within: Duration) -> etcd_blocking::Error {
    let (pace, begun) = (Pace::start(), Instant::now());
    loop {
        match receiver.recv_timeout(SOON) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                pace.check("the last item", begun, within);
                assert!(
                    receiver.recv_timeout(SOON).is_err(),
                    "an item after the last"
                );
                return error;
            }
            Err(none) => panic!("the lease has not ended: {none}"),
        }
    }
}

/// Reads renewals for `span`; the lease must be alive all the time.
#[track_caller]
fn stays_alive_for(alive: &KeepAlive, span: Duration) -> usize {
    let until = Instant::now() + span;
    let mut renewals = 0;
    loop {
        match alive.receiver().recv_deadline(until) {
            Ok(item) => item.map(|_| renewals += 1).unwrap(),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("no last item"),
        }
        assert!(alive.is_alive());
    }
    assert!(alive.is_alive());
    renewals
}

fn exists(client: &Client, key: &str) -> bool {
    client.get(key.to_owned()).unwrap().is_some()
}

// Case: L-18
#[test]
fn a_key_is_deleted_with_its_lease_without_renewals() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(Duration::from_millis(1200)).unwrap();
    assert_eq!(lease.ttl(), secs(2));
    client.call(Put::new("k", "v").lease(lease.id())).unwrap();
    assert!(exists(&client, "k"));
    eventually(SOON, "the key is gone", || {
        (!exists(&client, "k")).then_some(())
    });
    let error = client
        .call(Put::new("k", "v").lease(lease.id()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
}

// Case: L-02
#[test]
fn revoking_deletes_the_keys_of_the_lease_and_an_unknown_lease_is_not_found() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(60)).unwrap();
    for key in ["a", "b"] {
        client.call(Put::new(key, "v").lease(lease.id())).unwrap();
    }
    client.put("c", "v").unwrap();
    let revoked = client.revoke(lease.id()).unwrap();
    assert!(revoked.header().revision > lease.header().revision);
    assert!(!exists(&client, "a") && !exists(&client, "b") && exists(&client, "c"));
    let again = client.call(Revoke::new(lease.id())).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::LeaseNotFound);
    assert!(again.to_string().starts_with("revoke lease "), "{again}");
    let put = client.call(Put::new("a", "v").lease(lease.id()));
    assert_eq!(put.unwrap_err().kind(), ErrorKind::LeaseNotFound);
    let known = client.time_to_live(lease.id()).unwrap();
    assert_eq!(known.remaining(), None);
}

#[test]
fn a_chosen_lease_id_is_granted_once() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let id = LeaseId::new(4711).unwrap();
    assert_eq!(client.call(Grant::ttl(secs(60)).id(id)).unwrap().id(), id);
    let again = client.call(Grant::ttl(secs(60)).id(id)).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

/// Runs a request whose first answer is lost, with its connection, after it was executed.
fn lose_answer<R: Request>(
    proxy: &Proxy,
    client: &Client,
    request: R,
    executed: impl Fn() -> bool,
) -> Result<R::Response> {
    proxy.hold(Dir::Down, true);
    let pending = client.submit(request);
    eventually(SOON, "it is executed", || executed().then_some(()));
    proxy.drop_connections();
    proxy.hold(Dir::Down, false);
    pending.wait()
}

#[test]
fn a_grant_whose_answer_is_lost_creates_one_lease() {
    let (etcd, proxy, client) = behind_a_proxy();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    client.get("connected").unwrap();
    let leases = || direct.leases().unwrap().ids().to_vec();
    let granted = lose_answer(&proxy, &client, Grant::ttl(secs(60)), || {
        leases().len() == 1
    });
    let lease = granted.unwrap();
    assert_eq!(leases(), [lease.id()]);
    assert_eq!(lease.ttl(), secs(60));
}

#[test]
fn a_revocation_whose_answer_is_lost_succeeds() {
    let (etcd, proxy, client) = behind_a_proxy();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let revoked = lose_answer(&proxy, &client, Revoke::new(lease.id()), || {
        direct.leases().unwrap().ids().is_empty()
    });
    assert_eq!(revoked.unwrap(), RevokeResponse::default());
}

// Case: L-11
#[test]
fn time_to_live_returns_the_remaining_time_and_the_attached_keys() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(60)).unwrap();
    for key in ["a", "b"] {
        client.call(Put::new(key, "v").lease(lease.id())).unwrap();
    }
    let known = client.time_to_live(lease.id()).unwrap();
    let left = known.remaining().unwrap();
    assert!(left > secs(50) && left <= secs(60), "{left:?}");
    assert_eq!(known.granted(), secs(60));
    assert!(known.keys().is_empty());
    let mut keys = client
        .call(TimeToLive::new(lease.id()).keys())
        .unwrap()
        .keys()
        .to_vec();
    keys.sort();
    assert_eq!(keys, ["a", "b"]);

    client.revoke(lease.id()).unwrap();
    let gone = client.time_to_live(lease.id()).unwrap();
    assert_eq!((gone.remaining(), gone.keys().len()), (None, 0));
    assert!(gone.header().member_id.get() != 0);
}

// Case: L-12
#[test]
fn leases_are_listed() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    assert!(client.leases().unwrap().ids().is_empty());
    let mut granted: Vec<_> = (0..5)
        .map(|n| client.grant(secs(60 + n)).unwrap().id())
        .collect();
    let mut listed = client.leases().unwrap().ids().to_vec();
    granted.sort();
    listed.sort();
    assert_eq!(listed, granted);
}

#[test]
fn one_renewal_restores_the_full_ttl_and_an_unknown_lease_is_not_found() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(60)).unwrap();
    let renewal = client.keep_alive_once(lease.id()).unwrap();
    assert_eq!((renewal.id(), renewal.ttl()), (lease.id(), secs(60)));
    assert!(renewal.deadline().remaining() > secs(50));
    client.revoke(lease.id()).unwrap();
    let error = client.keep_alive_once(lease.id()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
}

// Case: L-05
#[test]
fn a_lease_is_renewed_after_a_third_of_its_ttl() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(2)).unwrap();
    client.call(Put::new("k", "v").lease(lease.id())).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    let first = renewed(&alive);
    assert_eq!(
        (first.id(), first.ttl(), alive.id()),
        (lease.id(), secs(2), lease.id())
    );
    assert!(alive.valid_for() <= secs(2) && alive.is_alive());
    // Four times the TTL: a renewal every 0.6 s to 0.67 s.
    let pace = Pace::start();
    let begun = Instant::now();
    let renewals = stays_alive_for(&alive, secs(8));
    let late = pace.delay(begun, Instant::now()).as_millis() / 670;
    let fewest = 11usize.saturating_sub(usize::try_from(late).unwrap());
    assert!((fewest.max(5)..=14).contains(&renewals), "{renewals}");
    assert!(exists(&client, "k"));
}

// Case: L-04
#[test]
fn several_handles_of_a_lease_share_its_renewals_until_the_last_is_dropped() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(3)).unwrap();
    let one = client.keep_alive(lease.id()).unwrap();
    renewed(&one);
    let two = client.clone().keep_alive(lease.id()).unwrap();
    // The second handle receives the last renewal at once.
    renewed(&two);
    let reader = one.receiver().clone();
    drop(one);
    // A dropped handle gets no last item, only the end of the channel.
    assert!(reader.iter().all(|item| item.is_ok()));
    stays_alive_for(&two, secs(4));
    let three = client.keep_alive(lease.id()).unwrap();
    let reader = three.receiver().clone();
    drop(three);
    client.close().unwrap();
    assert_eq!(gone(two.receiver(), SOON).kind(), ErrorKind::Closed);
    assert!(
        reader.iter().all(|item| item.is_ok()),
        "it left just before"
    );
}

#[test]
fn dropping_a_keep_alive_stops_renewals_and_does_not_revoke() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(2)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    renewed(&alive);
    drop(alive);
    assert!(
        client
            .time_to_live(lease.id())
            .unwrap()
            .remaining()
            .is_some()
    );
    eventually(SOON, "the lease expires", || {
        client
            .time_to_live(lease.id())
            .unwrap()
            .remaining()
            .is_none()
            .then_some(())
    });
}

// Case: L-06
#[test]
fn a_revoked_lease_is_reported_within_a_third_of_its_ttl() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let leases: Vec<_> = (0..3)
        .map(|_| client.grant(secs(3)).unwrap().id())
        .collect();
    let alive: Vec<_> = leases
        .iter()
        .map(|id| client.keep_alive(*id).unwrap())
        .collect();
    for alive in &alive {
        renewed(alive);
    }
    client.revoke(leases[1]).unwrap();
    let error = gone(alive[1].receiver(), secs(2));
    assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
    assert!(
        error.to_string().contains("expired or was revoked"),
        "{error}"
    );
    assert!(!alive[1].is_alive());
    stays_alive_for(&alive[0], secs(3));
    assert!(alive[2].is_alive());
}

#[test]
fn keep_alive_of_an_unknown_lease_ends_with_not_found() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let alive = client.keep_alive(LeaseId::new(4711).unwrap()).unwrap();
    let error = gone(alive.receiver(), secs(2));
    assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
    assert!(
        error
            .to_string()
            .starts_with("keep alive lease 0000000000001267: "),
        "{error}"
    );
}

// Case: L-14
#[test]
fn a_closed_client_renews_no_lease() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(3)).unwrap();
    let other = client.clone();
    client.close().unwrap();
    assert_eq!(
        other.keep_alive(lease.id()).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(other.grant(secs(3)).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        other.revoke(lease.id()).unwrap_err().kind(),
        ErrorKind::Closed
    );
}

// Case: L-09
#[test]
fn keep_alive_without_a_server_ends_within_the_client_timeout() {
    let mut etcd = etcd();
    etcd.kill().unwrap();
    let client = client(&etcd.endpoint()).with_timeout(secs(1));
    let alive = client.keep_alive(LeaseId::new(4711).unwrap()).unwrap();
    let error = gone(alive.receiver(), secs(3));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn a_thousand_leases_share_one_connection() {
    let (_etcd, proxy, client) = behind_a_proxy();
    let granting: Vec<_> = (0..1000)
        .map(|_| client.submit(Grant::ttl(secs(6))))
        .collect();
    let leases: Vec<_> = granting
        .into_iter()
        .map(|g| g.wait().unwrap().id())
        .collect();
    let alive: Vec<_> = leases
        .iter()
        .map(|id| client.keep_alive(*id).unwrap())
        .collect();
    for alive in &alive {
        renewed(alive);
    }
    let until = Instant::now() + secs(9);
    while Instant::now() < until {
        assert!(alive.iter().all(KeepAlive::is_alive));
        for alive in &alive {
            alive
                .receiver()
                .try_iter()
                .for_each(|item| assert!(item.is_ok()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // One for calls and one for leases; a slow machine may dial one of them again.
    assert!(proxy.connections() <= 4, "{}", proxy.connections());
}

// Case: L-07
#[test]
fn an_unread_receiver_does_not_stop_renewals_and_gets_the_last_item() {
    let etcd = etcd();
    let client = client(&etcd.endpoint());
    let lease = client.grant(secs(1)).unwrap();
    let idle = client.keep_alive(lease.id()).unwrap();
    // The first call creates the channel.
    let unread = idle.receiver();
    let read = client.keep_alive(lease.id()).unwrap();
    // About 24 renewals, more than the queue holds.
    stays_alive_for(&read, secs(8));
    assert!(idle.is_alive());
    assert_eq!(unread.len(), 16);
    client.revoke(lease.id()).unwrap();
    gone(read.receiver(), secs(2));
    let items: Vec<_> = unread.try_iter().collect();
    assert_eq!(items.len(), 17);
    assert_eq!(
        items[16].as_ref().unwrap_err().kind(),
        ErrorKind::LeaseNotFound
    );
}

#[test]
fn it_works_inside_an_async_runtime() {
    let etcd = etcd();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = client(&etcd.endpoint());
        let lease = client.grant(secs(3)).unwrap();
        let alive = client.keep_alive(lease.id()).unwrap();
        stays_alive_for(&alive, secs(4));
        drop(alive);
        client.revoke(lease.id()).unwrap();
    });
}

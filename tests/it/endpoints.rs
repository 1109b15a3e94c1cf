//! Choice of endpoints: replaced while the client runs, or one endpoint chosen per call.

use std::time::Duration;

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, ErrorKind, Get, Watcher};

use crate::support::peers::PeerLinks;
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn next_value(watcher: &Watcher) -> String {
    let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
    let kv = response.events().last().unwrap().kv();
    kv.value_str().unwrap().to_owned()
}

// Case: CN-02
#[test]
fn a_dead_endpoint_can_be_replaced_with_another() {
    for before in [true, false] {
        let mut cluster = LocalCluster::start(3).unwrap();
        let client = Client::connect([cluster.member(0).endpoint()]).unwrap();
        client.get("k").unwrap();
        let others = [cluster.member(1).endpoint(), cluster.member(2).endpoint()];
        if before {
            client.set_endpoints(cluster.endpoints()).unwrap();
        }
        cluster.member_mut(0).kill().unwrap();
        if !before {
            let quick = client.with_timeout(Duration::from_millis(300));
            assert!(quick.get("k").is_err());
            client.set_endpoints(others).unwrap();
        }
        client.call(Get::key("k").serializable()).unwrap();
    }
}

// Case: CN-03
#[test]
fn a_client_moves_away_from_an_isolated_member() {
    let (cluster, links) = PeerLinks::start(3, &[]);
    let client = Client::connect([cluster.member(0).endpoint()]).unwrap();
    let watcher = client.watch("k").unwrap();
    client.put("k", "before").unwrap();
    assert_eq!(next_value(&watcher), "before");
    links.isolate(0);
    let quick = client.with_timeout(Duration::from_millis(500));
    eventually(SOON, "it is cut off", || quick.get("k").err());
    client
        .set_endpoints([cluster.member(1).endpoint()])
        .unwrap();
    eventually(SOON, "there is a leader", || client.put("k", "after").ok());
    assert_eq!(next_value(&watcher), "after");
    links.heal();
}

// Case: CN-04
#[test]
fn a_view_can_be_aimed_at_an_endpoint_that_is_not_configured() {
    let (ours, foreign) = (LocalEtcd::start().unwrap(), LocalEtcd::start().unwrap());
    let client = Client::connect([ours.endpoint()]).unwrap();
    let view = client.at(foreign.endpoint()).unwrap();
    view.put("k", "foreign").unwrap();
    assert!(client.get("k").unwrap().is_none());
    let direct = Client::connect([foreign.endpoint()]).unwrap();
    assert_eq!(direct.get("k").unwrap().unwrap().value(), "foreign");
    assert_eq!(view.endpoints(), [foreign.endpoint()]);
    // Without a scheme, the view has that of the client.
    let bare = foreign.client_addr().to_string();
    assert_eq!(client.at(bare).unwrap().endpoints(), [foreign.endpoint()]);
}

// Case: CN-05
#[test]
fn a_put_after_set_endpoints_goes_to_a_new_endpoint() {
    let cluster = LocalCluster::start(2).unwrap();
    let client = Client::connect(["http://127.0.0.1:1"]).unwrap();
    let view_of_old = client.clone();
    client
        .set_endpoints([cluster.member(1).endpoint()])
        .unwrap();
    let put = client.put("k", "v").unwrap();
    let id = cluster.member(1).status().unwrap().member_id;
    assert_eq!(put.header().member_id.get(), id);
    // Clones are handles of one client.
    assert_eq!(view_of_old.endpoints(), client.endpoints());
}

#[test]
fn set_endpoints_keeps_connections_of_kept_endpoints_and_drains_the_others() {
    let etcd = LocalEtcd::start().unwrap();
    let [a, b] = [0, 1].map(|_| Proxy::start(etcd.client_addr()).unwrap());
    let client = Client::connect([a.endpoint()]).unwrap();
    let watcher = client.watch("k").unwrap();
    client.put("k", "1").unwrap();
    assert_eq!(next_value(&watcher), "1");
    let connections = a.connections();

    client.set_endpoints([b.endpoint(), a.endpoint()]).unwrap();
    client.put("k", "2").unwrap();
    assert_eq!(next_value(&watcher), "2");
    assert_eq!((a.connections(), b.connections()), (connections, 0));

    // Puts are in flight when the endpoint is removed: with a cut connection, one would have an unknown outcome.
    a.hold(Dir::Down, true);
    let under_way = client.submit(etcd_blocking::Put::new("under way", "3"));
    let there = || etcd.client_addr();
    let direct = Client::connect([format!("http://{}", there())]).unwrap();
    eventually(SOON, "the server has it", || {
        direct.get("under way").unwrap()
    });
    client.set_endpoints([b.endpoint()]).unwrap();
    client.put("k", "4").unwrap();
    assert!(b.connections() > 0);
    a.hold(Dir::Down, false);
    under_way.wait().unwrap();
    assert_eq!(next_value(&watcher), "4");
    eventually(SOON, "the endpoint that went is left", || {
        (a.open_connections() == 0).then_some(())
    });
}

#[test]
fn invalid_endpoints_are_refused_and_change_nothing() {
    let client = Client::connect(["http://127.0.0.1:1"]).unwrap();
    let before = client.endpoints();
    for bad in [vec![], vec!["https://127.0.0.1:1"], vec!["nonsense"]] {
        let error = client.set_endpoints(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    for bad in ["https://127.0.0.1:1", "nonsense", ""] {
        let error = client.at(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(client.endpoints(), before);
    let view = client.at("http://127.0.0.1:2").unwrap();
    for refused in [
        view.set_endpoints(["http://127.0.0.1:3"]).unwrap_err(),
        view.sync_endpoints().unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");
    }
}

#[test]
fn an_aimed_view_uses_only_its_endpoint_and_equal_views_share_a_connection() {
    let etcd = LocalEtcd::start().unwrap();
    let (own, chosen) = (
        Proxy::start(etcd.client_addr()).unwrap(),
        Proxy::start(etcd.client_addr()).unwrap(),
    );
    let client = Client::connect([own.endpoint()]).unwrap();
    let view = client.at(chosen.endpoint()).unwrap();
    assert_eq!(
        chosen.connections(),
        0,
        "nothing is connected before a call"
    );
    view.put("k", "1").unwrap();
    view.with_timeout(SOON).put("k", "2").unwrap();
    client.at(chosen.endpoint()).unwrap().put("k", "3").unwrap();
    assert_eq!((own.connections(), chosen.connections()), (0, 1));

    let watcher = view.watch("k").unwrap();
    let lease = view.grant(Duration::from_secs(10)).unwrap();
    let alive = view.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    // One connection for calls, one for watches, one for leases.
    assert_eq!((own.connections(), chosen.connections()), (0, 3));

    // Streams continue after the view is dropped, as after a clone; their connections end with them.
    drop(view);
    client.put("k", "4").unwrap();
    assert_eq!(next_value(&watcher), "4");
    drop((watcher, alive));
    eventually(SOON, "the view's connections are closed", || {
        (chosen.open_connections() == 0).then_some(())
    });
    client.get("k").unwrap();
}

#[test]
fn an_aimed_view_keeps_its_client_open_and_closes_it() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let view = client.at(etcd.endpoint()).unwrap();
    drop(client);
    view.put("k", "the view is a handle of the client").unwrap();
    let client = view.clone();
    view.close().unwrap();
    assert!(client.is_closed());
    assert_eq!(client.get("k").unwrap_err().kind(), ErrorKind::Closed);
}

//! Pipelined requests: submitted first, awaited later.

use std::time::Duration;

use etcd_blocking::crossbeam_channel::{bounded, select};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, GetResponse, Put};

use crate::support::pace::Pace;
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

#[test]
fn a_submitted_request_supports_every_way_of_waiting() {
    let (_etcd, client) = start();
    client.put("k", "v").unwrap();
    let get = || client.submit(Get::key("k"));
    let is_v = |got: etcd_blocking::Result<GetResponse>| {
        assert_eq!(got.unwrap().first().unwrap().value(), "v")
    };
    is_v(get().wait());
    is_v(get().wait_timeout(SOON).unwrap());
    let asked = get();
    is_v(eventually(SOON, "the reply", || asked.try_wait()));
    // The reply can be taken once, in any way.
    assert_eq!(
        asked.try_wait().unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    let (first, second) = (get(), get());
    let (mut one, mut two) = (false, false);
    while !(one && two) {
        // A channel that has given its reply is disconnected, and so always ready.
        select! {
            recv(first.receiver()) -> got => match got {
                Ok(got) => { is_v(got); one = true }
                Err(_) => assert!(one),
            },
            recv(second.receiver()) -> got => match got {
                Ok(got) => { is_v(got); two = true }
                Err(_) => assert!(two),
            },
            default(SOON) => panic!("no reply"),
        }
    }
    // The select also contains a channel of the caller.
    let (sender, mine) = bounded(1);
    sender.send(()).unwrap();
    select! {
        recv(mine) -> got => got.unwrap(),
        recv(get().receiver()) -> got => is_v(got.unwrap()),
    }
}

#[test]
fn a_submitted_request_runs_without_a_waiter() {
    let (_etcd, client) = start();
    drop(client.submit(Put::new("k", "v")));
    eventually(SOON, "the put", || client.get("k").unwrap());
}

#[test]
fn submitted_requests_are_in_flight_together() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    client.put("k", "v").unwrap();
    proxy.delay(Dir::Both, Duration::from_millis(20));
    let pace = Pace::start();
    let begun = std::time::Instant::now();
    let pending: Vec<_> = (0..500).map(|_| client.submit(Get::key("k"))).collect();
    for get in pending {
        get.wait().unwrap();
    }
    // In sequence they would take 20 s.
    pace.check("500 gets at once", begun, Duration::from_secs(5));
    assert_eq!(proxy.connections(), 1);
}

//! Reasons of failed registrations, and what is left in the store after a failure.

use super::*;
use crate::support::proxy::Dir;

// Fault: R4
#[test]
fn register_in_an_outage_fails_as_get_with_the_cause() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()]);
    let client = client.timeout(Duration::from_secs(1)).connect().unwrap();
    client.get("k").unwrap();
    etcd.kill().unwrap();
    let get = client.get("k").unwrap_err();
    let registrar = registrar(&client, 30);
    let register = registrar.register(web(1)).unwrap_err();
    assert_eq!(register.kind(), get.kind(), "{register} and {get}");
    assert_eq!(register.kind(), ErrorKind::Unavailable, "{register}");
    assert!(
        register.to_string().contains("; last: ") || register.to_string().contains("(last: "),
        "{register}"
    );

    let announced = registrar.announce(web(2)).unwrap();
    assert_eq!(announced.state(), State::Starting);
    let error = eventually(SOON, "the reason is known", || announced.last_error());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    etcd.restart().unwrap();
    announced.wait_registered(SOON).unwrap();
    assert!(announced.last_error().is_none());
}

// Fault: R4
#[test]
fn register_with_a_silent_server_fails_with_the_cause() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()]);
    let client = client.timeout(Duration::from_secs(1)).connect().unwrap();
    let registrar = registrar(&client, 30);
    let _first = registrar.register(web(1)).unwrap();
    etcd.pause().unwrap();
    let error = registrar.register(web(2)).unwrap_err();
    etcd.resume().unwrap();
    let text = error.to_string();
    assert!(text.contains("last: "), "{text}");
}

// Fault: R7
#[test]
fn over_a_slow_link_a_registration_succeeds_with_one_lease() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = client(&etcd);
    let client = Client::builder([proxy.endpoint()]);
    let client = client
        .timeout(Duration::from_millis(250))
        .connect()
        .unwrap();
    eventually(SOON, "it is connected", || client.get("k").ok());
    proxy.delay(Dir::Both, Duration::from_millis(75));
    let registrar = registrar(&client, 60);
    let registration = registrar.announce(web(1)).unwrap();
    registration.wait_registered(SOON).unwrap();
    assert_eq!(direct.leases().unwrap().ids().len(), 1);
}

// Fault: R7
#[test]
fn a_grant_whose_answer_is_lost_is_repeated_with_the_same_id() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = client(&etcd);
    let client = Client::builder([proxy.endpoint()]);
    let client = client
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    client.get("k").unwrap();
    // Requests arrive, and answers do not.
    proxy.hold(Dir::Down, true);
    let registrar = registrar(&client, 60);
    let registration = registrar.announce(web(1)).unwrap();
    eventually(SOON, "a lease is granted", || {
        (direct.leases().unwrap().ids().len() == 1).then_some(())
    });
    eventually(SOON, "the grant has failed", || registration.last_error());
    proxy.hold(Dir::Down, false);
    registration.wait_registered(SOON).unwrap();
    let leases = direct.leases().unwrap();
    assert_eq!(leases.ids().len(), 1, "{:?}", leases.ids());
    let State::Registered { lease, .. } = registration.state() else {
        panic!("{:?}", registration.state());
    };
    assert_eq!(leases.ids(), [lease]);
}

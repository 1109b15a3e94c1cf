//! Registrations that wait until the lease of a predecessor has expired.

use super::*;

// Fault: R8
#[test]
fn a_successor_waits_until_the_lease_of_its_predecessor_ends() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let crashed = Client::connect([proxy.endpoint()]).unwrap();
    let before = registrar(&crashed, 4).register(web(1)).unwrap();
    let State::Registered { lease, .. } = before.state() else {
        panic!("{:?}", before.state());
    };
    // The process has ended, and its lease still exists.
    proxy.cut();
    let client = client(&etcd).with_timeout(Duration::from_secs(1));
    let waiting = Registrar::builder(&client)
        .on_conflict(OnConflict::WaitForExpiry)
        .start()
        .unwrap();
    let announced = waiting.announce(web(2)).unwrap();
    announced.wait_registered(SOON).unwrap();
    assert!(announced.last_error().is_none());
    let after = waiting.register(web(1)).unwrap();
    assert!(registered(&after.state()));
    assert!(after.revision() > before.revision());
    assert!(client.time_to_live(lease).unwrap().remaining().is_none());
}

// Fault: R8
#[test]
fn the_error_after_waiting_names_the_holder() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd).with_timeout(Duration::from_millis(500));
    let held = registrar(&client, 2).register(web(1)).unwrap();
    let State::Registered { lease, .. } = held.state() else {
        panic!("{:?}", held.state());
    };
    let waiting = Registrar::builder(&client)
        .on_conflict(OnConflict::WaitForExpiry)
        .start()
        .unwrap();
    let error = waiting.register(web(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    for part in [
        &lease.to_string(),
        "127.0.1.1:1",
        "left",
        "OnConflict::Replace",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // An announced registration has the same error in its state.
    let announced = waiting.announce(web(1)).unwrap();
    let error = eventually(SOON, "it reports the conflict", || announced.last_error());
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&lease.to_string()), "{error}");
    assert_eq!(announced.state(), State::Starting);
    let early = announced
        .wait_registered(Duration::from_millis(50))
        .unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout);
    assert!(early.to_string().contains(&lease.to_string()), "{early}");
    held.leave().unwrap();
    announced.wait_registered(SOON).unwrap();
    assert!(announced.last_error().is_none());
}

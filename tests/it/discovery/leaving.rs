//! Leaving: in groups, before the client closes, and with a correct result.

use super::*;

fn keys(client: &Client) -> u64 {
    let count = etcd_blocking::Get::prefix("/services/").count_only();
    client.call(count).unwrap().count()
}

// Fault: R9
#[test]
fn many_registrations_leave_together_in_every_way_of_leaving() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let (far, near) = (Client::connect([proxy.endpoint()]).unwrap(), client(&etcd));
    // One by one, 500 deletes would take more than ten seconds.
    proxy.delay(Dir::Both, Duration::from_millis(10));
    let registrar = registrar(&far, 60);
    let registrations = registrar.register_all((1..=500).map(web)).unwrap();
    assert_eq!(keys(&near), 500);
    let (pace, begun) = (Pace::start(), Instant::now());
    registrar.leave_all().unwrap();
    let took = pace.check("leave_all", begun, Duration::from_secs(2));
    assert_eq!(keys(&near), 0);
    println!("500 left by leave_all in {took:?}");
    let closed = |registration: &Registration| registration.state() == State::Closed;
    assert!(registrations.iter().all(closed));
    assert!(registrations[0].leave().is_ok(), "it has left");
    drop(registrations);

    let registrations = registrar.register_all((1..=500).map(web)).unwrap();
    assert_eq!(keys(&near), 500);
    let (pace, begun) = (Pace::start(), Instant::now());
    drop(registrations);
    drop(registrar);
    let took = pace.check("dropping 500", begun, Duration::from_secs(2));
    println!("500 were dropped with their registrar in {took:?}");
    assert_eq!(keys(&near), 0);
}

// Fault: R5
#[test]
fn closing_a_client_first_leaves_its_registrations() {
    let etcd = LocalEtcd::start().unwrap();
    let (closing, other) = (client(&etcd), client(&etcd));
    let view = Discovery::new(&other).service("web").unwrap();
    let many = registrar(&closing, 60).register_all((1..=300).map(web));
    let many = many.unwrap();
    let one = registrar(&closing, 60).register(web(301)).unwrap();
    view.wait_for(301, SOON).unwrap();
    // Closing an aimed view closes the client as well.
    closing.at(etcd.endpoint()).unwrap().close().unwrap();
    assert_eq!(keys(&other), 0);
    eventually(SOON, "the view is empty", || {
        view.snapshot().is_empty().then_some(())
    });
    assert!(one.leave().is_ok(), "it has left");
    assert!(many.iter().all(|one| one.state() == State::Closed));
    let late = one.modify(|instance| instance.weight = 2).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}

// Fault: R5
#[test]
fn leave_fails_after_a_close_that_could_not_delete_the_key() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let (closing, other) = (Client::connect([proxy.endpoint()]).unwrap(), client(&etcd));
    let registration = registrar(&closing, 60).register(web(1)).unwrap();
    proxy.cut();
    let (pace, begun) = (Pace::start(), Instant::now());
    closing.close().unwrap();
    pace.check("close", begun, Duration::from_secs(2));
    let error = registration.leave().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(error.to_string().contains("127.0.1.1:1"), "{error}");
    assert_eq!(registration.state(), State::Closed);
    assert_eq!(
        registration.last_error().map(|error| error.kind()),
        Some(ErrorKind::Closed)
    );
    assert_eq!(keys(&other), 1);
}

// Fault: R4
#[test]
fn the_error_of_an_unanswered_leave_has_the_time_and_the_cause() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let (far, near) = (
        Client::connect([proxy.endpoint()])
            .unwrap()
            .with_timeout(Duration::from_millis(300)),
        client(&etcd),
    );
    let registrar = registrar(&far, 60);
    let both = registrar.register_all([web(1), web(2)]).unwrap();
    proxy.cut();
    for registration in &both {
        let begun = Instant::now();
        let error = registration.leave().unwrap_err();
        assert!(begun.elapsed() >= Duration::from_secs(1), "{error}");
        let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(error.elapsed() >= Duration::from_secs(1), "{error:?}");
        assert!(error.to_string().contains("last: "), "{error}");
        assert!(registration.last_error().is_some());
    }
    let error = registrar.leave_all().unwrap_err();
    assert!(error.to_string().contains("2 registrations"), "{error}");
    proxy.restore();
    // The worker repeats the delete.
    eventually(SOON, "they are gone", || (keys(&near) == 0).then_some(()));
    both[0].leave().unwrap();
}

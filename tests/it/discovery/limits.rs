//! Registrations at the size limits of client, server and connection.

use super::*;

fn with_metadata(n: u16, bytes: usize) -> Instance {
    web(n).meta("load", "x".repeat(bytes))
}

// Fault: R3
#[test]
fn batches_are_as_large_as_the_limits_of_client_and_server() {
    // The limit is set in the client, or the registrar finds it.
    for known in [64, 128] {
        let etcd = LocalEtcd::builder()
            .arg("--max-txn-ops=64")
            .start()
            .unwrap();
        let client = Client::builder([etcd.endpoint()])
            .max_txn_ops(known)
            .connect()
            .unwrap();
        let registrar = registrar(&client, 30);
        let registrations = registrar.register_all((1..=80).map(web)).unwrap();
        let State::Registered { lease, .. } = registrations[0].state() else {
            panic!("{:?}", registrations[0].state());
        };
        let pace = Pace::start();
        let begun = Instant::now();
        client.revoke(lease).unwrap();
        for registration in &registrations {
            until(registration, "back", registered_after_loss());
        }
        let took = pace.check("all are back", begun, Duration::from_secs(1));
        println!("80 back in {took:?} with a limit of {known}");
        assert_eq!(client.get_prefix("/services/web/").unwrap().len(), 80);
    }
}

// Fault: R2
#[test]
fn an_instance_over_the_send_limit_is_refused_before_sending() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let registration = registrar.register(web(1)).unwrap();
    let others = registrar.register(web(2)).unwrap();
    let put_at = registration.revision();
    let instance = registration.instance();
    for error in [
        registration
            .update(with_metadata(1, 2_500_000))
            .unwrap_err(),
        registrar.register(with_metadata(3, 2_500_000)).unwrap_err(),
        registrar.announce(with_metadata(3, 2_500_000)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(text.contains("ClientBuilder::send_limit"), "{text}");
    }
    assert_eq!(registration.instance(), instance, "the old value stays");
    registration.set_status(Status::Draining).unwrap();
    until(&registration, "draining", |state| *state == State::Draining);
    assert!(registration.revision() > put_at);
    others.leave().unwrap();
}

// Fault: R2
#[test]
fn an_update_that_the_server_refuses_leaves_the_old_value_and_returns_the_reason() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let registration = registrar.register(web(1).version("old")).unwrap();
    let put_at = registration.revision();
    // Over the server's limit of 1.5 MiB, and below that of the client.
    registration.update(with_metadata(1, 1_800_000)).unwrap();
    let error = eventually(SOON, "the reason is known", || registration.last_error());
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(
        error.to_string().starts_with("update 127.0.1.1:1: "),
        "{error}"
    );
    assert!(
        registered(&registration.state()),
        "{:?}",
        registration.state()
    );
    assert_eq!(registration.revision(), put_at);

    let others = registrar.register(web(2)).unwrap();
    let refused = registrar.register(with_metadata(3, 1_800_000)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    // The key is lost: the old value is restored.
    client.delete("/services/web/127.0.1.1:1").unwrap();
    eventually(SOON, "the old value is back", || {
        let kv = client.get("/services/web/127.0.1.1:1").unwrap()?;
        kv.value_str()?
            .contains("\"version\":\"old\"")
            .then_some(())
    });
    assert_eq!(
        registration.last_error().map(|error| error.kind()),
        Some(ErrorKind::TooLarge)
    );
    // A value within the limit is written at once, and the error is cleared.
    registration.update(web(1).version("new")).unwrap();
    eventually(SOON, "the new value is there", || {
        let kv = client.get("/services/web/127.0.1.1:1").unwrap()?;
        kv.value_str()?
            .contains("\"version\":\"new\"")
            .then_some(())
    });
    eventually(SOON, "nothing is wrong", || {
        registration.last_error().is_none().then_some(())
    });
    others.leave().unwrap();
}

// Fault: R2
#[test]
fn a_server_with_a_low_request_limit_gets_small_batches() {
    let etcd = LocalEtcd::builder();
    let etcd = etcd.arg("--max-request-bytes=20000").start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let all = (1..=100).map(|n| with_metadata(n, 1000));
    let _registrations = registrar.register_all(all).unwrap();
    assert_eq!(client.get_prefix("/services/web/").unwrap().len(), 100);
    let refused = registrar.register(with_metadata(101, 20_000)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
}

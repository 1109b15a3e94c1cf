//! Changes of a registered instance by several threads; no change overwrites another.

use super::*;

const KEY: &str = "/services/web/127.0.1.1:1";

fn value(client: &Client) -> String {
    let kv = client.get(KEY).unwrap().unwrap();
    kv.value_str().unwrap().to_owned()
}

// Fault: R6
#[test]
fn a_concurrent_update_never_reverts_a_drain() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registration = registrar(&client, 30).register(web(1)).unwrap();
    for round in 0..100 {
        registration.set_status(Status::Up).unwrap();
        let reporter = registration.clone();
        let reports = std::thread::spawn(move || {
            for n in 0..20 {
                let load = format!("{round}.{n}");
                let instance = Instance::clone(&reporter.instance());
                reporter.update(instance.meta("load", &*load)).unwrap();
                reporter
                    .modify(|instance| instance.set_meta("also", &*load))
                    .unwrap();
            }
        });
        registration.set_status(Status::Draining).unwrap();
        reports.join().unwrap();
        assert_eq!(registration.instance().status, Status::Draining);
        assert_eq!(registration.instance().meta["also"], format!("{round}.19"));
    }
    registration.wait_updated(SOON).unwrap();
    let value = value(&client);
    assert!(
        value.contains("draining") && value.contains("99.19"),
        "{value}"
    );
    // Only an explicit status ends a drain.
    registration.update(web(1)).unwrap();
    assert_eq!(registration.instance().status, Status::Draining);
    registration.set_status(Status::Up).unwrap();
    assert_eq!(registration.instance().status, Status::Up);
}

// Fault: R6
#[test]
fn concurrent_modifications_are_all_applied_and_etcd_has_the_last_value() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registration = registrar(&client, 30).register(web(1)).unwrap();
    let since = registration.instance().since();
    for round in 1..=20_u32 {
        std::thread::scope(|scope| {
            for thread in ["a", "b", "c"] {
                let registration = &registration;
                scope.spawn(move || {
                    for _ in 0..10 {
                        let count = |instance: &mut Instance| {
                            instance.weight += 1;
                            instance.set_meta(thread, round.to_string());
                        };
                        registration.modify(count).unwrap();
                    }
                });
            }
        });
        let instance = registration.instance();
        assert_eq!(instance.weight, 1 + 30 * round);
        let at = registration.wait_updated(SOON).unwrap();
        assert_eq!(registration.revision(), Some(at));
        let kv = client.get(KEY).unwrap().unwrap();
        assert_eq!(kv.mod_revision(), at);
        let weight = format!("\"weight\":{}", instance.weight);
        assert!(kv.value_str().unwrap().contains(&weight), "{kv:?}");
    }
    registration.update(web(1).version("2")).unwrap();
    assert_eq!(
        registration.instance().since(),
        since,
        "it began when it did"
    );
    let refused = registration.modify(|instance| instance.id = "other".into());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(registration.instance().version, "2");
}

#[test]
fn wait_updated_returns_after_etcd_has_the_update() {
    let mut etcd = LocalEtcd::start().unwrap();
    let patient = client(&etcd);
    let client = patient.with_timeout(Duration::from_millis(300));
    let registration = registrar(&patient, 60).register(web(1)).unwrap();
    let first = registration.wait_updated(SOON).unwrap();
    assert_eq!(Some(first), registration.revision());
    etcd.kill().unwrap();
    registration.modify(|instance| instance.weight = 7).unwrap();
    let early = registration
        .wait_updated(Duration::from_millis(300))
        .unwrap_err();
    assert!(early.to_string().contains("127.0.1.1:1"), "{early}");
    assert!(client.get(KEY).is_err());
    etcd.restart().unwrap();
    let second = registration.wait_updated(SOON).unwrap();
    assert!(second > first);
    assert!(value(&patient).contains("\"weight\":7"));
    registration.leave().unwrap();
    let late = registration.modify(|instance| instance.weight = 8);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
    let late = registration.wait_registered(SOON).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}

#[test]
fn a_drain_is_visible_before_the_instance_leaves() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    let registration = registrar(&client, 30).register(web(1)).unwrap();
    view.wait_for(1, SOON).unwrap();
    let grace = Duration::from_millis(700);
    let begun = Instant::now();
    let draining = registration.clone();
    let drained = std::thread::spawn(move || draining.drain(grace));
    eventually(SOON, "it is not picked any more", || {
        view.pick().is_none().then_some(())
    });
    assert_eq!(view.snapshot().len(), 1, "it finishes what it has");
    assert!(!drained.is_finished());
    drained.join().unwrap().unwrap();
    assert!(begun.elapsed() >= grace);
    assert_eq!(client.get(KEY).unwrap(), None);
    assert_eq!(removed(&view, "127.0.1.1:1"), Cause::Left);
    assert_eq!(registration.state(), State::Closed);

    // A wait fails when the registration ends.
    let registration = registrar(&client, 30).register(web(2)).unwrap();
    let draining = registration.clone();
    let drained = std::thread::spawn(move || draining.drain(10 * SOON));
    eventually(SOON, "it drains", || {
        (registration.state() == State::Draining).then_some(())
    });
    registration.leave().unwrap();
    eventually(SOON, "the drain is over", || {
        drained.is_finished().then_some(())
    });
    drained.join().unwrap().unwrap();
}

#[test]
fn only_the_drop_of_the_last_clone_leaves() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let first = registrar.register(web(1)).unwrap();
    let (second, third) = (first.clone(), first.clone());
    drop(first);
    drop(third);
    second.modify(|instance| instance.weight = 3).unwrap();
    second.wait_updated(SOON).unwrap();
    assert!(registered(&second.state()));
    drop(second);
    eventually(SOON, "its key is gone", || {
        client.get(KEY).unwrap().is_none().then_some(())
    });
}

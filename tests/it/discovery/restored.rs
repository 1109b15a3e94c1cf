//! Registrations are restored after a loss: of the key, of the lease, of the data, of the server.

use super::*;

// Fault: F18
#[test]
fn a_registration_is_restored_after_a_delete_an_overwrite_and_a_revoke() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registration = registrar(&client, 5).register(web(1)).unwrap();
    let key = "/services/web/127.0.1.1:1";
    let lease = |state: &State| match state {
        State::Registered { lease, .. } => *lease,
        other => panic!("{other:?}"),
    };
    let first = lease(&registration.state());

    let begun = Instant::now();
    client.delete(key).unwrap();
    let states = until(
        &registration,
        "restored after a delete",
        registered_after_loss(),
    );
    assert!(
        states.contains(&State::Lost {
            why: Loss::KeyDeleted
        }),
        "{states:?}"
    );
    println!("restored after a delete in {:?}", begun.elapsed());

    let begun = Instant::now();
    client.put(key, "rubbish").unwrap();
    let states = until(
        &registration,
        "restored after an overwrite",
        registered_after_loss(),
    );
    assert!(
        states.contains(&State::Lost {
            why: Loss::Overwritten
        }),
        "{states:?}"
    );
    println!("restored after an overwrite in {:?}", begun.elapsed());
    let kv = client.get(key).unwrap().unwrap();
    assert_eq!(kv.lease(), Some(first));
    assert!(kv.value_str().unwrap().contains("127.0.1.1:1"));

    let begun = Instant::now();
    client.revoke(first).unwrap();
    let states = until(
        &registration,
        "restored after a revoke",
        registered_after_loss(),
    );
    println!("restored after a revoke in {:?}", begun.elapsed());
    assert_ne!(lease(states.last().unwrap()), first, "with a new lease");
    assert!(client.get(key).unwrap().is_some());
}

// Fault: F4
#[test]
fn registrations_are_restored_in_a_store_that_lost_all_data() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    for n in 0..30 {
        client.put(format!("other/{n}"), "x").unwrap();
    }
    let view = Discovery::new(&client).service("web").unwrap();
    let registrar = registrar(&client, 10);
    let registrations = registrar.register_all((1..=20).map(web)).unwrap();
    view.wait_for(20, SOON).unwrap();
    etcd.kill().unwrap();
    etcd.wipe().unwrap();
    etcd.restart().unwrap();
    let opened = Instant::now();
    for registration in &registrations {
        until(registration, "registered again", registered_after_loss());
    }
    let registered = opened.elapsed();
    eventually(SOON, "the view follows, with everything in it", || {
        (view.staleness().is_none() && view.snapshot().len() == 20).then_some(())
    });
    println!(
        "20 registrations restored {registered:?} after the port was open, seen {:?}",
        opened.elapsed()
    );
    let again = Client::connect([etcd.endpoint()]).unwrap();
    assert_eq!(again.get_prefix("/services/web/").unwrap().len(), 20);
    let gone: Vec<_> = view
        .changes()
        .try_iter()
        .filter(|change| change.gone().next().is_some())
        .collect();
    assert!(
        gone.is_empty(),
        "all were restored before the view removed them: {gone:?}"
    );
}

#[test]
fn an_instance_that_is_not_restored_is_removed_by_a_resync() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    for n in 0..30 {
        client.put(format!("other/{n}"), "x").unwrap();
    }
    // This key has no registrar.
    client
        .put("/services/web/orphan", r#"{"addr":"127.0.1.9:9"}"#)
        .unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    let kept = registrar(&client, 10).register(web(1)).unwrap();
    view.wait_for(2, SOON).unwrap();
    etcd.restart_wiped().unwrap();
    assert_eq!(removed(&view, "orphan"), Cause::Resync);
    let left: Vec<_> = view.snapshot().iter().map(|i| i.id.clone()).collect();
    assert_eq!(left, ["127.0.1.1:1"]);
    eventually(SOON, "the view follows again", || {
        view.staleness().is_none().then_some(())
    });
    assert!(registered(&kept.state()));
}

// Fault: F3
#[test]
fn a_restart_with_kept_data_loses_no_instance_and_empties_no_view() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    let registration = registrar(&client, 10).register(web(1)).unwrap();
    view.wait_for(1, SOON).unwrap();
    etcd.kill().unwrap();
    eventually(SOON, "the view is stale", || view.staleness());
    assert_eq!(view.snapshot().len(), 1, "the last good list is kept");
    etcd.restart().unwrap();
    let opened = Instant::now();
    eventually(SOON, "the view follows again", || {
        view.staleness().is_none().then_some(())
    });
    println!(
        "the view follows again {:?} after the port was open",
        opened.elapsed()
    );
    let put = client
        .put("/services/web/127.0.1.1:7", r#"{"addr":"127.0.1.1:7"}"#)
        .unwrap();
    assert_eq!(view.wait_revision(put.revision(), SOON).unwrap().len(), 2);
    assert!(
        registered(&registration.state()),
        "{:?}",
        registration.state()
    );
    assert!(
        view.changes()
            .try_iter()
            .all(|change| change.gone().next().is_none()),
        "nothing was removed"
    );
}

// Fault: F17
#[test]
fn a_registration_on_a_paused_server_is_suspect_then_lost_then_registered() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registration = registrar(&client, 2).register(web(1)).unwrap();
    etcd.pause().unwrap();
    until(&registration, "suspect", |state| {
        matches!(state, State::Suspect { .. })
    });
    until(&registration, "lost", |state| {
        matches!(state, State::Lost { .. })
    });
    etcd.resume().unwrap();
    until(&registration, "registered again", registered);
    assert!(client.get("/services/web/127.0.1.1:1").unwrap().is_some());
}

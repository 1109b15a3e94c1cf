//! Several registrations of one instance.

use super::*;

#[test]
fn leaving_does_not_delete_the_key_of_a_successor() {
    let etcd = LocalEtcd::start().unwrap();
    let (old, new) = (client(&etcd), client(&etcd));
    let view = Discovery::new(&old).service("web").unwrap();
    let first = registrar(&old, 5).register(web(1).version("1")).unwrap();
    let second = registrar(&new, 5).register(web(1).version("2")).unwrap();
    until(&first, "replaced", |state| {
        matches!(
            state,
            State::Lost {
                why: Loss::Replaced { .. }
            }
        )
    });
    eventually(SOON, "the view shows the successor", || {
        (view.snapshot().first()?.version == "2").then_some(())
    });
    first.leave().unwrap();
    let kv = old
        .get("/services/web/127.0.1.1:1")
        .unwrap()
        .expect("the successor's key is still there");
    assert!(kv.value_str().unwrap().contains("\"version\":\"2\""));
    assert!(registered(&second.state()));
}

#[test]
fn a_replaced_registration_is_restored_when_the_successor_leaves() {
    let etcd = LocalEtcd::start().unwrap();
    let (old, new) = (client(&etcd), client(&etcd));
    let first = registrar(&old, 5).register(web(1)).unwrap();
    let second = registrar(&new, 5).register(web(1)).unwrap();
    until(&first, "replaced", |state| {
        matches!(
            state,
            State::Lost {
                why: Loss::Replaced { .. }
            }
        )
    });
    second.leave().unwrap();
    until(&first, "registered again", registered);
}

#[test]
fn each_conflict_policy_has_its_documented_effect() {
    let etcd = LocalEtcd::start().unwrap();
    let (holder, other) = (client(&etcd), client(&etcd));
    let held = registrar(&holder, 5).register(web(1)).unwrap();
    let with = |policy| {
        Registrar::builder(&other)
            .on_conflict(policy)
            .start()
            .unwrap()
    };
    let refused = with(OnConflict::Fail).register(web(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("127.0.1.1:1"), "{refused}");
    assert!(registered(&held.state()));

    let waiting = with(OnConflict::WaitForExpiry).announce(web(1)).unwrap();
    assert_eq!(
        waiting
            .wait_registered(Duration::from_millis(300))
            .unwrap_err()
            .kind(),
        ErrorKind::Timeout
    );
    held.leave().unwrap();
    waiting.wait_registered(SOON).unwrap();
}

#[test]
fn one_registrar_does_not_register_an_instance_twice() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 5);
    let _first = registrar.register(web(1)).unwrap();
    assert_eq!(
        registrar.register(web(1)).unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

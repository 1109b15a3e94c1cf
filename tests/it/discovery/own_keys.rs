//! A registrar watches its own keys, whatever their number.

use super::*;

fn keys(client: &Client) -> usize {
    let count = client.call(etcd_blocking::Get::prefix("/services/").count_only());
    usize::try_from(count.unwrap().count()).unwrap()
}

// Fault: R10, S5
#[test]
fn keys_deleted_right_after_a_restore_are_restored_at_once() {
    const MANY: u16 = 1_000;
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let registrations = registrar.register_all((1..=MANY).map(web)).unwrap();
    let all_are = |what: &str, wanted: &dyn Fn(&State) -> bool| {
        eventually(SOON, what, || {
            let mut states = registrations.iter().map(Registration::state);
            states.all(|state| wanted(&state)).then_some(())
        });
    };
    let State::Registered { lease, .. } = registrations[0].state() else {
        panic!("{:?}", registrations[0].state());
    };
    client.revoke(lease).unwrap();
    all_are(
        "all under another lease",
        &|state| matches!(state, State::Registered { lease: now, .. } if *now != lease),
    );
    assert_eq!(keys(&client), usize::from(MANY));
    for n in 1..=40 {
        client
            .delete(format!("/services/web/127.0.1.1:{n}"))
            .unwrap();
    }
    eventually(SOON, "the deleted keys are restored", || {
        (keys(&client) == usize::from(MANY)).then_some(())
    });
    client
        .call(Delete::prefix("/services/web/127.0.1.1:1"))
        .unwrap();
    eventually(SOON, "all keys of the prefix are restored", || {
        (keys(&client) == usize::from(MANY)).then_some(())
    });
    all_are("registered", &registered);
    assert_eq!(client.metrics().watches.pauses, 0);
}

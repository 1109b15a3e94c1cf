//! Overrides of operators in plain keys.

use etcd_blocking::{Override, Status};

use super::*;

const KEY: &str = "/services/.ctl/web/127.0.1.1:1";

/// The status and the weight of the only instance of a view.
fn shown(view: &ServiceView) -> Option<(Status, u32)> {
    let snapshot = view.snapshot();
    let instance = snapshot.first()?;
    Some((instance.status, instance.weight))
}

#[test]
fn an_override_changes_a_registered_instance_until_it_is_deleted() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let registration = registrar.register(web(1).weight(7)).unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    assert_eq!(shown(&view), Some((Status::Up, 7)));
    for (value, expected) in [
        ("draining", (Status::Draining, 7)),
        ("maintenance weight=0", (Status::Maintenance, 0)),
        ("weight=3", (Status::Up, 3)),
    ] {
        client.put(KEY, value).unwrap();
        eventually(SOON, "the override is applied", || {
            (shown(&view) == Some(expected)).then_some(())
        });
    }
    // The program's own changes are kept below it.
    registration.modify(|web| web.weight = 9).unwrap();
    registration.set_status(Status::OutOfService).unwrap();
    registration.wait_updated(SOON).unwrap();
    client.delete(KEY).unwrap();
    eventually(SOON, "the instance is as its program set it", || {
        (shown(&view) == Some((Status::OutOfService, 9))).then_some(())
    });
    assert!(registration.last_error().is_none());
    assert_eq!(registration.instance().weight, 9);
}

#[test]
fn an_override_holds_from_the_first_write_of_the_next_process_on() {
    let etcd = LocalEtcd::start().unwrap();
    let (client, other) = (client(&etcd), client(&etcd));
    let key = Override::key("/services/", "web", "127.0.1.1:1");
    assert_eq!(key, KEY);
    let maintenance = Override::new().status(Status::Maintenance);
    client.put(key, maintenance.to_string()).unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    let changes = view.changes();
    let registrar = registrar(&other, 30);
    let registration = registrar.register(web(1)).unwrap();
    let first = changes.recv_timeout(SOON).unwrap();
    let Change::Added(instance) = &first else {
        panic!("{first:?}");
    };
    assert_eq!(instance.status, Status::Maintenance);
    assert_eq!(instance.reason, "set by an operator");

    // It survives the loss of the lease.
    let State::Registered { lease, .. } = registration.state() else {
        panic!("{:?}", registration.state());
    };
    let before = registration.revision();
    client.revoke(lease).unwrap();
    eventually(SOON, "registered again", || {
        let is_back = registered(&registration.state()) && registration.revision() > before;
        (is_back && shown(&view) == Some((Status::Maintenance, 1))).then_some(())
    });
}

/// An instance that no registrar of this crate keeps.
fn foreign(client: &Client, n: u16) {
    let value = format!(r#"{{"addr":"127.0.1.1:{n}","weight":7}}"#);
    client
        .put(format!("/services/web/127.0.1.1:{n}"), value)
        .unwrap();
}

#[test]
fn views_apply_overrides_to_instances_of_other_programs() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    foreign(&client, 1);
    foreign(&client, 2);
    let discovery = Discovery::new(&client);
    let (view, second) = (
        discovery.service("web").unwrap(),
        discovery.service("web").unwrap(),
    );
    let of_other = discovery.service("other").unwrap();
    let catalog = discovery.services().unwrap();
    let of_catalog = catalog.service("web").unwrap();
    let all = |expected: (Status, u32)| {
        [&view, &second, &of_catalog]
            .iter()
            .all(|view| shown(view) == Some(expected))
    };
    assert!(all((Status::Up, 7)));
    let changes = view.changes();
    assert!(matches!(
        changes.recv_timeout(SOON).unwrap(),
        Change::Reset { .. }
    ));
    client.put(KEY, "maintenance weight=3").unwrap();
    eventually(SOON, "all views show it", || {
        all((Status::Maintenance, 3)).then_some(())
    });
    let Change::Updated { instance, before } = changes.recv_timeout(SOON).unwrap() else {
        panic!("it is an update");
    };
    assert_eq!(
        (before.status, instance.status),
        (Status::Up, Status::Maintenance)
    );
    let picked: Vec<_> = (0..4).filter_map(|_| view.pick()).collect();
    assert!(picked.len() == 4 && picked.iter().all(|one| one.id == "127.0.1.1:2"));
    // The instance changes below the override, and a view that opens later shows it too.
    let value = r#"{"addr":"127.0.1.1:1","weight":9,"version":"2"}"#;
    client.put("/services/web/127.0.1.1:1", value).unwrap();
    eventually(SOON, "the new version", || {
        (view.snapshot()[0].version == "2" && all((Status::Maintenance, 3))).then_some(())
    });
    let late = discovery.service("web").unwrap();
    assert_eq!(shown(&late), Some((Status::Maintenance, 3)));
    client.delete(KEY).unwrap();
    eventually(SOON, "as it is registered", || {
        all((Status::Up, 9)).then_some(())
    });
    assert!(of_other.snapshot().is_empty());
}

#[test]
fn a_malformed_override_is_ignored_and_reported() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let registration = registrar.register(web(1)).unwrap();
    client.put(KEY, "secret").unwrap();
    let error = eventually(SOON, "the reason is known", || registration.last_error());
    let text = error.to_string();
    assert!(
        text.starts_with("read the override /services/.ctl/web/127.0.1.1:1: "),
        "{text}"
    );
    assert!(
        text.contains("weight=5") && !text.contains("secret"),
        "{text}"
    );
    assert!(registered(&registration.state()));
    client.put(KEY, "draining").unwrap();
    eventually(SOON, "no error is left", || {
        (registration.last_error().is_none() && registration.state() == State::Draining)
            .then_some(())
    });
}

#[test]
fn a_registrar_without_permission_for_overrides_works_without_them() {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let anybody = client(&etcd);
    anybody.auth().role_add("web").unwrap();
    let range = KeyRange::prefix("/services/web/");
    let permission = etcd_blocking::auth::Permission::read_write(range);
    anybody
        .auth()
        .role_grant_permission("web", permission)
        .unwrap();
    for name in ["web", "root"] {
        anybody.auth().user_add(name, "pw").unwrap();
        anybody.auth().user_grant_role(name, name).unwrap();
    }
    anybody.auth().enable().unwrap();
    let user = Client::builder([etcd.endpoint()]).allow_plaintext_credentials();
    let user = user.user("web", "pw").connect().unwrap();
    let registration = registrar(&user, 30).register(web(1)).unwrap();
    assert!(registered(&registration.state()));
    assert!(
        registration.last_error().is_none(),
        "{:?}",
        registration.last_error()
    );
}

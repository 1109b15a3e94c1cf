//! Registrations that etcd refuses, beside registrations that it accepts.

use etcd_blocking::ClientBuilder;
use etcd_blocking::auth::Permission;
use etcd_blocking::metrics::CallMetrics;

use super::*;
use crate::support::server::{Version, skip_before};

/// Releases in which each part of a nested transaction needs a permission.
const NO_WAY_AROUND: &[Version] = &[Version(3, 4, 44), Version(3, 5, 30), Version(3, 6, 11)];

fn builder(etcd: &LocalEtcd) -> ClientBuilder {
    Client::builder([etcd.endpoint()]).allow_plaintext_credentials()
}

fn user(etcd: &LocalEtcd, name: &str) -> Client {
    builder(etcd).user(name, "pw").connect().unwrap()
}

/// An etcd whose user `web` may read and write everything below `/services/web/`, and a client of root.
fn etcd_of_web() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4");
    let etcd = etcd.start().unwrap();
    let anybody = client(&etcd);
    anybody.auth().role_add("web").unwrap();
    permit(&anybody, "/services/web/");
    for name in ["web", "root"] {
        anybody.auth().user_add(name, "pw").unwrap();
        anybody.auth().user_grant_role(name, name).unwrap();
    }
    anybody.auth().enable().unwrap();
    let root = user(&etcd, "root");
    root.auth().user_list().unwrap();
    (etcd, root)
}

fn permit(root: &Client, prefix: &'static str) {
    let permission = Permission::read_write(KeyRange::prefix(prefix));
    root.auth()
        .role_grant_permission("web", permission)
        .unwrap();
}

fn admin(n: u16) -> Instance {
    Instance::new("admin", format!("127.0.1.2:{n}"))
}

fn is_there(root: &Client, n: u16) -> bool {
    let key = format!("/services/web/127.0.1.1:{n}");
    root.get(key).unwrap().is_some()
}

// Fault: R1, R4
#[test]
fn a_refused_instance_does_not_affect_other_instances() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let (etcd, root) = etcd_of_web();
    let client = user(&etcd, "web");
    let registrar = registrar(&client, 30);
    let first = registrar.register(web(1)).unwrap();
    let begun = Instant::now();
    let refused = registrar.register(admin(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    assert!(
        refused.to_string().starts_with("register 127.0.1.2:1: "),
        "{refused}"
    );
    assert!(begun.elapsed() < client.timeout(), "it did not wait");

    // An announced instance is retried, and reports the reason.
    let culprit = registrar.announce(admin(2)).unwrap();
    eventually(SOON, "the reason is known", || {
        let error = culprit.last_error()?;
        (error.kind() == ErrorKind::PermissionDenied).then_some(())
    });
    assert_eq!(culprit.state(), State::Starting);

    // An operator deletes a key, another registers, one leaves.
    let put_at = first.revision();
    root.delete("/services/web/127.0.1.1:1").unwrap();
    let second = registrar.register(web(2)).unwrap();
    eventually(SOON, "the key is back", || {
        (is_there(&root, 1) && first.revision() > put_at).then_some(())
    });
    second.leave().unwrap();
    assert!(!is_there(&root, 2));
    first.update(web(1).version("2")).unwrap();
    eventually(SOON, "the update is there", || {
        let kv = root.get("/services/web/127.0.1.1:1").unwrap()?;
        kv.value_str()?.contains("\"version\":\"2\"").then_some(())
    });
    // The lease is lost: every instance but the refused one is restored.
    let State::Registered { lease, .. } = first.state() else {
        panic!("{:?}", first.state());
    };
    let put_at = first.revision();
    root.revoke(lease).unwrap();
    eventually(SOON, "back under another lease", || {
        (is_there(&root, 1) && first.revision() > put_at && registered(&first.state()))
            .then_some(())
    });
    assert!(first.last_error().is_none(), "{:?}", first.last_error());

    // With the permission, the refused instance is registered.
    permit(&root, "/services/admin/");
    culprit.wait_registered(SOON).unwrap();
    assert!(culprit.last_error().is_none());
}

// Fault: R1
#[test]
fn many_refused_instances_cost_a_few_transactions_once() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let (etcd, root) = etcd_of_web();
    let client = user(&etcd, "web");
    let registrar = registrar(&client, 30);
    let transactions = || {
        let metrics = client.metrics();
        let of = |call: &CallMetrics| call.ok + call.errors.iter().map(|(_, n)| n).sum::<u64>();
        metrics.call("txn").map_or(0, of)
    };
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for n in 1..=300 {
        good.push(registrar.announce(web(n)).unwrap());
        if n % 100 == 50 {
            bad.push(registrar.announce(admin(n)).unwrap());
        }
    }
    for registration in &good {
        registration.wait_registered(SOON).unwrap();
    }
    for registration in &bad {
        let error = registration.wait_registered(Duration::from_millis(500));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    // All keys are deleted: the refused instances delay no other, and cost only their own attempts.
    let put_at: Vec<_> = good.iter().map(Registration::revision).collect();
    let before = transactions();
    let begun = Instant::now();
    root.call(Delete::prefix("/services/web/")).unwrap();
    for (registration, put_at) in good.iter().zip(put_at) {
        eventually(SOON, "it is back", || {
            (registration.revision() > put_at).then_some(())
        });
    }
    let used = transactions() - before;
    println!("300 back in {:?} with {used} transactions", begun.elapsed());
    let culprits_tries = 3 * (2 + begun.elapsed().as_millis() as u64 / 100);
    assert!(
        (3..=30 + culprits_tries).contains(&used),
        "{used} transactions"
    );
}

// Fault: R1
#[test]
fn a_refused_delete_is_abandoned_and_reported() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let (etcd, root) = etcd_of_web();
    permit(&root, "/services/admin/");
    let client = user(&etcd, "web");
    let registrar = registrar(&client, 3);
    let stays = registrar.register(web(1)).unwrap();
    let goes = registrar.register(admin(1)).unwrap();
    let range = KeyRange::prefix("/services/admin/");
    root.auth().role_revoke_permission("web", range).unwrap();
    let error = goes.leave().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(
        error.to_string().starts_with("leave 127.0.1.2:1: "),
        "{error}"
    );
    eventually(SOON, "the other one stays", || {
        (registered(&stays.state()) && is_there(&root, 1)).then_some(())
    });
    eventually(SOON, "the key goes with its lease", || {
        let gone = root.get_prefix("/services/admin/").unwrap().is_empty();
        gone.then_some(())
    });
    stays.leave().unwrap();
    assert!(!is_there(&root, 1));
}

// Fault: N6
#[test]
fn a_revoked_permission_affects_one_instance_only() {
    let since = [
        Version(3, 4, 44),
        Version(3, 5, 30),
        Version(3, 6, 11),
        Version(3, 7, 0),
    ];
    if skip_before(&since, "a lease needs no permission") {
        return;
    }
    let (etcd, root) = etcd_of_web();
    permit(&root, "/services/admin/");
    let client = user(&etcd, "web");
    let registrar = registrar(&client, 6);
    let good = registrar.register_all((1..=150).map(web)).unwrap();
    let culprit = registrar.register(admin(1)).unwrap();
    let range = KeyRange::prefix("/services/admin/");
    root.auth().role_revoke_permission("web", range).unwrap();
    // The lease is denied as a whole: the other instances move to a new lease before it ends.
    until(&culprit, "lost", |state| {
        matches!(state, State::Lost { .. })
    });
    assert_eq!(
        culprit.last_error().map(|error| error.kind()),
        Some(ErrorKind::PermissionDenied)
    );
    for registration in &good {
        assert!(
            registered(&registration.state()),
            "{:?}",
            registration.state()
        );
        let lost = registration.states().try_iter();
        let lost: Vec<_> = lost
            .filter(|state| matches!(state, State::Lost { .. }))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    assert_eq!(root.get_prefix("/services/web/").unwrap().len(), 150);
    eventually(SOON, "the key goes with its lease", || {
        let gone = root.get_prefix("/services/admin/").unwrap().is_empty();
        gone.then_some(())
    });
    // Restoring and leaving work as before.
    let put_at = good[0].revision();
    root.delete("/services/web/127.0.1.1:1").unwrap();
    eventually(SOON, "the key is back", || {
        (good[0].revision() > put_at && is_there(&root, 1)).then_some(())
    });
    permit(&root, "/services/admin/");
    until(&culprit, "registered again", registered);
}

// Fault: N6
#[test]
fn a_key_is_restored_at_once_next_to_a_key_without_permission() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let (etcd, root) = etcd_of_web();
    permit(&root, "/services/admin/");
    let client = user(&etcd, "web");
    // A long TTL, so that no renewal is due in this test.
    let registrar = registrar(&client, 300);
    let good = registrar.register_all((1..=20).map(web)).unwrap();
    let culprit = registrar.register(admin(1)).unwrap();
    let range = KeyRange::prefix("/services/admin/");
    root.auth().role_revoke_permission("web", range).unwrap();
    root.call(Delete::prefix("/services/web/")).unwrap();
    eventually(SOON, "all are back", || {
        (root.get_prefix("/services/web/").unwrap().len() == 20).then_some(())
    });
    eventually(
        SOON,
        "an instance that cannot move is suspect, with the reason",
        || {
            let error = culprit.last_error()?;
            let suspect = matches!(culprit.state(), State::Suspect { .. });
            (suspect && error.kind() == ErrorKind::PermissionDenied).then_some(())
        },
    );
    drop(good);
    eventually(SOON, "all have left", || {
        let left = root.get_prefix("/services/web/").unwrap().is_empty();
        left.then_some(())
    });
}

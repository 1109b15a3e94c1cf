//! Instances that are registered in several formats.

use std::collections::BTreeMap;

use etcd_blocking::{EventKind, Override, Revision, Status};

use super::*;

/// The prefixes of three formats.
const PREFIXES: [&str; 3] = ["/services/", "/copy/", "/go/"];

/// A registrar that writes JSON below two prefixes, and addresses below a third.
fn in_three_formats(client: &Client, secs: u64) -> Registrar {
    Registrar::builder(client)
        .ttl(Duration::from_secs(secs))
        .add_codec(codec::Native)
        .prefix(PREFIXES[1])
        .add_codec(codec::Plain)
        .prefix(PREFIXES[2])
        .start()
        .unwrap()
}

/// The keys of all formats with their values, creation and last change.
fn stored(client: &Client) -> Vec<(String, String, [i64; 2])> {
    let kvs = PREFIXES.map(|prefix| client.get_prefix(prefix).unwrap());
    let kvs = kvs.iter().flatten().map(|kv| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let revisions = [kv.create_revision().get(), kv.mod_revision().get()];
        (text(kv.key()), text(kv.value()), revisions)
    });
    kvs.collect()
}

fn keys(client: &Client) -> Vec<String> {
    stored(client).into_iter().map(|(key, ..)| key).collect()
}

const ALL: [&str; 3] = [
    "/services/web/127.0.1.1:1",
    "/copy/web/127.0.1.1:1",
    "/go/web/127.0.1.1:1",
];

/// The one revision at which all keys were put.
fn put_at(client: &Client) -> i64 {
    let stored = stored(client);
    let at = stored[0].2[0];
    assert!(
        stored.iter().all(|(.., [created, _])| *created == at),
        "{stored:?}"
    );
    at
}

#[test]
fn all_formats_of_an_instance_appear_change_and_vanish_at_one_revision() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = in_three_formats(&client, 30);
    let watcher = client.watch_prefix("/").unwrap();
    let registration = registrar.register(web(1)).unwrap();
    assert_eq!(keys(&client), ALL);
    assert_eq!(
        Some(put_at(&client)),
        registration.revision().map(Revision::get)
    );
    let many = registrar.register_all((2..=150).map(web)).unwrap();
    for registration in &many {
        registration.set_status(Status::Maintenance).unwrap();
    }
    for registration in &many {
        registration.wait_updated(SOON).unwrap();
    }
    registrar.leave_all().unwrap();
    assert_eq!(keys(&client), [""; 0]);
    // Each revision changes each instance in all formats or in none.
    let mut revisions: BTreeMap<i64, BTreeMap<String, usize>> = BTreeMap::new();
    let mut open = 3 * 150;
    let until = Instant::now() + SOON;
    while open > 0 {
        let left = until.saturating_duration_since(Instant::now());
        let response = watcher.recv_timeout(left).unwrap().unwrap();
        for event in response.events() {
            let key = String::from_utf8(event.kv().key().to_vec()).unwrap();
            let (_, id) = key.rsplit_once('/').unwrap();
            let of_revision = revisions.entry(event.revision().get()).or_default();
            *of_revision.entry(id.to_owned()).or_default() += 1;
            open -= usize::from(event.kind() == EventKind::Delete);
        }
    }
    for (revision, instances) in revisions {
        assert!(
            instances.values().all(|formats| *formats >= 2),
            "{revision}: {instances:?}"
        );
    }
}

#[test]
fn a_format_without_a_status_has_no_key_while_the_instance_takes_no_calls() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = in_three_formats(&client, 30);
    let registration = registrar.register(web(1).status(Status::Starting)).unwrap();
    assert_eq!(keys(&client), ALL[..2]);
    registration.set_status(Status::Up).unwrap();
    let up_at = registration.wait_updated(SOON).unwrap();
    assert_eq!(keys(&client), ALL);
    let stored_at_up: Vec<i64> = stored(&client).iter().map(|(.., at)| at[1]).collect();
    assert_eq!(stored_at_up, [up_at.get(); 3], "one transaction");
    assert!(registered(&registration.state()));
    registration.drain(Duration::ZERO).unwrap();
    assert_eq!(keys(&client), [""; 0]);

    // In the only format, the instance is withdrawn.
    let registrar = Registrar::builder(&client)
        .codec(codec::Plain)
        .prefix("/go/");
    let registrar = registrar.start().unwrap();
    let starting = registrar.register(web(2).status(Status::Starting)).unwrap();
    assert_eq!(starting.state(), State::Withdrawn);
    starting.set_status(Status::Up).unwrap();
    let put_at = starting.wait_registered(SOON).unwrap();
    assert_eq!(keys(&client), ["/go/web/127.0.1.1:2"]);
    assert_eq!(put_at.get(), stored(&client)[0].2[1]);
    starting.leave().unwrap();
    let operators = Override::new().status(Status::Maintenance).to_string();
    let key = Override::key("/go/", "web", "127.0.1.1:3");
    client.put(key.as_str(), operators).unwrap();
    // A registrar reads the overrides before its first write.
    let another = Registrar::builder(&client)
        .codec(codec::Plain)
        .prefix("/go/");
    let another = another.start().unwrap();
    let in_maintenance = another.register(web(3)).unwrap();
    assert_eq!(in_maintenance.state(), State::Withdrawn);
    client.delete(key).unwrap();
    eventually(SOON, "it is registered without the override", || {
        registered(&in_maintenance.state()).then_some(())
    });
    in_maintenance.leave().unwrap();
    let registration = registrar.register(web(1)).unwrap();
    registration.set_status(Status::OutOfService).unwrap();
    registration.wait_updated(SOON).unwrap();
    assert_eq!(registration.state(), State::Withdrawn);
    assert_eq!(keys(&client), [""; 0]);
    registration.set_status(Status::Up).unwrap();
    registration.wait_updated(SOON).unwrap();
    assert!(registered(&registration.state()));
    assert_eq!(keys(&client), ALL[2..]);
    let lost = registration.states().try_iter();
    let lost: Vec<_> = lost
        .filter(|state| matches!(state, State::Lost { .. }))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_key_that_is_deleted_or_overwritten_is_restored_in_its_format() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = in_three_formats(&client, 30);
    let registration = registrar.register(web(1)).unwrap();
    let whole = stored(&client);
    for (key, value, _) in &whole {
        for write in ["", "junk"] {
            let before = registration.revision();
            match write {
                "" => drop(client.delete(key.as_str()).unwrap()),
                junk => drop(client.put(key.as_str(), junk).unwrap()),
            }
            eventually(SOON, "the key is back", || {
                let kv = client.get(key.as_str()).unwrap()?;
                let is_back = kv.value() == value && registration.revision() > before;
                (is_back && registered(&registration.state())).then_some(())
            });
        }
    }
    let others = stored(&client);
    let same = whole
        .iter()
        .zip(&others)
        .all(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1));
    assert!(same, "{others:?}");
}

#[test]
fn all_formats_return_together_after_a_lost_lease_and_a_lost_store() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = in_three_formats(&client, 30);
    let registration = registrar.register(web(1)).unwrap();
    let first = put_at(&client);
    let State::Registered { lease, .. } = registration.state() else {
        panic!("{:?}", registration.state());
    };
    client.revoke(lease).unwrap();
    eventually(SOON, "all are back", || {
        (keys(&client) == ALL).then_some(())
    });
    assert!(put_at(&client) > first);

    etcd.restart_wiped().unwrap();
    eventually(SOON, "all are back in an empty store", || {
        (keys(&client) == ALL && registered(&registration.state())).then_some(())
    });
    put_at(&client);
}

#[test]
fn two_formats_with_one_key_are_refused() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = Registrar::builder(&client).add_codec(codec::Native);
    let registrar = registrar.start().unwrap();
    let error = registrar.register(web(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(
        text.contains("native and native") && text.contains("another prefix"),
        "{text}"
    );
}

#[test]
fn an_id_that_the_first_format_cannot_store_is_refused() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let named = || web(1).id("web-1");
    let registrar = Registrar::builder(&client)
        .codec(codec::Plain)
        .add_codec(codec::Native);
    let error = registrar.start().unwrap().register(named()).unwrap_err();
    assert!(error.to_string().contains("cannot store an id"), "{error}");
    let registration = in_three_formats(&client, 30).register(named()).unwrap();
    let keys = keys(&client);
    assert_eq!(
        keys,
        [
            "/services/web/web-1",
            "/copy/web/web-1",
            "/go/web/127.0.1.1:1"
        ]
    );
    registration.leave().unwrap();
}

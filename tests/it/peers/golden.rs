//! What each library writes, put into etcd as it does, and what this crate writes in the same format.
//!
//! For the libraries whose programs are not run here, this is what shows both directions.

use std::collections::BTreeSet;

use etcd_blocking::{Cause, LeaseId, Put, Status, codec};

use super::*;

/// Each format with the records that its library wrote.
const GOLDEN: [(&str, &str); 9] = [
    (
        "go-naming",
        include_str!("../../../src/discovery/codec/golden/go-naming.txt"),
    ),
    (
        "go-zero",
        include_str!("../../../src/discovery/codec/golden/go-zero.txt"),
    ),
    (
        "kratos",
        include_str!("../../../src/discovery/codec/golden/kratos.txt"),
    ),
    (
        "kitex",
        include_str!("../../../src/discovery/codec/golden/kitex.txt"),
    ),
    (
        "hertz",
        include_str!("../../../src/discovery/codec/golden/hertz.txt"),
    ),
    (
        "rpcx",
        include_str!("../../../src/discovery/codec/golden/rpcx.txt"),
    ),
    (
        "go-micro",
        include_str!("../../../src/discovery/codec/golden/go-micro.txt"),
    ),
    (
        "dubbo-go",
        include_str!("../../../src/discovery/codec/golden/dubbo-go.txt"),
    ),
    (
        "skydns",
        include_str!("../../../src/discovery/codec/golden/skydns.txt"),
    ),
];

/// The prefix of the records.
fn prefix(name: &str) -> String {
    match name {
        "skydns" => "/skydns/local/".to_owned(),
        name => codec::by_name(name).unwrap().default_prefix().to_owned(),
    }
}

fn view(client: &Client, name: &str) -> ServiceView {
    let discovery = discovery(client, codec::by_name(name).unwrap());
    discovery.prefix(prefix(name)).service("web").unwrap()
}

fn lease(client: &Client) -> LeaseId {
    client.grant(Duration::from_secs(600)).unwrap().id()
}

fn removed(view: &ServiceView) -> Cause {
    until(view, "a removal", |change| match change {
        Change::Removed { cause, .. } => Some(*cause),
        _ => None,
    })
}

/// A value that no format can read.
const MALFORMED: &[u8] = b"{\"secret\": \xff";

#[test]
fn a_view_follows_what_each_library_writes() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    for (name, golden) in GOLDEN {
        let view = view(&client, name);
        let lines = golden.lines().filter(|line| !line.starts_with('#'));
        let records: Vec<_> = lines.map(|line| line.split_once(' ').unwrap()).collect();
        let alive = lease(&client);
        let put = |key: &str, value: &str, lease: LeaseId| {
            client.call(Put::new(key, value).lease(lease)).unwrap();
        };
        // As the library does: an instance appears, and changes where there are two records of one key.
        let mut seen = BTreeSet::new();
        for (key, value) in &records {
            put(key, value, alive);
            if !key.contains("/web/") && !key.starts_with("web/") {
                continue;
            }
            let known = !seen.insert(*key);
            let instance = until(&view, name, |change| match change {
                Change::Added(instance) if !known => Some(instance.clone()),
                Change::Updated { instance, .. } if known => Some(instance.clone()),
                Change::Bad { reason, .. } => panic!("{name}: {reason}"),
                _ => None,
            });
            assert!(instance.addr.starts_with("10.0.0."), "{name}: {instance:?}");
        }
        // A malformed value is reported, and hides nothing.
        let (key, value) = *records.last().unwrap();
        let malformed = format!("{key}-malformed");
        client.put(&malformed, MALFORMED).unwrap();
        until(&view, name, |change| match change {
            Change::Bad { key, reason } if *key == malformed => {
                assert!(!reason.contains("secret"), "{name}: {reason}");
                Some(())
            }
            _ => None,
        });
        assert_eq!(view.snapshot().len(), seen.len(), "{name}");
        // It leaves by deleting its key, or crashes and its lease ends.
        client.delete(key).unwrap();
        assert_eq!(removed(&view), Cause::Left, "{name}");
        let crashing = lease(&client);
        put(key, value, crashing);
        let added = |change: &Change| matches!(change, Change::Added(_)).then_some(());
        until(&view, name, added);
        client.revoke(crashing).unwrap();
        assert_eq!(removed(&view), Cause::Expired, "{name}");
        client.revoke(alive).unwrap();
        client.delete(&malformed).unwrap();
    }
}

#[test]
fn an_instance_of_ours_comes_changes_and_goes_in_each_format() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    for codec in codec::all() {
        let name = codec.name().to_owned();
        let registrar = Registrar::builder(&client).codec(codec);
        let registrar = registrar.prefix(prefix(&name)).start().unwrap();
        let view = view(&client, &name);
        let web = Instance::new("web", "10.0.0.5:8080")
            .weight(7)
            .zone("eu")
            .version("1");
        let registration = registrar.register(web.meta("team", "core")).unwrap();
        let added = until(&view, &name, |change| match change {
            Change::Added(added) => Some(added.clone()),
            _ => None,
        });
        assert_eq!(
            (added.addr.as_str(), added.id.as_str()),
            ("10.0.0.5:8080", "10.0.0.5:8080")
        );

        // Readers stop calling it, whether the format has a status or not.
        registration.set_status(Status::OutOfService).unwrap();
        until(&view, &name, |change| match change {
            Change::Updated { instance, .. } => {
                assert_eq!(instance.status, Status::OutOfService, "{name}");
                assert!(["native", "rpcx"].contains(&name.as_str()), "{name}");
                Some(())
            }
            Change::Removed { cause, .. } => {
                assert_eq!(*cause, Cause::Left, "{name}");
                Some(())
            }
            _ => None,
        });
        assert!(view.pick().is_none(), "{name}");
        registration.set_status(Status::Up).unwrap();
        until(&view, &name, |change| match change {
            Change::Updated { instance, .. } => Some(instance.clone()),
            Change::Added(instance) => Some(instance.clone()),
            _ => None,
        });
        assert!(view.pick().is_some(), "{name}");
        registration.leave().unwrap();
        assert_eq!(removed(&view), Cause::Left, "{name}");
        assert_eq!(client.get_prefix("").unwrap().len(), 0, "{name}");
    }
}

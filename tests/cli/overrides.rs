//! The verbs `drain`, `undrain` and `weight`.

use std::thread;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, Registrar, Status};

use crate::list::put;
use crate::program::{Ended, SOON, command_for, run};
use crate::support::wait::eventually;

fn did(etcd: &LocalEtcd, args: &[&str]) -> Ended {
    run(&mut command_for(etcd, args))
}

/// The lines of a verb that succeeds.
#[track_caller]
fn lines(etcd: &LocalEtcd, args: &[&str]) -> String {
    let ended = did(etcd, args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.stdout
}

#[test]
fn a_status_and_a_weight_keep_each_other() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    put(&client, "web", "b", r#""addr":"10.0.0.6:80""#);
    let value = || {
        let kv = client.get("/services/.ctl/web/a").unwrap();
        kv.map(|kv| String::from_utf8(kv.value().to_vec()).unwrap())
    };
    assert_eq!(
        lines(&etcd, &["drain", "web", "a"]),
        "web a: draining (before: nothing)\n"
    );
    assert_eq!(value().as_deref(), Some("draining"));
    let line = lines(&etcd, &["weight", "web", "a", "7"]);
    assert_eq!(line, "web a: draining weight=7 (before: draining)\n");
    assert_eq!(value().as_deref(), Some("draining weight=7"));
    let args = [
        "drain",
        "web",
        "--addr",
        "10.0.0.5:80",
        "--status",
        "maintenance",
        "--wait",
    ];
    lines(&etcd, &args);
    assert_eq!(value().as_deref(), Some("maintenance weight=7"));
    lines(&etcd, &["undrain", "web", "a"]);
    assert_eq!(value().as_deref(), Some("weight=7"));
    assert_eq!(
        lines(&etcd, &["undrain", "web", "a"]),
        "web a: weight=7 (unchanged)\n"
    );
    lines(
        &etcd,
        &["weight", "web", "--addr", "10.0.0.5:80", "default"],
    );
    assert_eq!(value(), None);
    let both = lines(&etcd, &["drain", "web", "a", "b"]);
    assert_eq!(both.lines().count(), 2, "{both}");
    lines(&etcd, &["undrain", "web", "a", "b", "--weight"]);
    assert_eq!(value(), None);
}

#[test]
fn an_unknown_instance_is_refused_with_those_that_there_are() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    for (args, code, expected) in [
        (
            &["drain", "web", "x"][..],
            1,
            "has no instance \"x\"; it has a; --force",
        ),
        (&["undrain", "web", "x"], 1, "it has a; --force"),
        (&["weight", "web", "x", "5"], 1, "it has a; --force"),
        (&["drain", "db", "x"], 1, "it has no instance; --force"),
        (
            &["drain", "web", "--addr", "10.0.0.9:80"],
            1,
            "it has 10.0.0.5:80",
        ),
        (&["drain", "web"], 2, "which instance?"),
        (
            &["drain", "web", "a", "--addr", "10.0.0.5:80"],
            2,
            "--addr is in place of an id",
        ),
        (&["drain", "web", "a/b", "--force"], 2, "'/'"),
        (&["weight", "web", "a", "-1"], 2, "-1"),
        (&["weight", "web", "a", "much"], 2, "is no weight"),
        (
            &["drain", "web", "a", "--status", "gone"],
            2,
            "the statuses are",
        ),
    ] {
        let ended = did(&etcd, args);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
    }
    assert!(client.get_prefix("/services/.ctl/").unwrap().is_empty());
    lines(&etcd, &["drain", "web", "x", "--force"]);
    // What was set is known.
    lines(&etcd, &["undrain", "web", "x"]);
    client.put("/services/.ctl/web/a", "nonsense").unwrap();
    let ended = did(&etcd, &["drain", "web", "a"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("--force replaces it"), "{ended:?}");
    lines(&etcd, &["drain", "web", "a", "--force"]);
    assert_eq!(
        client.get("/services/.ctl/web/a").unwrap().unwrap().value(),
        "draining"
    );
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    for n in 1..4 {
        let weight = n.to_string();
        thread::scope(|scope| {
            scope.spawn(|| lines(&etcd, &["drain", "web", "a"]));
            scope.spawn(|| lines(&etcd, &["weight", "web", "a", &weight]));
        });
        let kv = client.get("/services/.ctl/web/a").unwrap().unwrap();
        assert_eq!(kv.value(), format!("draining weight={n}").as_str());
        client.delete("/services/.ctl/web/a").unwrap();
    }
}

#[test]
fn the_registrar_of_the_instance_obeys() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let registrar = Registrar::builder(&client)
        .ttl(Duration::from_secs(5))
        .start()
        .unwrap();
    let _registration = registrar
        .register(Instance::new("web", "10.0.0.5:80"))
        .unwrap();
    let is = |status: Status| {
        let value = client.get("/services/web/10.0.0.5:80").unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_slice(value.value()).unwrap();
        (value["status"] == status.as_str()).then_some(())
    };
    lines(&etcd, &["drain", "web", "10.0.0.5:80", "--wait"]);
    eventually(SOON, "it is draining", || is(Status::Draining));
    lines(&etcd, &["undrain", "web", "10.0.0.5:80"]);
    eventually(SOON, "it is up", || is(Status::Up));
}

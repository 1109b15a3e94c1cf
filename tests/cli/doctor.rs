//! `doctor` against an etcd in order, one that is away, and a registry with defects.

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Override, Status};

use crate::program::{command, command_for, run};

#[test]
fn an_etcd_in_order_has_no_finding() {
    let etcd = LocalEtcd::start().unwrap();
    let ended = run(&mut command_for(&etcd, &["doctor"]));
    assert_eq!(ended.code, 0, "{ended:?}");
    for line in ended.stdout.lines() {
        assert!(line.starts_with("info "), "{line}");
    }
    assert!(ended.stdout.contains("0 instances"), "{ended:?}");
}

#[test]
fn an_endpoint_that_is_away_is_named_and_the_others_are_asked() {
    let etcd = LocalEtcd::start().unwrap();
    let endpoints = format!("{},http://127.0.0.1:1", etcd.endpoint());
    let args = [
        "doctor",
        "--endpoints",
        &endpoints,
        "--command-timeout",
        "3s",
    ];
    let ended = run(&mut command(&args));
    assert_eq!(ended.code, 10, "{ended:?}");
    let first = ended.stdout.lines().next().unwrap();
    assert!(first.contains("127.0.0.1:1"), "{ended:?}");
    assert!(ended.stdout.contains("answers"), "{ended:?}");
    let args = [
        "doctor",
        "--endpoints",
        "http://127.0.0.1:1",
        "--command-timeout",
        "1s",
    ];
    assert_eq!(run(&mut command(&args)).code, 10);
}

#[test]
fn defects_of_the_registry_are_said_in_one_line_each() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/bad", "\u{1b}[31m{").unwrap();
    let good = r#"{"addr":"127.0.0.1:80","status":"up"}"#;
    client.put("/services/api/a\u{1b}[2J", good).unwrap();
    let key = Override::key("/services/", "api", "gone");
    let value = Override::new().status(Status::Draining).to_string();
    client.put(key, value).unwrap();
    let ended = run(&mut command_for(&etcd, &["doctor"]));
    assert_eq!(ended.code, 15, "{ended:?}");
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    for expected in [
        "error    the value of the key /services/api/bad is not an instance",
        "has no lease",
        "only programs on the same machine reach it",
        "override for api/gone",
    ] {
        let found = ended.stdout.lines().filter(|line| line.contains(expected));
        assert_eq!(found.count(), 1, "{expected}: {ended:?}");
    }
    let json = run(&mut command_for(&etcd, &["doctor", "--output", "json"]));
    assert_eq!(json.code, 15, "{json:?}");
    let findings: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(findings[0]["severity"], "error", "{findings}");
    assert_eq!(findings[0]["class"], "registry", "{findings}");
}

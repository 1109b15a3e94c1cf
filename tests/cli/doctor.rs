//! `doctor` against an etcd in order, endpoints that are no etcd, users, alarms, and a registry with defects.

use std::time::Duration;

use etcd_blocking::local::{LocalEtcd, Proxy};
use etcd_blocking::{Client, Get, Override, Put, Status};
use serde_json::Value;

use crate::program::{Ended, SOON, command, run};
use crate::support::raw::RawServer;
use crate::support::wait::eventually;

/// Runs `doctor` for endpoints with a short timeout.
pub(crate) fn doctor(endpoints: &str, more: &[&str]) -> Ended {
    let mut args = vec!["doctor", "--endpoints", endpoints];
    args.extend(["--command-timeout", "3s"]);
    args.extend(more);
    let ended = run(&mut command(&args));
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    ended
}

/// The finding whose line contains the text: its line, and those with the reason and the advice.
#[track_caller]
pub(crate) fn finding(ended: &Ended, text: &str) -> String {
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let at = lines.iter().position(|line| line.contains(text));
    let at = at.unwrap_or_else(|| panic!("no {text:?}: {ended:?}"));
    let rest = lines[at + 1..].iter();
    let rest = rest.take_while(|line| line.starts_with("         "));
    let mut found = vec![lines[at]];
    found.extend(rest);
    found.join("\n")
}

/// The findings as JSON.
fn findings(ended: &Ended) -> Vec<Value> {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn an_etcd_in_order_has_no_finding_and_is_not_changed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let before = client.put("k", "v").unwrap().revision();
    let ended = doctor(&etcd.endpoint(), &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout, "nothing wrong was found\n");
    let ended = doctor(&etcd.endpoint(), &["--verbose"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for expected in [
        "the leader",
        "of its quota",
        "there is no alarm",
        "no difference to the clock",
        "authentication is disabled",
        "0 keys, 0 instances of the format native",
        "0 leases",
    ] {
        let found = finding(&ended, expected);
        assert!(found.starts_with("ok "), "{found}");
    }
    let json = doctor(&etcd.endpoint(), &["--verbose", "--output", "json"]);
    assert!(findings(&json).iter().all(|of| of["severity"] == "ok"));
    let after = client.call(Get::key("k")).unwrap();
    assert_eq!(after.header().revision, before, "nothing was written");
    assert!(client.leases().unwrap().ids().is_empty());
}

#[test]
fn an_endpoint_that_is_away_is_named_and_the_others_are_asked() {
    let etcd = LocalEtcd::start().unwrap();
    let endpoints = format!("{},http://127.0.0.1:1", etcd.endpoint());
    let ended = doctor(&endpoints, &["--verbose"]);
    assert_eq!(ended.code, 10, "{ended:?}");
    let found = finding(&ended, "error ");
    assert!(
        found.contains("http://127.0.0.1:1: nothing listens"),
        "{found}"
    );
    assert!(
        found.contains("why: ") && found.contains("do:  start etcd"),
        "{found}"
    );
    finding(&ended, "the leader");
    assert!(ended.stdout.ends_with("1 error, 0 warnings\n"), "{ended:?}");
}

#[test]
fn what_listens_instead_of_etcd_is_recognised() {
    let etcd = LocalEtcd::start().unwrap();
    let web = RawServer::start(|mut stream, _| {
        let answer = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n";
        let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
        let _ = std::io::Write::write_all(&mut stream, answer);
    });
    let ssh = RawServer::saying(b"SSH-2.0-OpenSSH_9.2\r\n");
    let silent = RawServer::silent();
    let closing = RawServer::start(|_, _| {});
    for (endpoint, expected, advice) in [
        (
            etcd.peer_url(),
            "this is the port for the other members",
            etcd.endpoint(),
        ),
        (
            web.endpoint(),
            "another HTTP server (nginx) answers",
            "correct the port".into(),
        ),
        (
            ssh.endpoint(),
            "begins with \"SSH-2.0",
            "correct the port".into(),
        ),
        (silent.endpoint(), "nothing answers", "firewall".into()),
        (
            closing.endpoint(),
            "closes them",
            "proxy without a backend".into(),
        ),
        (
            "http://no-such-host.invalid:2379".into(),
            "the name has no address",
            "resolver".into(),
        ),
        (
            etcd.endpoint().replace("http:", "https:"),
            "the server runs without TLS",
            "scheme of the endpoint".into(),
        ),
    ] {
        let ended = doctor(&endpoint, &[]);
        let code = if endpoint.starts_with("https") {
            11
        } else {
            10
        };
        assert_eq!(ended.code, code, "{ended:?}");
        let found = finding(&ended, expected);
        assert!(
            found.contains(&advice) && found.starts_with("error "),
            "{found}"
        );
    }
}

#[test]
fn a_paused_member_is_silent() {
    let etcd = LocalEtcd::start().unwrap();
    etcd.pause().unwrap();
    let ended = doctor(&etcd.endpoint(), &[]);
    etcd.resume().unwrap();
    assert_eq!(ended.code, 10, "{ended:?}");
    assert!(finding(&ended, "nothing answers").contains("stopped or overloaded"));
}

#[test]
fn a_slow_link_is_no_finding() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.delay(
        etcd_blocking::local::Direction::Both,
        Duration::from_millis(100),
    );
    let ended = doctor(&proxy.endpoint(), &["--command-timeout", "20s"]);
    assert_eq!(ended.stdout, "nothing wrong was found\n", "{ended:?}");
}

#[test]
fn a_clock_that_differs_is_found() {
    // The gRPC side is etcd; over HTTP/1 a clock that is an hour slow answers.
    let etcd = LocalEtcd::start().unwrap();
    let upstream = etcd.client_addr();
    let server = RawServer::start(move |mut stream, _| {
        let mut first = [0; 4];
        stream.peek(&mut first).unwrap();
        if &first == b"GET " {
            let answer = "HTTP/1.1 404 Not Found\r\nDate: Mon, 30 Nov 2020 08:50:01 GMT\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            return;
        }
        let mut to = std::net::TcpStream::connect(upstream).unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let _ = std::io::copy(&mut stream, &mut to);
    });
    let ended = doctor(&server.endpoint(), &[]);
    assert_eq!(ended.code, 16, "{ended:?}");
    let found = finding(&ended, "behind the clock of this machine");
    assert!(found.starts_with("warning "), "{found}");
    assert!(found.contains("synchronise"), "{found}");
}

#[test]
fn users_and_permissions_are_checked() {
    let etcd = LocalEtcd::start().unwrap();
    let plain = "--allow-plaintext-credentials";
    let as_user = |user: &str| doctor(&etcd.endpoint(), &["--user", user, plain]);
    let ended = as_user("root:pw");
    assert_eq!(ended.code, 12, "{ended:?}");
    let found = finding(
        &ended,
        "authentication is disabled, and the user root was given",
    );
    assert!(found.starts_with("warning "), "{found}");
    let client = Client::connect(etcd.endpoint()).unwrap();
    let auth = client.auth();
    auth.user_add("root", "pw").unwrap();
    auth.user_grant_role("root", "root").unwrap();
    auth.user_add("bob", "pw").unwrap();
    auth.role_add("nothing").unwrap();
    auth.user_grant_role("bob", "nothing").unwrap();
    auth.enable().unwrap();
    for (user, expected) in [
        (
            "root:wrong",
            "refuses the name or the password of the user root",
        ),
        (
            "bob:pw",
            "the user bob may not read the keys below \"/services/\"",
        ),
    ] {
        let ended = as_user(user);
        assert_eq!(ended.code, 12, "{ended:?}");
        assert!(finding(&ended, expected).starts_with("error "), "{ended:?}");
        assert!(!ended.stdout.contains("pw"), "{ended:?}");
    }
    let ended = doctor(&etcd.endpoint(), &[]);
    assert_eq!(ended.code, 12, "{ended:?}");
    assert!(finding(&ended, "none was given").contains("give --user"));
    assert_eq!(as_user("root:pw").stdout, "nothing wrong was found\n");
}

#[test]
fn a_full_database_has_an_alarm_and_its_size() {
    let quota = "--quota-backend-bytes=1048576";
    let etcd = LocalEtcd::builder().arg(quota).start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let value = vec![b'x'; 100_000];
    eventually(SOON, "the database is full", || {
        let full = (0..20).find(|index| client.put(format!("k{index}"), value.clone()).is_err());
        full.is_some().then_some(())
    });
    let ended = doctor(&etcd.endpoint(), &[]);
    assert_eq!(ended.code, 14, "{ended:?}");
    let found = finding(&ended, "NOSPACE");
    assert!(
        found.starts_with("error ") && found.contains("alarm disarm"),
        "{found}"
    );
    let found = finding(&ended, "of its quota of 1.0 MiB");
    assert!(found.starts_with("warning "), "{found}");
}

#[test]
fn defects_of_the_registry_are_said_in_one_finding_each() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/bad", "\u{1b}[31m{").unwrap();
    let good = r#"{"addr":"127.0.0.1:80","status":"up"}"#;
    client.put("/services/api/a\u{1b}[2J", good).unwrap();
    let dubbo = etcd_blocking::codec::by_name("dubbo-go").unwrap();
    let instance = etcd_blocking::Instance::new("shop", "10.0.0.5:20000");
    let key = dubbo.key("/services/", &instance).unwrap();
    client
        .put(key, dubbo.encode(&instance).unwrap().unwrap())
        .unwrap();
    let key = Override::key("/services/", "api", "gone");
    let value = Override::new().status(Status::Draining).to_string();
    client.put(key, value).unwrap();
    let long = client.grant(Duration::from_secs(7_200)).unwrap();
    let put = Put::new("/services/api/long", good.replace(":80", ":81"));
    client.call(put.lease(long.id())).unwrap();
    client.grant(Duration::from_secs(60)).unwrap();
    let ended = doctor(&etcd.endpoint(), &[]);
    assert_eq!(ended.code, 15, "{ended:?}");
    for (expected, severity, advice) in [
        (
            "/services/api/bad: the value is not an instance",
            "error",
            "--format",
        ),
        ("/services/shop/", "error", "--format dubbo-go reads it"),
        (
            "a\\u{1b}[2J: the instance has no lease",
            "warning",
            "delete the key",
        ),
        (
            "127.0.0.1:80 of the instance is reached by programs on the same",
            "warning",
            "callers can reach",
        ),
        (
            "the override of api/gone: there is no such instance",
            "warning",
            "undrain",
        ),
        ("was granted for 7200 s", "warning", "--ttl 15s"),
        ("1 lease without a key", "info", "forgets them"),
    ] {
        let found = finding(&ended, expected);
        assert!(
            found.starts_with(severity) && found.contains(advice),
            "{found}"
        );
        let count = ended.stdout.lines().filter(|line| line.contains(expected));
        assert_eq!(count.count(), 1, "{expected}: {ended:?}");
    }
    let json = doctor(&etcd.endpoint(), &["--output", "json"]);
    assert_eq!(json.code, 15, "{json:?}");
    let all = findings(&json);
    assert_eq!(all[0]["severity"], "error");
    assert_eq!(all[0]["class"], "registry");
    for field in ["where", "what", "why", "advice"] {
        assert!(
            all[0][field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {all:?}"
        );
    }
    // With the wrong format nothing is there; the usual prefixes of the others are looked at.
    let ended = doctor(&etcd.endpoint(), &["--format", "kratos"]);
    let found = finding(&ended, "/microservices/: there is nothing here, but");
    assert!(found.contains("--format native reads them"), "{found}");
}

#[test]
fn a_lease_that_is_not_renewed_is_found() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let lease = client.grant(Duration::from_secs(40)).unwrap();
    let put = Put::new("/services/api/a", r#"{"addr":"10.0.0.1:80","status":"up"}"#);
    client.call(put.lease(lease.id())).unwrap();
    let late = |code: i32| {
        let ended = doctor(&etcd.endpoint(), &[]);
        (ended.code == code).then_some(ended)
    };
    assert!(late(0).is_some());
    let left = || client.time_to_live(lease.id()).unwrap().remaining();
    eventually(2 * SOON, "the lease is late", || {
        left()
            .is_none_or(|left| left < Duration::from_secs(9))
            .then_some(())
    });
    let ended = late(15).expect("it is late");
    assert!(finding(&ended, "not renewed in time").contains("/services/api/a"));
}

#[test]
fn wrong_arguments_are_no_findings() {
    let ended = run(&mut command(&["doctor", "--endpoints", "ftp://x"]));
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(ended.stdout, "");
}

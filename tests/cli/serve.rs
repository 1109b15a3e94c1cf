//! `etcd-service serve`: the page, JSON, metrics, targets and event streams.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, Registrar, Registration, Status};
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Program, SOON, command, command_for, run};
use crate::serve_programs::folder;
use crate::support::wait::eventually;

/// A running server.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: String,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(etcd: &LocalEtcd, args: &[&str]) -> Self {
        let listen = match args.contains(&"--listen") {
            true => &[][..],
            false => &["--listen", "127.0.0.1:0"],
        };
        let args = [&["serve"], listen, args].concat();
        let program = Program::start(&mut command_for(etcd, &args));
        program.complains("listening on ");
        let address = eventually(SOON, "the address is a whole line", || {
            let stderr = program.stderr();
            let (_, rest) = stderr.split_once("listening on ")?;
            let (_, rest) = rest.split_once("://")?;
            Some(rest.split_once('\n')?.0.to_owned())
        });
        Server { program, address }
    }

    pub(crate) fn request(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Reply::parse(&String::from_utf8(bytes).unwrap())
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str) -> Reply {
        let host = &self.address;
        self.request(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"
        ))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "")
    }

    /// The JSON of a path once it fulfils a condition.
    #[track_caller]
    pub(crate) fn json(&self, path: &str, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, what, || {
            let reply = self.get(path);
            let value: Value = serde_json::from_str(&reply.body).ok()?;
            (reply.status == 200 && is_right(&value)).then_some(value)
        })
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

/// Three instances of the service `api`.
pub(crate) fn register(etcd: &LocalEtcd) -> (Client, Registrar, Vec<Registration>) {
    let client = Client::connect(etcd.endpoint()).unwrap();
    let registrar = Registrar::builder(&client)
        .ttl(Duration::from_secs(5))
        .start()
        .unwrap();
    let instances = [("a", 8001), ("b", 8002), ("c", 8003)];
    let instances =
        instances.map(|(id, port)| Instance::new("api", format!("127.0.0.1:{port}")).id(id));
    let registrations = registrar.register_all(instances).unwrap();
    (client, registrar, registrations)
}

pub(crate) fn instances(value: &Value) -> usize {
    value["instances"].as_array().map_or(0, Vec::len)
}

#[test]
fn each_path_returns_what_it_is_for() {
    let etcd = LocalEtcd::start().unwrap();
    let (_client, _registrar, registrations) = register(&etcd);
    registrations[0]
        .modify(|i| i.status = Status::Draining)
        .unwrap();
    let server = Server::start(&etcd, &[]);
    // The list is there a moment before it is known to be up to date.
    let api = server.json("/v1/services/api", "three instances, live", |api| {
        let is_live = api["freshness"]["state"] == "live";
        is_live && instances(api) == 3 && api["statuses"]["draining"] == 1
    });
    assert!(api["revision"].as_i64().unwrap() > 1, "{api}");
    assert_eq!(api["instances"][0]["id"], "a");
    let all = server.json("/v1/services", "the services", |_| true);
    assert_eq!(all["services"][0]["instances"], 3);
    let timeline = server.json("/v1/services/api/timeline", "a timeline", |_| true);
    assert_eq!(timeline["tracks"].as_array().unwrap().len(), 3);
    let targets = server.json("/sd/api", "targets", |_| true);
    assert_eq!(targets.as_array().unwrap().len(), 3);
    assert_eq!(targets[0]["labels"]["__meta_etcd_service"], "api");
    let up = server.json("/sd?status=up", "targets that are up", |_| true);
    assert_eq!(up.as_array().unwrap().len(), 2);
    assert_eq!(
        server.json("/sd/none", "no targets", |_| true),
        Value::Array(Vec::new())
    );
    let metrics = server.get("/metrics");
    let line = "etcd_service_instances{service=\"api\",status=\"up\"} 2\n";
    assert!(metrics.body.contains(line), "{}", metrics.body);
    assert!(metrics.head.contains("text/plain; version=0.0.4"));
    let page = server.get("/");
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.head);
    assert!(
        page.head
            .contains("Content-Security-Policy: default-src 'none'")
    );
    for path in ["/page.js", "/page.css", "/icon.svg", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let head = server.send("HEAD", "/", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(
        head.head
            .contains(&format!("Content-Length: {}", page.body.len()))
    );
    for (method, path, headers, status) in [
        ("GET", "/nothing", "", 404),
        ("GET", "/v1/services/none", "", 404),
        ("POST", "/v1/services", "", 405),
        ("DELETE", "/", "", 405),
        ("GET", "/v1/services/api/instances/a/drain", "", 405),
        ("GET", "/%zz", "", 400),
        (
            "POST",
            "/v1/services/api/instances/a/drain",
            "X-Etcd-Service: 1\r\n",
            403,
        ),
    ] {
        let reply = server.send(method, path, headers);
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
    }
    assert_eq!(server.request("nonsense\r\n\r\n").status, 400);
    let other = server.request("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(other.status, 421);
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.ended().code, 0);
}

#[test]
fn hostile_names_stay_text() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let hostile = "<script>alert(1)</script>\"'\\\n\u{1b}[31m";
    let value = serde_json::json!({
        "service": "x", "id": "i", "addr": "10.0.0.5:80", "zone": hostile, "reason": hostile, "meta": { "k\n": hostile },
    });
    let name = "a\"<b>\\";
    client
        .put(format!("/services/{name}/i"), value.to_string())
        .unwrap();
    client
        .put("/services/bad/\u{1b}[31m<b>", "not an instance")
        .unwrap();
    let server = Server::start(&etcd, &[]);
    let all = server.json("/v1/services", "the service and the bad value", |all| {
        let is_there = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        is_there(&all["services"]) && is_there(&all["bad_values"])
    });
    assert_eq!(all["services"][0]["name"], name);
    let one = server.json("/v1/services/a%22%3Cb%3E%5C", "the service", |one| {
        instances(one) == 1
    });
    assert_eq!(one["instances"][0]["zone"], hostile);
    let metrics = server.get("/metrics").body;
    let line = "etcd_service_instances{service=\"a\\\"<b>\\\\\",status=\"up\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    let events = server.get("/events?once");
    assert_eq!(
        events.body.lines().filter(|line| !line.is_empty()).count(),
        2,
        "{events:?}"
    );
    assert!(!events.body.contains('\u{1b}'));
    let targets = server.json("/sd", "targets", |targets| targets[0].is_object());
    assert_eq!(targets[0]["labels"]["__meta_etcd_zone"], hostile);
    assert!(!server.program.stderr().contains('\u{1b}'));
}

#[test]
fn other_machines_need_a_token() {
    let etcd = LocalEtcd::start().unwrap();
    let refused = run(&mut command_for(&etcd, &["serve", "--listen", "0.0.0.0:0"]));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--token-file"), "{refused:?}");
    let folder = folder("token");
    let file = folder.join("token");
    fs::write(&file, "short\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = run(&mut command(&["serve", "--token-file", file]));
    assert_eq!(refused.code, 2, "{refused:?}");
    fs::write(file, "0123456789abcdef0123\n").unwrap();
    let server = Server::start(&etcd, &["--token-file", file]);
    let right = "Authorization: Bearer 0123456789abcdef0123\r\n";
    eventually(SOON, "the list is live", || {
        (server.send("GET", "/v1/services", right).status == 200).then_some(())
    });
    for path in [
        "/v1/services",
        "/metrics",
        "/sd",
        "/events",
        "/v1/services/api/timeline",
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.head.contains("WWW-Authenticate: Bearer"));
        let wrong = server.send(
            "GET",
            path,
            "Authorization: Bearer 0123456789abcdef0124\r\n",
        );
        assert_eq!(wrong.status, 401, "{path}");
    }
    assert_eq!(server.get("/").status, 200);
    let taken = run(&mut command(&["serve", "--listen", &server.address]));
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(!server.program.stderr().contains("0123456789abcdef"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn changes_are_made_only_if_they_are_allowed() {
    let etcd = LocalEtcd::start().unwrap();
    let (client, _registrar, _registrations) = register(&etcd);
    let server = Server::start(&etcd, &["--allow-changes"]);
    server.json("/v1/services/api", "three instances", |api| {
        instances(api) == 3
    });
    let path = "/v1/services/api/instances/a";
    assert_eq!(
        server.send("POST", &format!("{path}/drain"), "").status,
        403
    );
    let origin = "X-Etcd-Service: 1\r\nOrigin: http://evil.example\r\n";
    assert_eq!(
        server.send("POST", &format!("{path}/drain"), origin).status,
        403
    );
    let header = "X-Etcd-Service: 1\r\n";
    let drained = server.send("POST", &format!("{path}/drain"), header);
    assert_eq!(drained.status, 200, "{drained:?}");
    server.json("/v1/services/api", "a drained instance", |api| {
        api["instances"][0]["status"] == "draining"
    });
    let body = "X-Etcd-Service: 1\r\nContent-Length: 12\r\n\r\n{\"weight\":7}";
    let host = &server.address;
    let weighed = server.request(&format!(
        "POST {path}/weight HTTP/1.1\r\nHost: {host}\r\n{body}"
    ));
    assert_eq!(weighed.status, 200, "{weighed:?}");
    let key = "/services/.ctl/api/a";
    let value = client.get(key).unwrap().unwrap();
    assert_eq!(value.value().as_ref(), b"draining weight=7");
    assert_eq!(
        server
            .send("POST", &format!("{path}/undrain"), header)
            .status,
        200
    );
    server.json("/v1/services/api", "it is up with its weight", |api| {
        api["instances"][0]["status"] == "up" && api["instances"][0]["weight"] == 7
    });
    for (path, status) in [
        ("api/instances/none/drain", 404),
        ("api/instances/a/burn", 404),
        ("api/instances/a/weight", 400),
    ] {
        let reply = server.send("POST", &format!("/v1/services/{path}"), header);
        assert_eq!(reply.status, status, "{path}");
    }
}

#[test]
fn events_follow_registrations_and_outages() {
    let mut etcd = LocalEtcd::start().unwrap();
    let (_client, _registrar, registrations) = register(&etcd);
    let server = Server::start(&etcd, &[]);
    server.json("/v1/services/api", "three instances", |api| {
        instances(api) == 3
    });
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut data_with = |text: &str| {
        let mut data = lines.by_ref().filter(|line| line.starts_with("data: "));
        let found = data.find(|line| line.contains(text)).expect(text);
        serde_json::from_str::<Value>(&found["data: ".len()..]).unwrap()
    };
    let snapshot = data_with("\"settings\"");
    assert_eq!(
        snapshot["services"][0]["changed"].as_array().unwrap().len(),
        3
    );
    registrations[1]
        .modify(|i| i.status = Status::Draining)
        .unwrap();
    let change = data_with("\"draining\"");
    assert_eq!(
        change["services"][0]["changed"].as_array().unwrap().len(),
        1,
        "{change}"
    );
    etcd.kill().unwrap();
    data_with("\"stale\"");
    let stale = server.json("/v1/services/api", "the list is stale", |api| {
        api["freshness"]["state"] == "stale"
    });
    assert_eq!(instances(&stale), 3);
    assert!(server.get("/readyz").body.starts_with("stale"));
    assert!(
        server
            .get("/metrics")
            .body
            .contains("etcd_service_live 0\n")
    );
    server.program.complains("the last good lists are served");
    etcd.restart().unwrap();
    data_with("\"state\":\"live\"");
    server.program.complains("etcd is back");
}

#[test]
fn nothing_is_listed_before_etcd_has_answered() {
    let mut etcd = LocalEtcd::start().unwrap();
    let (_client, _registrar, _registrations) = register(&etcd);
    etcd.kill().unwrap();
    let server = Server::start(&etcd, &[]);
    for path in [
        "/v1/services",
        "/v1/services/api",
        "/sd",
        "/sd/api",
        "/readyz",
    ] {
        assert_eq!(server.get(path).status, 503, "{path}");
    }
    assert_eq!(server.get("/healthz").status, 200);
    let events = server.get("/events?once").body;
    assert!(events.contains("\"state\":\"unknown\""), "{events}");
    server.program.complains("etcd has not answered yet");
    etcd.restart().unwrap();
    server.json("/sd/api", "the targets", |targets| targets[0].is_object());
}

//! `serve` with a real browser and a real Prometheus.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Instance, Put, Status};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::program::SOON;
use crate::serve::{Server, instances, register};
use crate::support::wait::eventually;

/// A program of the system with a group of its own, which is killed at the end.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.join(format!("serve-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_browser_shows_the_services() {
    if !is_installed("chromium") {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let (client, _registrar, registrations) = register(&etcd);
    registrations[0]
        .modify(|i| i.status = Status::Draining)
        .unwrap();
    let lease = client.grant(Duration::from_secs(60)).unwrap();
    let killed = r#"{"service":"api","id":"killed","addr":"127.0.0.1:9"}"#;
    let put = Put::new("/services/api/killed", killed).lease(lease.id());
    client.submit(put).wait().unwrap();
    let server = Server::start(&etcd, &[]);
    server.json("/v1/services/api", "four instances", |api| {
        instances(api) == 4
    });
    client.revoke(lease.id()).unwrap();
    server.json("/v1/services/api", "three instances, one drained", |api| {
        instances(api) == 3 && api["statuses"]["draining"] == 1
    });
    let folder = folder("chromium");
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--dump-dom",
    ]);
    chromium.args([
        "--virtual-time-budget=5000",
        &format!("--user-data-dir={}", folder.display()),
    ]);
    chromium.arg(format!("http://{}/?once", server.address));
    let output = folder.join("dom");
    let file = fs::File::create(&output).unwrap();
    chromium
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .process_group(0);
    let mut chromium = Foreign(chromium.spawn().unwrap());
    eventually(Duration::from_secs(120), "chromium ends", || {
        chromium.0.try_wait().unwrap()
    });
    let dom = fs::read_to_string(&output).unwrap();
    assert_eq!(
        dom.matches("<tr role=\"row\"").count(),
        4,
        "a header and three instances: {dom}"
    );
    assert_eq!(
        dom.matches("data-status=\"draining\">draining<").count(),
        2,
        "in the row and the legend: {dom}"
    );
    assert!(dom.contains("<svg viewBox"), "{dom}");
    assert!(
        dom.contains(">killed</span>"),
        "the event of the removal: {dom}"
    );
    drop(chromium);
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn prometheus_follows_registrations() {
    if !is_installed("prometheus") {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let (_client, registrar, _registrations) = register(&etcd);
    let server = Server::start(&etcd, &[]);
    server.json("/sd/api", "three targets", |sd| {
        sd.as_array().is_some_and(|sd| sd.len() == 3)
    });
    let folder = folder("prometheus");
    let config = format!(
        "scrape_configs:\n  - job_name: api\n    http_sd_configs:\n      - url: http://{}/sd/api\n        \
         refresh_interval: 1s\n  - job_name: self\n    static_configs:\n      - targets: ['{}']\n",
        server.address, server.address
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    // An address that is still free when Prometheus listens on it: outgoing connections use 127.0.0.1.
    let listener = std::net::TcpListener::bind("127.0.0.77:0").unwrap();
    let listen = listener.local_addr().unwrap();
    drop(listener);
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!(
        "--config.file={}",
        folder.join("config.yml").display()
    ));
    prometheus.arg(format!(
        "--storage.tsdb.path={}",
        folder.join("data").display()
    ));
    prometheus.arg(format!("--web.listen-address={listen}"));
    prometheus
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let prometheus = Foreign(prometheus.spawn().unwrap());
    let targets = |expected: usize| {
        let begun = Instant::now();
        eventually(
            Duration::from_secs(90),
            &format!("{expected} targets"),
            || {
                let mut stream = TcpStream::connect(listen).ok()?;
                stream.set_read_timeout(Some(SOON)).ok()?;
                let request =
                    "GET /api/v1/targets?state=active HTTP/1.0\r\nHost: localhost\r\n\r\n";
                stream.write_all(request.as_bytes()).ok()?;
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                let count = text.matches("\"__meta_etcd_service\":\"api\"").count();
                (count == expected).then_some(())
            },
        );
        begun.elapsed()
    };
    targets(3);
    for _ in 0..2 {
        let begun = Instant::now();
        let fourth = registrar
            .register(Instance::new("api", "127.0.0.1:7").id("fourth"))
            .unwrap();
        server.json("/sd/api", "four targets", |sd| sd[3].is_object());
        let served = begun.elapsed();
        // Prometheus reads the targets every second here, and applies what it has read every five seconds.
        let added = targets(4);
        fourth.leave().unwrap();
        let removed = targets(3);
        println!(
            "a registration was served after {served:?}, and was a target of Prometheus after {added:?}; \
             after it left, it was none after {removed:?}"
        );
    }
    drop(prometheus);
    let _ = fs::remove_dir_all(folder);
}

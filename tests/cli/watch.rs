//! The verb `watch`.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;

use crate::list::put;
use crate::program::{Program, SOON, command, command_for};
use crate::support::wait::eventually;

#[test]
fn each_change_is_a_line_after_the_present_list() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    let watch = Program::start(&mut command_for(&etcd, &["watch", "web"]));
    let line = watch.line();
    assert!(line.ends_with("Z + web a 10.0.0.5:80 up"), "{line}");
    put(&client, "web", "b", r#""addr":"10.0.0.6:80","weight":5"#);
    watch.line_with("+ web b 10.0.0.6:80 up weight=5");
    put(
        &client,
        "web",
        "b",
        r#""addr":"10.0.0.6:80","status":"draining","weight":5"#,
    );
    watch.line_with("~ web b 10.0.0.6:80 draining: status up -> draining");
    client.delete("/services/web/b").unwrap();
    watch.line_with("- web b 10.0.0.6:80 left");
    client.put("/services/web/c", "no JSON").unwrap();
    watch.line_with("! bad value of /services/web/c: ");
    watch.signal(Signal::TERM);
    assert_eq!(watch.ended().code, 0);
}

#[test]
fn all_services_are_watched_as_they_come_and_go() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let args = ["watch", "--all", "--output", "jsonl"];
    let watch = Program::start(&mut command_for(&etcd, &args));
    let next = |change: &str, service: &str| {
        let line = watch.line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["change"], &value["service"]),
            (&change.into(), &service.into()),
            "{line}"
        );
        value
    };
    for _ in 0..2 {
        put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
        assert_eq!(next("added", "web")["instance"]["addr"], "10.0.0.5:80");
        put(&client, "db", "b", r#""addr":"10.0.0.6:80""#);
        next("added", "db");
        client.delete("/services/web/a").unwrap();
        assert_eq!(next("removed", "web")["cause"], "left");
        client.put("/services/.ctl/db/b", "maintenance").unwrap();
        let updated = next("updated", "db");
        assert_eq!(updated["instance"]["status"], "maintenance");
        assert_eq!(updated["before"]["status"], "up");
        client.delete("/services/.ctl/db/b").unwrap();
        next("updated", "db");
        client.delete("/services/db/b").unwrap();
        next("removed", "db");
    }
    watch.signal(Signal::INT);
    assert_eq!(watch.ended().code, 0);
}

#[test]
fn a_closed_pipe_ends_it_also_while_nothing_changes() {
    let etcd = LocalEtcd::start().unwrap();
    let mut command = command_for(&etcd, &["watch", "web"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = eventually(SOON, "the watch ends", || child.try_wait().unwrap());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_it_from_ending() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let reason = "x".repeat(10_000);
    for n in 0..20 {
        let fields = format!(r#""addr":"10.0.0.5:80","status":"draining","reason":"{reason}""#);
        put(&client, "web", &n.to_string(), &fields);
    }
    let mut command = command_for(&etcd, &["watch", "web"]);
    // 200 kB do not fit into a pipe.
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Killed(child);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.0.try_wait().unwrap().is_none());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), Signal::TERM)
        .unwrap();
    let status = eventually(SOON, "the watch ends", || child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// Kills the child when it is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn etcd_that_is_away_is_waited_for_and_said_once() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    etcd.kill().unwrap();
    let watch = Program::start(&mut command(&[
        "watch",
        "web",
        "--endpoints",
        &etcd.endpoint(),
    ]));
    watch.complains("waiting for it");
    watch.line_with("! stale");
    etcd.restart().unwrap();
    watch.line_with("+ web a 10.0.0.5:80 up");
    watch.complains("etcd is followed again");
    etcd.kill().unwrap();
    watch.line_with("! stale");
    etcd.restart().unwrap();
    watch.line_with("! live");
    watch.signal(Signal::TERM);
    let ended = watch.ended();
    assert_eq!(ended.code, 0);
    assert_eq!(ended.stderr.lines().count(), 4, "{ended:?}");
}

#[test]
fn one_service_or_all_must_be_named() {
    for args in [&["watch"][..], &["watch", "web", "--all"]] {
        let ended = crate::program::run(&mut command(args));
        assert_eq!(ended.code, 2, "{ended:?}");
    }
}

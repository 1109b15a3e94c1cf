//! The verb `list`.

use std::process::Command;
use std::thread;
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;

use crate::program::{Program, command_for, run};

/// Writes an instance in the native format.
pub(crate) fn put(client: &Client, service: &str, id: &str, fields: &str) {
    let (key, value) = (format!("/services/{service}/{id}"), format!("{{{fields}}}"));
    client.put(key.as_str(), value.as_str()).unwrap();
}

fn listed(etcd: &LocalEtcd, args: &[&str]) -> String {
    let args = [&["list"], args].concat();
    let ended = run(&mut command_for(etcd, &args));
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.stdout
}

fn started() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(
        &client,
        "web",
        "a",
        r#""addr":"10.0.0.5:80","zone":"x","tags":["blue"],"version":"1.2""#,
    );
    put(
        &client,
        "web",
        "b",
        r#""addr":"10.0.0.6:80","zone":"y","weight":5"#,
    );
    put(
        &client,
        "web",
        "c",
        r#""addr":"web-3:80","status":"draining","reason":"it leaves""#,
    );
    put(&client, "db", "d", r#""addr":"10.0.0.7:5432""#);
    (etcd, client)
}

#[test]
fn services_and_instances_are_listed_in_every_form() {
    let (etcd, _) = started();
    assert_eq!(
        listed(&etcd, &[]),
        "SERVICE  UP  TOTAL\ndb       1   1\nweb      2   3\n"
    );
    let text = listed(&etcd, &["web"]);
    assert_eq!(
        text,
        "ID  ADDR         STATUS    WEIGHT  ZONE  VERSION  TAGS  REASON\n\
         a   10.0.0.5:80  up        1       x     1.2      blue  -\n\
         b   10.0.0.6:80  up        5       y     -        -     -\n\
         c   web-3:80     draining  1       -     -        -     it leaves\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&listed(&etcd, &["web", "-w", "json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(json[2]["reason"], "it leaves");
    assert_eq!(listed(&etcd, &["web", "--output=jsonl"]).lines().count(), 3);
    assert_eq!(
        listed(&etcd, &["--output", "hosts"]),
        "10.0.0.7 db\n10.0.0.5 web\n10.0.0.6 web\n"
    );
    let csv = listed(&etcd, &["web", "--output", "csv"]);
    assert!(
        csv.contains("\nc,web-3:80,draining,1,,,,\"it leaves\"\n"),
        "{csv}"
    );
}

#[test]
fn flags_select_instances() {
    let (etcd, _) = started();
    let ids = |args: &[&str]| -> Vec<String> {
        let lines = listed(&etcd, &[&["web", "--output", "jsonl"], args].concat());
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone();
        lines
            .lines()
            .map(|line| id(line).as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&["--status", "draining"]), ["c"]);
    assert_eq!(ids(&["--status", "up,draining"]), ["a", "b", "c"]);
    assert_eq!(ids(&["--zone", "y"]), ["b"]);
    assert_eq!(ids(&["--tag", "blue", "--zone", "x"]), ["a"]);
    assert!(ids(&["--tag", "blue", "--zone", "y"]).is_empty());
    assert_eq!(
        listed(&etcd, &["--zone", "x"]),
        "SERVICE  UP  TOTAL\nweb      1   1\n"
    );
    let wrong = run(&mut command_for(&etcd, &["list", "--status", "down"]));
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("the statuses are draining, "),
        "{wrong:?}"
    );
}

#[test]
fn no_instance_is_no_line_and_no_failure() {
    let etcd = LocalEtcd::start().unwrap();
    for (args, expected) in [
        (&[][..], ""),
        (&["web"], ""),
        (&["web", "--output", "csv"], ""),
        (&["web", "--output", "hosts"], ""),
        (&["web", "--output", "json"], "[]\n"),
        (&["web", "--output", "env"], "WEB_COUNT='0'\nWEB_ADDRS=''\n"),
    ] {
        assert_eq!(listed(&etcd, args), expected, "{args:?}");
    }
}

#[test]
fn it_waits_for_as_many_instances_as_it_is_told_to() {
    let (etcd, client) = started();
    let too_few = ["list", "web", "--wait", "3", "--command-timeout", "300ms"];
    let ended = run(&mut command_for(&etcd, &too_few));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("web has 2 of 3 instances"),
        "{ended:?}"
    );

    let args = [
        "list",
        "web",
        "--wait",
        "3",
        "--command-timeout",
        "25s",
        "--output",
        "hosts",
    ];
    let waiting = Program::start(&mut command_for(&etcd, &args));
    thread::sleep(Duration::from_millis(100));
    put(&client, "web", "e", r#""addr":"10.0.0.8:80""#);
    let ended = waiting.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 3, "{ended:?}");
}

#[test]
fn an_override_is_listed_also_for_instances_of_other_programs() {
    let (etcd, client) = started();
    client
        .put("/services/.ctl/web/a", "maintenance weight=7")
        .unwrap();
    let text = listed(&etcd, &["web"]);
    assert!(text.contains("maintenance  7       x"), "{text}");
    assert_eq!(
        listed(&etcd, &[]),
        "SERVICE  UP  TOTAL\ndb       1   1\nweb      1   3\n"
    );
    assert_eq!(
        listed(&etcd, &["web", "--output", "hosts"]),
        "10.0.0.6 web\n"
    );
}

#[test]
fn a_shell_reads_the_variables_and_executes_nothing() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    put(&client, "web-1", "a", r#""addr":"10.0.0.5:80""#);
    put(
        &client,
        "web-1",
        "b'; echo broken; '",
        r#""addr":"10.0.0.6:80""#,
    );
    let env = listed(&etcd, &["web-1", "--output", "env"]);
    let script = format!(
        "{env}\necho \"$WEB_1_COUNT $WEB_1_0_HOST $WEB_1_0_PORT $WEB_1_1_ADDR $WEB_1_1_ID\""
    );
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(shell.stdout).unwrap();
    assert_eq!(text, "2 10.0.0.5 80 10.0.0.6:80 b'; echo broken; '\n");
}

#[test]
fn hostile_values_reach_no_terminal() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let evil = "\\u001b[2J\\u009b\\u202e\\n10.0.0.1 bank";
    let fields = format!(
        r#""addr":"10.0.0.5:80","zone":"{evil}","tags":["{evil}"],"version":"{evil}","reason":"{evil}""#
    );
    put(&client, "we\u{1b}b", "a", &fields);
    put(&client, "web", "\u{1b}[2J", &fields);
    for output in ["text", "json", "jsonl", "hosts", "env", "csv"] {
        for service in [&[][..], &["web"]] {
            let args = [&["list", "--output", output], service].concat();
            let ended = run(&mut command_for(&etcd, &args));
            assert_eq!(ended.code, 0, "{ended:?}");
            let all = ended.stdout + &ended.stderr;
            let is_obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!all.contains(is_obeyed), "{args:?}: {all:?}");
            assert!(
                !all.lines().any(|line| line.starts_with("10.0.0.1")),
                "{all}"
            );
        }
    }
}

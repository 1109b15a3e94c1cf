//! The verb `register`.

use std::fs;

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;

use crate::program::{Program, SOON, command, command_for, run};
use crate::render::Folder;
use crate::support::wait::eventually;

/// Waits until etcd has exactly these keys below `/services/`.
#[track_caller]
fn keys(client: &Client, expected: &[&str]) {
    let mut seen = Vec::new();
    let is = || {
        let kvs = client.get_prefix("/services/").ok()?;
        let key =
            |kv: &etcd_blocking::KeyValue| String::from_utf8(kv.key()[10..].to_vec()).unwrap();
        seen = kvs.iter().map(key).collect();
        (seen == expected).then_some(())
    };
    eventually(SOON, &format!("etcd has {expected:?}"), is);
}

fn value(client: &Client, key: &str) -> serde_json::Value {
    let kv = client
        .get(format!("/services/{key}").as_str())
        .unwrap()
        .unwrap();
    serde_json::from_slice(kv.value()).unwrap()
}

#[test]
fn one_instance_is_registered_until_a_signal_ends_it() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let args = [
        "register",
        "--service",
        "db",
        "--addr",
        "10.0.0.5:5432",
        "--id",
        "db-1",
        "--weight",
        "7",
        "--zone",
        "x",
        "--tag",
        "a",
        "--tag",
        "b",
        "--meta",
        "team=core",
        "--ttl",
        "60s",
    ];
    for signal in [Signal::TERM, Signal::INT] {
        let register = Program::start(&mut command_for(&etcd, &args));
        register.complains("db db-1: registered");
        keys(&client, &["db/db-1"]);
        let value = value(&client, "db/db-1");
        assert_eq!(value["addr"], "10.0.0.5:5432");
        assert_eq!(value["weight"], 7);
        assert_eq!(value["tags"], serde_json::json!(["a", "b"]));
        assert_eq!(value["meta"]["team"], "core");
        // A lost key comes back, and is reported.
        client.delete("/services/db/db-1").unwrap();
        register.complains("the key was deleted");
        keys(&client, &["db/db-1"]);
        // Without a file, SIGHUP changes nothing.
        register.signal(Signal::HUP);
        register.signal(signal);
        let ended = register.ended();
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
        keys(&client, &[]);
    }
}

#[test]
fn a_file_is_read_again_and_only_the_difference_is_carried_out() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let folder = Folder::new();
    let service = |name: &str, id: &str, addr: &str, more: &str| {
        format!("[[service]]\nservice = '{name}'\nid = '{id}'\naddr = '{addr}'\n{more}\n")
    };
    let same = service("db", "d", "10.0.0.7:5432", "");
    let first = same.clone()
        + &service("web", "a", "10.0.0.5:80", "")
        + &service("web", "b", "10.0.0.6:80", "");
    let file = folder.write("services.toml", &first);
    let args = ["register", "--services", &file];
    let register = Program::start(&mut command_for(&etcd, &args));
    keys(&client, &["db/d", "web/a", "web/b"]);
    let untouched = || {
        client
            .get("/services/db/d")
            .unwrap()
            .unwrap()
            .mod_revision()
    };
    let before = untouched();
    let kvs = client.get_prefix("/services/").unwrap();
    assert!(
        kvs.iter()
            .all(|kv| kv.lease() == kvs[0].lease() && kv.lease().is_some()),
        "one lease"
    );

    // `a` is updated, `b` has moved, and there is a new service.
    let second = same.clone()
        + &service("web", "a", "10.0.0.5:80", "weight = 9")
        + &service("web", "b", "10.0.0.9:80", "")
        + &service("mq", "m", "10.0.0.8:1883", "tag = ['x']");
    fs::write(&file, &second).unwrap();
    register.signal(Signal::HUP);
    register.complains("the file was read again");
    keys(&client, &["db/d", "mq/m", "web/a", "web/b"]);
    eventually(SOON, "a has its weight", || {
        (value(&client, "web/a")["weight"] == 9).then_some(())
    });
    eventually(SOON, "b has moved", || {
        (value(&client, "web/b")["addr"] == "10.0.0.9:80").then_some(())
    });

    // A broken file, and one without services, change nothing.
    for (text, said) in [
        ("[[service", "services.toml: "),
        ("service = []", "it has no service"),
    ] {
        fs::write(&file, text).unwrap();
        register.signal(Signal::HUP);
        register.complains(said);
    }
    register.complains("the services stay as they were");
    keys(&client, &["db/d", "mq/m", "web/a", "web/b"]);
    fs::write(&file, &same).unwrap();
    register.signal(Signal::HUP);
    keys(&client, &["db/d"]);
    assert_eq!(untouched(), before, "what is the same is not written again");
    register.signal(Signal::TERM);
    assert_eq!(register.ended().code, 0);
    keys(&client, &[]);
}

#[test]
fn etcd_that_is_away_at_the_start_is_waited_for_and_said() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let endpoint = etcd.endpoint();
    etcd.kill().unwrap();
    let folder = Folder::new();
    let file = folder.write(
        "services.yaml",
        "service:\n- {service: web, addr: '10.0.0.5:80'}\n",
    );
    let args = ["register", "--services", &file, "--endpoints", &endpoint];
    let register = Program::start(&mut command(&args));
    register.complains("0 of 1 are registered; trying again: ");
    etcd.restart().unwrap();
    register.complains("web 10.0.0.5:80: registered");
    keys(&client, &["web/10.0.0.5:80"]);
    etcd.kill().unwrap();
    // It ends in a bounded time also while etcd is away, and says that it has not left.
    register.signal(Signal::TERM);
    let ended = register.ended();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("expires within 15s"), "{ended:?}");
}

#[test]
fn draining_is_published_before_it_leaves() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let args = [
        "register",
        "--service",
        "web",
        "--addr",
        "10.0.0.5:80",
        "--drain",
        "60s",
    ];
    let register = Program::start(&mut command_for(&etcd, &args));
    keys(&client, &["web/10.0.0.5:80"]);
    register.signal(Signal::TERM);
    let is_draining = || (value(&client, "web/10.0.0.5:80")["status"] == "draining").then_some(());
    eventually(SOON, "it is draining", is_draining);
    register.signal(Signal::TERM);
    assert_eq!(register.ended().code, 0);
    keys(&client, &[]);
}

#[test]
fn an_instance_is_published_as_its_checks_allow() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let folder = Folder::new();
    let flag = folder.path("healthy");
    let text = |interval: &str| {
        format!(
            "[[service]]\nservice = 'web'\naddr = '10.0.0.5:80'\ncheck = ['exec:test -e {flag}']\n\
             check-interval = '{interval}'\nrise = 1\nfall = 1\n"
        )
    };
    let file = folder.write("services.toml", &text("100ms"));
    let register = Program::start(&mut command_for(&etcd, &["register", "--services", &file]));
    register.complains("its checks fail: ");
    keys(&client, &[]);
    fs::write(&flag, "").unwrap();
    register.complains("its checks pass");
    keys(&client, &["web/10.0.0.5:80"]);
    fs::remove_file(&flag).unwrap();
    let status = |status: &str| {
        let is = || (value(&client, "web/10.0.0.5:80")["status"] == status).then_some(());
        eventually(SOON, &format!("it is {status}"), is);
    };
    status("out_of_service");
    // Another check under the same id and address.
    fs::write(&file, text("100ms").replace("-e", "! -e")).unwrap();
    register.signal(Signal::HUP);
    register.complains("the file was read again");
    let is_up = || {
        let kv = client.get("/services/web/10.0.0.5:80").unwrap()?;
        let value: serde_json::Value = serde_json::from_slice(kv.value()).unwrap();
        (value["status"] == "up").then_some(())
    };
    eventually(SOON, "it is up by the new check", is_up);
    register.signal(Signal::TERM);
    assert_eq!(register.ended().code, 0);
    keys(&client, &[]);
}

#[test]
fn wrong_arguments_and_files_end_with_2() {
    let folder = Folder::new();
    let broken = folder.write("services.toml", "[[service]]\nservice = 'web'");
    for (args, expected) in [
        (&["register"][..], "--service"),
        (&["register", "--service", "web"], "--addr"),
        (
            &["register", "--service", "web", "--addr", "web"],
            "host:port",
        ),
        (
            &[
                "register",
                "--service",
                "web",
                "--addr",
                "a:1",
                "--meta",
                "x",
            ],
            "NAME=VALUE",
        ),
        (&["register", "--services", &broken], "service 1: "),
        (
            &["register", "--services", "/nowhere"],
            "/nowhere: No such file",
        ),
        (
            &[
                "register",
                "--services",
                "/nowhere",
                "--service",
                "web",
                "--addr",
                "a:1",
            ],
            "cannot be used with",
        ),
    ] {
        let ended = run(&mut command(args));
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
    }
}

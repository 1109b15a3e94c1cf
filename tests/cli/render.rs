//! The verb `render`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;

use crate::list::put;
use crate::program::{Program, SOON, command, command_for, run};
use crate::support::wait::eventually;

/// A folder that is deleted when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "etcd-service-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
pub(crate) fn becomes(path: &str, expected: &str) {
    let is = || {
        fs::read_to_string(path)
            .is_ok_and(|text| text == expected)
            .then_some(())
    };
    eventually(SOON, &format!("{path} is {expected:?}"), is);
}

const ADDRS: &str = "{% for one in service('web') | up %}{{ one.addr }}\n{% endfor %}";

fn started() -> (LocalEtcd, Client, Folder) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    (etcd, client, Folder::new())
}

#[test]
fn a_file_follows_services_and_keys_and_is_replaced_only_if_it_differs() {
    let (etcd, client, folder) = started();
    let template = format!(
        "{ADDRS}{{{{ key('colour', default='none') }}}} {{{{ keys('flags/') | length }}}}\n"
    );
    let (template, out) = (folder.write("t.j2", &template), folder.path("out"));
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    let reloads = folder.path("reloads");
    let reload = format!("echo \"$ETCD_SERVICE_FILE\" {{}} >> {reloads}");
    let args = [
        "render",
        &template,
        "--out",
        &out,
        "--reload",
        &reload,
        "--debounce",
        "50ms",
    ];
    let render = Program::start(&mut command_for(&etcd, &args));
    becomes(&out, "10.0.0.5:80\nnone 0\n");
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o644
    );
    becomes(&reloads, &format!("{out} {out}\n"));
    let first = fs::metadata(&out).unwrap().ino();

    // What no line shows changes nothing.
    put(&client, "web", "a", r#""addr":"10.0.0.5:80","version":"2""#);
    put(&client, "db", "b", r#""addr":"10.0.0.9:80""#);
    client.put("colours", "x").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o600)).unwrap();
    client.put("colour", "red").unwrap();
    becomes(&out, "10.0.0.5:80\nred 0\n");
    let second = fs::metadata(&out).unwrap();
    assert_ne!(second.ino(), first, "it is replaced, not written over");
    assert_eq!(second.permissions().mode() & 0o777, 0o600);
    becomes(&reloads, &format!("{out} {out}\n{out} {out}\n"));

    client.put("flags/a", "1").unwrap();
    becomes(&out, "10.0.0.5:80\nred 1\n");
    // The override of an operator, and a removal.
    put(&client, "web", "c", r#""addr":"10.0.0.6:80""#);
    becomes(&out, "10.0.0.5:80\n10.0.0.6:80\nred 1\n");
    client.put("/services/.ctl/web/c", "draining").unwrap();
    becomes(&out, "10.0.0.5:80\nred 1\n");
    client.delete("/services/web/a").unwrap();
    becomes(&out, "red 1\n");
    render.signal(Signal::TERM);
    assert_eq!(render.ended().code, 0);
    assert_eq!(folder.names(), ["out", "reloads", "t.j2"]);

    // A new process finds nothing to do.
    let before = fs::metadata(&out).unwrap().ino();
    let once = run(&mut command_for(&etcd, &[&args[..], &["--once"]].concat()));
    assert_eq!((once.code, once.stderr.as_str()), (0, ""), "{once:?}");
    assert_eq!(fs::metadata(&out).unwrap().ino(), before);
}

#[test]
fn all_services_are_in_a_file_from_its_first_version_on() {
    let (etcd, client, folder) = started();
    for n in 0..20 {
        put(&client, &format!("s{n:02}"), "a", r#""addr":"10.0.0.5:80""#);
    }
    let template = "{% for name in services %}{{ name }}{{ services[name] | length }} {% endfor %}";
    let (template, out) = (folder.write("t.j2", template), folder.path("out"));
    let all: String = (0..20).map(|n| format!("s{n:02}1 ")).collect();
    let log = folder.path("log");
    let reload = format!("cat {{}} >> {log}; echo >> {log}");
    let args = [
        "render",
        &template,
        "--out",
        &out,
        "--debounce",
        "20ms",
        "--reload",
        &reload,
    ];
    let render = Program::start(&mut command_for(&etcd, &args));
    becomes(&log, &format!("{all}\n"));
    put(&client, "s20", "a", r#""addr":"10.0.0.5:80""#);
    becomes(&out, &format!("{all}s201 "));
    client.delete("/services/s20/a").unwrap();
    becomes(&out, &all);
    render.signal(Signal::TERM);
    assert_eq!(render.ended().code, 0);
    let args = ["render", "@hosts", "--out", &out, "--once"];
    assert_eq!(run(&mut command_for(&etcd, &args)).code, 0);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 3 + 20);
}

#[test]
fn an_override_is_obeyed_in_the_first_file() {
    let (etcd, client, folder) = started();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    put(&client, "web", "b", r#""addr":"10.0.0.6:80""#);
    client.put("/services/.ctl/web/a", "maintenance").unwrap();
    let (template, out) = (folder.write("t.j2", ADDRS), folder.path("out"));
    let ended = run(&mut command_for(
        &etcd,
        &["render", &template, "--out", &out, "--once"],
    ));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "10.0.0.6:80\n");
}

#[test]
fn contents_that_the_check_refuses_never_replace_the_file() {
    let (etcd, client, folder) = started();
    client.put("colour", "red").unwrap();
    let (template, out) = (
        folder.write("t.j2", "{{ key('colour') }}"),
        folder.path("it's out"),
    );
    let check = "! grep -q bad {} && test \"$(cat \"$ETCD_SERVICE_FILE\")\" = \"$(cat {})\"";
    let args = [
        "render",
        &template,
        "--out",
        &out,
        "--check",
        check,
        "--debounce",
        "20ms",
    ];
    let render = Program::start(&mut command_for(&etcd, &args));
    becomes(&out, "red");
    client.put("colour", "bad").unwrap();
    render.complains("stays as it was: the command of --check failed");
    assert_eq!(fs::read_to_string(&out).unwrap(), "red");
    assert_eq!(folder.names(), ["it's out", "t.j2"]);
    client.put("colour", "green").unwrap();
    becomes(&out, "green");
    // A key that is gone, where the template permits that not.
    client.delete("colour").unwrap();
    render.complains("there is no key \"colour\"");
    assert_eq!(fs::read_to_string(&out).unwrap(), "green");
    let once = run(&mut command_for(&etcd, &[&args[..], &["--once"]].concat()));
    assert_eq!(once.code, 1, "{once:?}");
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let (etcd, _, folder) = started();
    let (template, out) = (folder.write("t.j2", "x"), folder.path("out"));
    let pid = folder.path("pid");
    let check = format!("sleep 1000 & echo $! > {pid}; wait");
    let args = [
        "render",
        &template,
        "--out",
        &out,
        "--check",
        &check,
        "--command-limit",
        "300ms",
        "--once",
    ];
    let ended = run(&mut command_for(&etcd, &args));
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .stderr
            .contains("did not end within 300ms, and was killed"),
        "{ended:?}"
    );
    let sleeping: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let is_gone = || {
        let status = fs::read_to_string(format!("/proc/{sleeping}/stat")).unwrap_or_default();
        (!status.contains("(sleep) S")).then_some(())
    };
    eventually(SOON, "the sleep is killed", is_gone);

    // A signal ends the program while a command runs.
    let args = ["render", &template, "--out", &out, "--check", &check];
    fs::remove_file(&pid).unwrap();
    let render = Program::start(&mut command_for(&etcd, &args));
    eventually(SOON, "the check runs", || {
        Path::new(&pid).exists().then_some(())
    });
    render.signal(Signal::TERM);
    assert_eq!(render.ended().code, 0);
    assert!(!Path::new(&out).exists());
    assert_eq!(folder.names(), ["pid", "t.j2"]);
}

#[test]
fn a_disk_that_is_full_leaves_the_old_file_whole() {
    let (etcd, client, folder) = started();
    client.put("text", "short").unwrap();
    let (template, out) = (
        folder.write("t.j2", "{{ key('text') }}"),
        folder.path("out"),
    );
    let limited = |once: bool| {
        // The limit of file sizes is as a full disk; its signal is ignored here.
        let mut shell = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_etcd-service")]);
        shell.args(["render", &template, "--out", &out, "--debounce", "20ms"]);
        shell
            .args(once.then_some("--once"))
            .env("ETCDCTL_ENDPOINTS", etcd.endpoint());
        shell
    };
    assert_eq!(run(&mut limited(true)).code, 0);
    client.put("text", "x".repeat(100_000).as_str()).unwrap();
    let ended = run(&mut limited(true));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("write ") && ended.stderr.lines().count() == 1,
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), "short");
    assert_eq!(folder.names(), ["out", "t.j2"]);
    let render = Program::start(&mut limited(false));
    render.complains("write ");
    client.put("text", "fits").unwrap();
    becomes(&out, "fits");
}

#[test]
fn nothing_is_written_before_etcd_answered_and_nothing_is_emptied_while_it_is_away() {
    let (mut etcd, client, folder) = started();
    put(&client, "web", "a", r#""addr":"10.0.0.5:80""#);
    client.put("colour", "red").unwrap();
    let template = format!("{ADDRS}{{{{ key('colour') }}}}\n");
    let (template, out) = (folder.write("t.j2", &template), folder.write("out", "old"));
    etcd.kill().unwrap();
    let args = [
        "render",
        &template,
        "--out",
        &out,
        "--debounce",
        "20ms",
        "--endpoints",
        &etcd.endpoint(),
    ];
    let short = ["--once", "--command-timeout", "500ms"];
    let once = run(&mut command(&[&args[..], &short].concat()));
    assert_eq!(once.code, 1);
    assert!(
        once.stderr.contains("etcd did not answer within 500ms"),
        "{once:?}"
    );
    let render = Program::start(&mut command(&args));
    render.complains("etcd cannot be followed; the file stays as it is");
    assert_eq!(fs::read_to_string(&out).unwrap(), "old");
    etcd.restart().unwrap();
    becomes(&out, "10.0.0.5:80\nred\n");
    render.complains("etcd is followed again");
    etcd.kill().unwrap();
    let is_said_again =
        || (render.stderr().matches("cannot be followed").count() == 2).then_some(());
    eventually(SOON, "the outage is reported", is_said_again);
    // A new template is rendered with the last good list.
    folder.write("t.j2", ADDRS);
    render.signal(Signal::HUP);
    becomes(&out, "10.0.0.5:80\n");
    folder.write("t.j2", "{% broken");
    render.signal(Signal::HUP);
    render.complains("the template stays as it was");
    assert_eq!(fs::read_to_string(&out).unwrap(), "10.0.0.5:80\n");
    etcd.restart().unwrap();
    render.signal(Signal::INT);
    assert_eq!(render.ended().code, 0);
}

#[test]
fn a_reload_that_fails_is_repeated() {
    let (etcd, _, folder) = started();
    let (template, out) = (folder.write("t.j2", "x"), folder.path("out"));
    let tried = folder.path("tried");
    let reload = format!("echo >> {tried}; test $(wc -l < {tried}) = 2");
    let args = ["render", &template, "--out", &out, "--reload", &reload];
    let render = Program::start(&mut command_for(&etcd, &args));
    render.complains("the command of --reload failed");
    becomes(&tried, "\n\n");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fs::read_to_string(&tried).unwrap(), "\n\n");
}

#[test]
fn mistakes_of_the_user_end_with_2() {
    let folder = Folder::new();
    let broken = folder.write("t.j2", "line\n{% if %}");
    for (args, expected) in [
        (
            &["render", "/nowhere/t.j2", "--out", "/x"][..],
            "/nowhere/t.j2: No such file",
        ),
        (&["render", &broken, "--out", "/x"], "template:2"),
        (
            &["render", "@apache", "--out", "/x"],
            "@haproxy, @nginx, @hosts, @file_sd",
        ),
        (&["render", "@hosts"], "--out"),
        (
            &["render", "@hosts", "--out", "/x", "--set", "x"],
            "NAME=VALUE",
        ),
    ] {
        let ended = run(&mut command(args));
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
    }
}

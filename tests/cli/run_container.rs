//! `run` as process 1 of a container: a namespace of processes.

use std::fs;
use std::process::{Command, Stdio};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Discovery};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::children;
use crate::program::{Program, SOON, command_for};
use crate::run::Folder;
use crate::support::wait::eventually;

/// The flags of `unshare` that this machine permits, or `None` with a line that says so.
fn namespace() -> Option<Vec<&'static str>> {
    let flags = ["--pid", "--fork", "--mount-proc"];
    let with_users = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    for flags in [&flags[..], &with_users] {
        let mut unshare = Command::new("unshare");
        let unshare = unshare.args(flags).arg("true");
        let unshare = unshare.stdout(Stdio::null()).stderr(Stdio::null());
        if unshare.status().is_ok_and(|status| status.success()) {
            return Some(flags.to_vec());
        }
    }
    println!("skipped: unshare cannot make a namespace of processes here");
    None
}

/// `run` as process 1, and its number outside of the namespace.
fn start(etcd: &LocalEtcd, namespace: &[&str], flags: &[&str], script: &str) -> (Program, Pid) {
    let base = ["run", "--service", "web", "--addr", "127.0.0.1:8000"];
    let args = [&base[..], flags, &["--", "/bin/sh", "-c", script]].concat();
    let inner = command_for(etcd, &args);
    let mut outer = Command::new("unshare");
    outer
        .args(namespace)
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let program = Program::start(outer.stdin(Stdio::null()));
    let first = eventually(SOON, "process 1 runs", || {
        children(program.pid()).first().copied()
    });
    (program, first)
}

#[test]
fn process_1_reaps_orphans_passes_signals_on_and_exits_with_the_code() {
    let Some(namespace) = namespace() else { return };
    let etcd = LocalEtcd::start().unwrap();
    // Twenty orphans, whose parents have ended; grep finds those that run and those that nobody has reaped.
    let script = "echo parent $(cut -d' ' -f4 /proc/$PPID/stat); \
        for n in 0 1 2 3 4 5 6 7 8 9; do (tail -f /dev/null & (setsid tail -f /dev/null &)); done; \
        until [ $(grep -ls '(tail)' /proc/[0-9]*/stat | wc -l) = 20 ]; do sleep 0.02; done; echo orphans; \
        for one in $(grep -ls '(tail)' /proc/[0-9]*/stat); do kill -9 $(cut -d' ' -f1 $one); done; \
        while grep -qs '(tail)' /proc/[0-9]*/stat; do sleep 0.02; done; \
        trap 'echo stopped; exit 6' TERM; echo reaped; while :; do sleep 0.02; done";
    let (program, first) = start(&etcd, &namespace, &["--drain-time", "0"], script);
    assert_eq!(program.line(), "parent 1");
    assert_eq!(program.line(), "orphans");
    assert_eq!(program.line(), "reaped");
    program.complains("registered, under lease");
    kill_process(first, Signal::TERM).unwrap();
    let ended = program.ended();
    assert_eq!((ended.code, &*ended.stdout), (6, "stopped\n"), "{ended:?}");
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    assert!(view.snapshot().is_empty());
}

#[test]
fn process_1_reaps_what_its_checks_leave_behind() {
    let Some(namespace) = namespace() else { return };
    let etcd = LocalEtcd::start().unwrap();
    let folder = Folder::new("container");
    let (checked, go) = (folder.file("checked"), folder.file("go"));
    let check = format!("exec:tail -f /dev/null & echo x >> {}", checked.display());
    let script = format!(
        "until test -f {}; do sleep 0.02; done; \
         while grep -qs '(tail)' /proc/[0-9]*/stat; do sleep 0.02; done; echo reaped; exit 9",
        go.display()
    );
    let flags = [
        "--check",
        &check,
        "--check-timeout",
        "20s",
        "--check-interval",
        "3s",
    ];
    let (program, _) = start(&etcd, &namespace, &flags, &script);
    eventually(SOON, "three checks have run", || {
        let text = fs::read_to_string(&checked).unwrap_or_default();
        (text.lines().count() >= 3).then_some(())
    });
    fs::write(go, "").unwrap();
    assert_eq!(program.line(), "reaped");
    assert_eq!(program.ended().code, 9);
}

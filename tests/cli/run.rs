//! `run`: a command that is registered while it is healthy.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Cause, Change, Client, Discovery, ServiceView, Status};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::program::{Program, SOON, command_for, run};
use crate::support::wait::eventually;

/// A folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("etcd-service-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn view(etcd: &LocalEtcd) -> ServiceView {
    let client = Client::connect([etcd.endpoint()]).unwrap();
    Discovery::new(&client).service("web").unwrap()
}

/// `run` with these flags and a script of the shell.
fn start(etcd: &LocalEtcd, flags: &[&str], script: &str) -> Program {
    let mut args = vec!["run", "--service", "web", "--addr", "127.0.0.1:8000"];
    args.extend(flags);
    args.extend(["--", "/bin/sh", "-c", script]);
    Program::start(&mut command_for(etcd, &args))
}

fn has_ended(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

/// The process whose number a script has written to a file.
fn process(folder: &Folder, name: &str) -> Pid {
    eventually(SOON, "the script has begun", || {
        let text = fs::read_to_string(folder.file(name)).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
}

#[test]
fn it_is_registered_once_its_check_passes_and_leaves_when_the_command_ends() {
    let etcd = LocalEtcd::start().unwrap();
    let (view, folder) = (view(&etcd), Folder::new("check"));
    let (ready, end) = (folder.file("ready"), folder.file("end"));
    let check = format!("exec:test -f {}", ready.display());
    let flags = [
        "--check",
        &check,
        "--check-interval",
        "100ms",
        "--ttl",
        "600s",
    ];
    let script = format!(
        "until test -f {}; do sleep 0.02; done; exit 7",
        end.display()
    );
    let program = start(&etcd, &flags, &script);
    program.complains("its health checks do not pass");
    assert!(view.snapshot().is_empty());
    fs::write(&ready, "").unwrap();
    let found = view.wait_for(1, SOON).unwrap();
    assert_eq!(found[0].addr, "127.0.0.1:8000");
    fs::remove_file(&ready).unwrap();
    eventually(SOON, "it is out of service", || {
        let now = view.snapshot();
        (now.first()?.status == Status::OutOfService).then_some(())
    });
    fs::write(&ready, "").unwrap();
    eventually(SOON, "it is up again", || {
        (view.snapshot().first()?.status == Status::Up).then_some(())
    });
    fs::write(&end, "").unwrap();
    assert_eq!(program.ended().code, 7);
    let cause = view.changes().iter().find_map(|change| match change {
        Change::Removed { cause, .. } => Some(cause),
        _ => None,
    });
    assert_eq!(cause, Some(Cause::Left));
}

#[test]
fn sigterm_drains_then_stops_the_command_and_then_leaves() {
    let etcd = LocalEtcd::start().unwrap();
    let view = view(&etcd);
    let script = "trap 'echo stopped; exit 3' TERM; echo started; while :; do sleep 0.02; done";
    let program = start(&etcd, &["--drain-time", "1s"], script);
    assert_eq!(program.line(), "started");
    program.complains("registered, under lease");
    program.signal(Signal::TERM);
    eventually(SOON, "it drains", || {
        (view.snapshot().first()?.status == Status::Draining).then_some(())
    });
    let ended = program.ended();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (3, "stopped\n"),
        "{ended:?}"
    );
    eventually(SOON, "it has left", || {
        view.snapshot().is_empty().then_some(())
    });
}

#[test]
fn further_signals_skip_the_drain_and_kill() {
    let etcd = LocalEtcd::start().unwrap();
    let flags = ["--drain-time", "1000s", "--stop-grace", "1000s"];
    let script = "trap 'echo asked' TERM; echo started; while :; do sleep 0.02; done";
    let program = start(&etcd, &flags, script);
    assert_eq!(program.line(), "started");
    program.complains("registered, under lease");
    program.signal(Signal::INT);
    program.complains("draining");
    program.signal(Signal::INT);
    assert_eq!(program.line(), "asked");
    program.signal(Signal::INT);
    assert_eq!(program.ended().code, 137);
}

#[test]
fn other_signals_are_passed_on() {
    let etcd = LocalEtcd::start().unwrap();
    let script =
        "trap 'echo again' HUP; trap 'exit 9' USR1; echo started; while :; do sleep 0.02; done";
    let program = start(&etcd, &[], script);
    assert_eq!(program.line(), "started");
    program.signal(Signal::HUP);
    assert_eq!(program.line(), "again");
    program.signal(Signal::USR1);
    assert_eq!(program.ended().code, 9);
}

#[test]
fn a_killed_command_is_137_and_nothing_of_it_is_left() {
    let etcd = LocalEtcd::start().unwrap();
    let folder = Folder::new("killed");
    let [command, child] = ["command", "child"].map(|name| folder.file(name));
    let script = format!(
        "sleep 1000 & echo $! > {}; echo $$ > {}; wait",
        child.display(),
        command.display()
    );
    let program = start(&etcd, &[], &script);
    let [command, child] = ["command", "child"].map(|name| process(&folder, name));
    kill_process(command, Signal::KILL).unwrap();
    assert_eq!(program.ended().code, 137);
    eventually(SOON, "the child of the command ends", || {
        has_ended(child).then_some(())
    });
}

#[test]
fn the_command_does_not_outlive_a_wrapper_that_is_killed() {
    let etcd = LocalEtcd::start().unwrap();
    let (view, folder) = (view(&etcd), Folder::new("wrapper"));
    let script = format!(
        "echo $$ > {}; exec sleep 1000",
        folder.file("command").display()
    );
    let program = start(&etcd, &["--ttl", "2s"], &script);
    let command = process(&folder, "command");
    view.wait_for(1, SOON).unwrap();
    program.signal(Signal::KILL);
    assert_eq!(program.ended().code, 137);
    eventually(SOON, "the command ends", || {
        has_ended(command).then_some(())
    });
    eventually(SOON, "it has expired", || {
        view.snapshot().is_empty().then_some(())
    });
}

#[test]
fn a_command_that_does_not_exist_is_127_and_wrong_arguments_are_2() {
    let etcd = LocalEtcd::start().unwrap();
    let base = ["run", "--service", "web", "--addr", "127.0.0.1:8000"];
    let missing = run(&mut command_for(
        &etcd,
        &[&base[..], &["--", "/no/such/program"]].concat(),
    ));
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.contains("/no/such/program"), "{missing:?}");
    for (flags, expected) in [
        (&[][..], "COMMAND"),
        (
            &["--check", "https://127.0.0.1/", "--", "true"],
            "do not use TLS",
        ),
        (&["--ttl", "5", "--", "true"], "not a time"),
        (&["--meta", "novalue", "--", "true"], "NAME=VALUE"),
    ] {
        let ended = run(&mut command_for(&etcd, &[&base[..], flags].concat()));
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
}

#[test]
fn etcd_that_is_away_at_the_start_is_waited_for() {
    let mut etcd = LocalEtcd::start().unwrap();
    etcd.kill().unwrap();
    let folder = Folder::new("away");
    let script = format!(
        "echo $$ > {}; exec sleep 1000",
        folder.file("command").display()
    );
    let program = start(&etcd, &["--drain-time", "0"], &script);
    process(&folder, "command");
    etcd.restart().unwrap();
    view(&etcd).wait_for(1, SOON).unwrap();
    etcd.kill().unwrap();
    program.signal(Signal::TERM);
    let ended = program.ended();
    assert_eq!(ended.code, 128 + 15, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("etcd removes the instance within 15s"),
        "{ended:?}"
    );
}

#[test]
fn a_file_of_settings_has_the_same_flags_and_arguments_win() {
    let etcd = LocalEtcd::start().unwrap();
    let (view, folder) = (view(&etcd), Folder::new("settings"));
    let file = folder.file("web.toml");
    let text = "[run]\nservice = \"web\"\naddr = \"127.0.0.1:9\"\ntag = [\"a\", \"b\"]\ndrain-time = \"0\"\n\
                command = [\"sleep\", \"1000\"]\n";
    fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let args = [
        "--config",
        &file,
        "run",
        "--addr",
        "127.0.0.1:10",
        "--tag",
        "c",
    ];
    let program = Program::start(&mut command_for(&etcd, &args));
    let found = view.wait_for(1, Duration::from_secs(30)).unwrap();
    let tags: Vec<&str> = found[0].tags.iter().map(AsRef::as_ref).collect();
    assert_eq!((found[0].addr.as_str(), tags), ("127.0.0.1:10", vec!["c"]));
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, 128 + 15);
}

//! Nothing of a command is left behind, also if it has left the process group.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use etcd_blocking::local::LocalEtcd;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::processes::{Mark, children};
use crate::program::{Program, SOON, command_for};
use crate::run::Folder;
use crate::support::wait::eventually;

/// A script that leaves behind a process in a session of its own, an orphan in another one, and a child, which ignore
/// SIGTERM. It prints `begun` when they run.
const LEAVES: &str = "trap '' TERM HUP; mark() { echo x >> $0; sleep 1000; }; \
    setsid sh -c 'echo x >> $0; sleep 1000; :' $0 & (setsid sh -c 'echo x >> $0; sleep 1000; :' $0 &) ; mark & \
    until [ $(grep -c x $0 2>/dev/null || echo 0) = 3 ]; do sleep 0.02; done; echo begun; ";

/// A verb around [`LEAVES`] and the rest of the script.
fn start(etcd: &LocalEtcd, verb: &[&str], folder: &Folder, mark: &Mark, then: &str) -> Program {
    let script = format!("{LEAVES}{then}");
    let file = folder.file("begun").display().to_string();
    let args = [verb, &["--", "/bin/sh", "-c", &script, &file]].concat();
    let program = Program::start(mark.set(&mut command_for(etcd, &args)));
    assert_eq!(program.line_with("begun"), "begun");
    // A process that begins another program has no environment for a moment.
    eventually(SOON, "its processes run", || {
        (mark.processes().len() >= 6).then_some(())
    });
    program
}

const RUN: [&str; 5] = ["run", "--service", "web", "--addr", "127.0.0.1:8000"];
const WAIT: &str = "while :; do sleep 0.02; done";

/// Nothing is left when the program has ended, without a further wait.
#[track_caller]
fn ends(program: Program, mark: &Mark, code: i32) {
    let ended = program.ended();
    assert_eq!(ended.code, code, "{ended:?}");
    assert_eq!(mark.processes(), [] as [i32; 0]);
}

#[test]
fn a_command_that_ends_leaves_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    for (verb, name) in [
        (&RUN[..], "end-run"),
        (&["lock", "job"], "end-lock"),
        (&["lead", "job"], "end-lead"),
    ] {
        let (folder, mark) = (Folder::new(name), Mark::new(name));
        let script = "until test -f $0.end; do sleep 0.02; done; exit 5";
        let program = start(&etcd, verb, &folder, &mark, script);
        fs::write(folder.file("begun.end"), "").unwrap();
        ends(program, &mark, 5);
    }
}

#[test]
fn a_command_that_is_killed_after_its_grace_leaves_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    let stop = ["--stop-grace", "300ms"];
    for (verb, name) in [
        (&[&RUN[..], &["--drain-time", "0"]].concat()[..], "term-run"),
        (&["lock", "job"], "term-lock"),
        (&["lead", "job"], "term-lead"),
    ] {
        let (folder, mark) = (Folder::new(name), Mark::new(name));
        let program = start(&etcd, &[verb, &stop].concat(), &folder, &mark, WAIT);
        program.signal(Signal::TERM);
        ends(program, &mark, 137);
    }
}

#[test]
fn a_lock_that_is_lost_leaves_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    for (verb, name) in [("lock", "lost-lock"), ("lead", "lost-lead")] {
        let (folder, mark) = (Folder::new(name), Mark::new(name));
        let program = start(&etcd, &[verb, "job", "--ttl", "60s"], &folder, &mark, WAIT);
        etcd.revoke_all().unwrap();
        ends(program, &mark, 5);
    }
}

#[test]
fn a_stage_that_is_killed_leaves_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    for (verb, name) in [(&RUN[..], "stage-run"), (&["lock", "job"], "stage-lock")] {
        let (folder, mark) = (Folder::new(name), Mark::new(name));
        let program = start(&etcd, verb, &folder, &mark, WAIT);
        let stage = children(program.pid());
        assert_eq!(stage.len(), 1);
        kill_process(stage[0], Signal::KILL).unwrap();
        ends(program, &mark, 137);
    }
}

#[test]
fn a_wrapper_that_is_killed_leaves_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    let stop = ["--stop-grace", "300ms"];
    for (verb, name) in [
        (&RUN[..], "wrapper-run"),
        (&["lock", "job"], "wrapper-lock"),
    ] {
        let (folder, mark) = (Folder::new(name), Mark::new(name));
        let program = start(&etcd, &[verb, &stop].concat(), &folder, &mark, WAIT);
        program.signal(Signal::KILL);
        assert_eq!(program.ended().code, 137);
        eventually(SOON, "nothing is left", || {
            mark.processes().is_empty().then_some(())
        });
    }
}

/// Each process of a chain starts the next one in a session of its own, and ends.
#[test]
fn a_chain_of_orphans_is_ended() {
    let etcd = LocalEtcd::start().unwrap();
    let (folder, mark) = (Folder::new("chain"), Mark::new("chain"));
    let (hop, end) = (folder.file("hop"), folder.file("end"));
    // The test ends the chain if the program does not.
    let script = "test -f $1 && exit; echo x >> $0.hops; setsid sh $0 $1 &";
    fs::write(&hop, script).unwrap();
    let script = "sh $0 $1; until [ $(grep -c x $0.hops) -gt 20 ]; do sleep 0.02; done; exit 5";
    let [hop_path, end_path] = [&hop, &end].map(|path| path.display().to_string());
    let command = ["--", "/bin/sh", "-c", script, &hop_path, &end_path];
    let args = [&RUN[..], &command].concat();
    let mut program = Program::start(mark.set(&mut command_for(&etcd, &args)));
    let ended = program.ended_within(2 * SOON);
    let hops = || {
        fs::read_to_string(folder.file("hop.hops"))
            .unwrap()
            .lines()
            .count()
    };
    let before = hops();
    // A process that begins another program has no environment for a moment: one look is not enough.
    let left = (0..100).find(|_| !mark.processes().is_empty());
    let after = hops();
    fs::write(end, "").unwrap();
    assert_eq!((ended.code, left, before), (5, None, after), "{ended:?}");
}

#[test]
fn checks_leave_nothing_behind() {
    let etcd = LocalEtcd::start().unwrap();
    let (folder, mark) = (Folder::new("checks"), Mark::new("checks"));
    let file = folder.file("checked");
    let check = format!(
        "exec:setsid sleep 1000 & echo x >> {}; sleep 1000",
        file.display()
    );
    let verb = [&RUN[..], &["--check", &check, "--check-timeout", "600s"]].concat();
    let end = folder.file("end");
    let script = format!(
        "until test -f {}; do sleep 0.02; done; exit 4",
        end.display()
    );
    let args = [&verb[..], &["--", "/bin/sh", "-c", &script]].concat();
    let program = Program::start(mark.set(&mut command_for(&etcd, &args)));
    eventually(SOON, "the check runs", || file.exists().then_some(()));
    eventually(SOON, "its processes run", || {
        (mark.processes().len() >= 5).then_some(())
    });
    fs::write(end, "").unwrap();
    ends(program, &mark, 4);
}

#[test]
fn children_of_the_program_that_was_replaced_go_on() {
    let etcd = LocalEtcd::start().unwrap();
    let folder = Folder::new("inherited");
    let pid = folder.file("pid").display().to_string();
    let inner = command_for(&etcd, &[&RUN[..], &["--", "true"]].concat());
    let mut outer = Command::new("/bin/sh");
    outer.args(["-c", "sleep 1000 & echo $! > \"$0\"; exec \"$@\"", &pid]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
        .env("ETCDCTL_ENDPOINTS", etcd.endpoint())
        .process_group(0);
    let ended = Program::start(&mut outer).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    let sleep = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let sleep = Pid::from_raw(sleep).unwrap();
    assert_eq!(test_kill_process(sleep), Ok(()));
    kill_process(sleep, Signal::KILL).unwrap();
}

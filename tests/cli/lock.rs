//! `lock` and `lead`: commands that run one after the other.

use etcd_blocking::local::LocalEtcd;
use rustix::process::{Signal, kill_process};

use crate::processes::{Mark, children};
use crate::program::{Program, SOON, command_for, run};
use crate::support::wait::eventually;

#[test]
fn the_command_gets_the_key_and_a_number_that_grows_and_its_code_is_passed_on() {
    let etcd = LocalEtcd::start().unwrap();
    for verb in ["lock", "lead"] {
        let script = "echo $ETCD_FENCING_TOKEN $ETCD_LOCK_REV $ETCD_LOCK_KEY; exit 3";
        let numbers = [(); 2].map(|()| {
            let ended = run(&mut command_for(
                &etcd,
                &[verb, "job", "--", "/bin/sh", "-c", script],
            ));
            assert_eq!(ended.code, 3, "{ended:?}");
            let words: Vec<&str> = ended.stdout.split_whitespace().collect();
            assert_eq!(words[0], words[1]);
            assert!(words[2].starts_with("job/"), "{ended:?}");
            words[0].parse::<i64>().unwrap()
        });
        assert!(numbers[0] < numbers[1], "{numbers:?}");
    }
}

#[test]
fn without_a_command_the_key_is_printed_and_held_until_a_signal() {
    let etcd = LocalEtcd::start().unwrap();
    let holder = Program::start(&mut command_for(&etcd, &["lock", "job"]));
    assert!(holder.line().starts_with("job/"));
    let late = run(&mut command_for(
        &etcd,
        &["lock", "job", "--timeout", "300ms", "--", "true"],
    ));
    assert_eq!(late.code, 4, "{late:?}");
    assert!(late.stderr.contains("was not acquired in time"), "{late:?}");
    // One that waits leaves the queue with its signal.
    let waits = Program::start(&mut command_for(&etcd, &["lock", "job", "--ttl", "600s"]));
    let client = etcd_blocking::Client::connect([etcd.endpoint()]).unwrap();
    let queue = || {
        client
            .call(etcd_blocking::Get::prefix("job/"))
            .unwrap()
            .kvs()
            .len()
    };
    eventually(SOON, "it waits", || (queue() == 2).then_some(()));
    waits.signal(Signal::TERM);
    assert_eq!(waits.ended().code, 143);
    assert_eq!(queue(), 1);
    holder.signal(Signal::TERM);
    assert_eq!(holder.ended().code, 0);
    assert_eq!(queue(), 0);
}

#[test]
fn a_lock_that_is_lost_kills_the_command_and_is_5() {
    let etcd = LocalEtcd::start().unwrap();
    for verb in ["lock", "lead"] {
        let script = "trap '' TERM; echo started; while :; do sleep 0.02; done";
        let args = [verb, "job", "--ttl", "3s", "--", "/bin/sh", "-c", script];
        let program = Program::start(&mut command_for(&etcd, &args));
        assert_eq!(program.line(), "started");
        etcd.revoke_all().unwrap();
        let ended = program.ended();
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(ended.stderr.contains("is lost"), "{ended:?}");
    }
}

#[test]
fn a_command_is_stopped_before_the_end_of_a_lease_that_is_not_renewed() {
    let mut etcd = LocalEtcd::start().unwrap();
    let script = "trap 'echo asked; exit 0' TERM; echo started; while :; do sleep 0.02; done";
    let args = ["lock", "job", "--ttl", "6s", "--", "/bin/sh", "-c", script];
    let program = Program::start(&mut command_for(&etcd, &args));
    assert_eq!(program.line(), "started");
    etcd.kill().unwrap();
    assert_eq!(program.line(), "asked");
    let ended = program.ended();
    assert_eq!(ended.code, 5, "{ended:?}");
}

/// The stage, which ends the command otherwise, is stopped: the program does it.
#[test]
fn a_command_ends_before_the_lease_also_if_its_stage_is_stopped() {
    let mut etcd = LocalEtcd::start().unwrap();
    for verb in ["lock", "lead"] {
        let script = "trap '' TERM; echo started; while :; do sleep 0.02; done";
        let args = [verb, "job", "--ttl", "3s", "--", "/bin/sh", "-c", script];
        let mark = Mark::new(&format!("stopped-stage-{verb}"));
        let program = Program::start(mark.set(&mut command_for(&etcd, &args)));
        assert_eq!(program.line(), "started");
        kill_process(children(program.pid())[0], Signal::STOP).unwrap();
        etcd.kill().unwrap();
        let ended = program.ended();
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(mark.processes().is_empty());
        etcd.restart_wiped().unwrap();
    }
}

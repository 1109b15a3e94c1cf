//! Five processes want one lock, and the holder is stopped by SIGSTOP for longer than its lease lives.
//!
//! Each command writes its number to a file all the time, and adds to a counter in etcd unless that has a larger
//! number. The file shows which commands ran when, the history of the counter which writes were accepted.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Compare, Put, Revision, Txn, Watch};
use rustix::process::{Signal, kill_process};
use signal_hook::consts::SIGTERM;

use crate::processes::children;
use crate::program::{Program, command_for};
use crate::run::Folder;
use crate::support::wait::eventually;

const ETCD: &str = "FENCED_TEST_ETCD";
const LOG: &str = "FENCED_TEST_LOG";
const NAME: &str = "FENCED_TEST_NAME";
const COUNTER: &str = "counter";
/// The longest wait for the next holder, whose turn comes with the end of a lease.
const LIMIT: Duration = Duration::from_secs(60);

/// Which processes are stopped.
#[derive(Clone, Copy, PartialEq)]
enum Stopped {
    Wrapper,
    /// Nobody can end the command then: the counter must refuse its writes.
    WrapperAndStage,
}

/// The command, when a lock runs this test alone. It ends by SIGKILL only.
#[test]
fn the_guarded_command() {
    let variable = |name| std::env::var(name);
    let (Ok(etcd), Ok(log), Ok(name)) = (variable(ETCD), variable(LOG), variable(NAME)) else {
        return;
    };
    signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false))).unwrap();
    let token: i64 = variable("ETCD_FENCING_TOKEN").unwrap().parse().unwrap();
    let mut log = OpenOptions::new().append(true).open(log).unwrap();
    let client = Client::connect([etcd]).unwrap();
    loop {
        let result = if add(&client, token) {
            "written"
        } else {
            "refused"
        };
        let line = format!("{token} {name} {result}\n");
        log.write_all(line.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
}

/// Adds one to the counter, unless a larger token was written; then it returns false.
fn add(client: &Client, token: i64) -> bool {
    loop {
        let found = client.get(COUNTER).unwrap();
        let (last, n, revision) = match &found {
            Some(kv) => {
                let (last, n) = entry(kv.value_str().unwrap());
                (last, n, kv.mod_revision())
            }
            None => (0, 0, Revision::NONE),
        };
        if last > token {
            return false;
        }
        let same = Compare::mod_revision(COUNTER).eq(revision);
        let put = Put::new(COUNTER, format!("{token} {}", n + 1));
        if client
            .txn(Txn::when([same]).then([put]))
            .unwrap()
            .succeeded()
        {
            return true;
        }
    }
}

fn entry(text: &str) -> (i64, i64) {
    let (token, n) = text.split_once(' ').unwrap();
    (token.parse().unwrap(), n.parse().unwrap())
}

/// A line of the file: a command has tried to write.
#[derive(Clone, Debug)]
struct Try {
    token: i64,
    program: usize,
    is_refused: bool,
}

fn tries(log: &Path) -> Vec<Try> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text.split_inclusive('\n');
    let whole = lines.filter_map(|line| line.strip_suffix('\n'));
    whole
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            Try {
                token: words[0].parse().unwrap(),
                program: words[1].parse().unwrap(),
                is_refused: words[2] == "refused",
            }
        })
        .collect()
}

/// The token and the number of each write of the counter, in the order of etcd.
fn counter_history(etcd: &LocalEtcd) -> Vec<(i64, i64)> {
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let last = client.get(COUNTER).unwrap().unwrap().mod_revision();
    let watch = Watch::key(COUNTER).start_revision(Revision::new(1));
    let mut history = Vec::new();
    for response in &client.watch(watch).unwrap() {
        for event in response.unwrap().events() {
            history.push(entry(event.kv().value_str().unwrap()));
            if event.revision() >= last {
                return history;
            }
        }
    }
    panic!("the watch has ended");
}

/// Runs five programs of this verb, and stops the holder twice. `command` is what the lock runs.
fn check(verb: &str, stopped: Stopped, command: &[&str]) {
    let etcd = LocalEtcd::start().unwrap();
    let folder = Folder::new(&format!("fenced-{verb}-{}", stopped as u8));
    let log = folder.file("log");
    File::create(&log).unwrap();
    let test = std::env::current_exe().unwrap().display().to_string();
    let test = [
        &*test,
        "lock_fenced::the_guarded_command",
        "--exact",
        "--nocapture",
    ];
    let args = [&[verb, "job", "--ttl", "3s", "--"], command, &test].concat();
    let start = |name: usize| {
        let mut command = command_for(&etcd, &args);
        command.env(ETCD, etcd.endpoint()).env(LOG, &log);
        Some(Program::start(command.env(NAME, name.to_string())))
    };
    let mut programs: Vec<_> = (0..5).map(start).collect();
    let mut last = 0;
    for _ in 0..2 {
        let holder = eventually(LIMIT, "a command writes", || {
            let newest = tries(&log).into_iter().max_by_key(|one| one.token);
            newest.filter(|one| one.token > last && !one.is_refused)
        });
        last = holder.token;
        let program = programs[holder.program].take().unwrap();
        let mut processes = vec![program.pid()];
        if stopped == Stopped::WrapperAndStage {
            processes.extend(children(program.pid()));
            assert_eq!(processes.len(), 2);
        }
        for process in &processes {
            kill_process(*process, Signal::STOP).unwrap();
        }
        let next = eventually(LIMIT, "the next command writes", || {
            tries(&log).into_iter().find(|one| one.token > last)
        });
        if stopped == Stopped::WrapperAndStage {
            eventually(LIMIT, "the old command is refused", || {
                let refused = |one: &Try| one.token == last && one.is_refused;
                tries(&log).iter().any(refused).then_some(())
            });
        }
        assert_ne!(next.program, holder.program);
        // The first one that goes on may end the other.
        for process in &processes {
            let _ = kill_process(*process, Signal::CONT);
        }
        let ended = program.ended();
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(ended.stderr.contains("is lost"), "{ended:?}");
        // Nothing of it runs any more.
        let after = tries(&log).len();
        eventually(LIMIT, "the next command writes", || {
            let since = tries(&log).split_off(after);
            assert!(since.iter().all(|one| one.token > last));
            (since.len() > 10).then_some(())
        });
    }
    let tries = tries(&log);
    if stopped == Stopped::Wrapper {
        assert!(
            tries.is_sorted_by_key(|one| one.token) && !tries.iter().any(|one| one.is_refused),
            "a command ran past the end of the lease"
        );
    }
    let writes = counter_history(&etcd);
    assert!(writes.is_sorted_by(|one, next| one.0 <= next.0 && one.1 + 1 == next.1));
    let mut tokens: Vec<i64> = writes.iter().map(|(token, _)| *token).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "{tokens:?}");
    let refused = tries.iter().filter(|one| one.is_refused).count();
    let writes = writes.len();
    println!("{verb}: {writes} writes by the tokens {tokens:?}; {refused} were refused");
}

/// A shell whose child is the command, in a session of its own: it is not in the process group.
const IN_SESSION: [&str; 4] = ["/bin/sh", "-c", "setsid \"$@\" & wait", "sh"];

#[test]
fn a_stopped_holder_of_a_lock_ends_its_command_before_the_lease() {
    check("lock", Stopped::Wrapper, &[]);
}

#[test]
fn a_stopped_leader_ends_its_command_before_the_lease_also_in_another_session() {
    check("lead", Stopped::Wrapper, &IN_SESSION);
}

#[test]
fn the_number_protects_when_nobody_can_end_the_command_of_a_lock() {
    check("lock", Stopped::WrapperAndStage, &IN_SESSION);
}

#[test]
fn the_number_protects_when_nobody_can_end_the_command_of_a_leader() {
    check("lead", Stopped::WrapperAndStage, &[]);
}

//! Go programs with clientv3 and this crate, contending for the same locks and elections.
//!
//! The programs are in the Go module `tests/go`, which pins clientv3; `go` downloads it. Where they cannot
//! be built, the tests print that they are skipped, unless `ETCD_BLOCKING_GO=required`, which `.ci/run`
//! sets where Go is installed.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use etcd_blocking::concurrency::{Election, Mutex, RwLock, Session};
use etcd_blocking::crossbeam_channel::{Receiver, unbounded};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Compare, ErrorKind, Put, Txn};

use crate::support::wait::eventually;

mod recipes;

const SOON: Duration = Duration::from_secs(30);

/// The Go program for locks, built once; `None` without Go.
fn program() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

    if_built(BUILT.get_or_init(|| build("locks")))
}

fn if_built(built: &'static Result<PathBuf, String>) -> Option<&'static Path> {
    match built {
        Ok(program) => Some(program),
        Err(why) if env::var("ETCD_BLOCKING_GO").as_deref() == Ok("required") => {
            panic!("the Go programs cannot be built: {why}")
        }
        Err(why) => {
            eprintln!("skipped without Go and clientv3: {why}");
            None
        }
    }
}

/// Builds one program of the module, with exactly the modules in `go.sum`.
fn build(name: &str) -> Result<PathBuf, String> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-{name}"));
    let built = Command::new("go")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go"))
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(format!("./{name}"))
        .output()
        .map_err(|error| format!("go: {error}"))?;
    if built.status.success() {
        Ok(program)
    } else {
        Err(String::from_utf8_lossy(&built.stderr).into_owned())
    }
}

/// A Go program that runs until its input is closed.
struct Go {
    child: Child,
    lines: Receiver<String>,
}

impl Go {
    fn start(program: &Path, etcd: &LocalEtcd, args: &[&str]) -> Go {
        let mut child = Command::new(program)
            .arg(etcd.endpoint())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = unbounded();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        Go { child, lines }
    }

    /// Reads the next line, which must begin with this, and returns the rest.
    #[track_caller]
    fn read_after(&self, prefix: &str) -> String {
        let line = self.lines.recv_timeout(SOON).unwrap();
        let rest = line.strip_prefix(prefix);
        rest.unwrap_or_else(|| panic!("{line}, not {prefix}"))
            .trim()
            .to_owned()
    }

    fn is_silent(&self) -> bool {
        self.lines.is_empty()
    }

    /// Closes its input, and waits until it exits.
    #[track_caller]
    fn end(&mut self) {
        drop(self.child.stdin.take());
        self.read_after("done");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> (LocalEtcd, Client, Session) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let session = Session::builder(&client)
        .ttl(Duration::from_secs(30))
        .start()
        .unwrap();
    (etcd, client, session)
}

#[track_caller]
fn keys_become(client: &Client, prefix: &'static str, count: usize) {
    eventually(SOON, "so many keys", || {
        (client.get_prefix(prefix).unwrap().len() == count).then_some(())
    });
}

#[test]
fn rust_waits_for_a_mutex_held_by_go_and_go_for_one_held_by_rust() {
    let Some(program) = program() else { return };
    let (etcd, client, session) = start();
    let mutex = Mutex::new(&session, "lock");
    let mut go = Go::start(program, &etcd, &["hold", "lock"]);
    let key = go.read_after("held ");
    assert!(key.starts_with("lock/"));
    assert!(mutex.try_lock().unwrap().is_none());
    let guard = thread::scope(|scope| {
        let waiting = scope.spawn(|| mutex.lock_timeout(SOON).unwrap());
        keys_become(&client, "lock/", 2);
        assert!(!waiting.is_finished());
        go.end();
        waiting.join().unwrap()
    });
    let mut next = Go::start(program, &etcd, &["hold", "lock"]);
    keys_become(&client, "lock/", 2);
    assert!(next.is_silent(), "it waits for ours");
    guard.unlock().unwrap();
    let held = next.read_after("held ");
    assert!(!held.is_empty());
    next.end();
    keys_become(&client, "lock/", 0);
}

#[test]
fn go_and_rust_increment_one_counter_under_one_mutex() {
    let Some(program) = program() else { return };
    let (etcd, client, _session) = start();
    client.put("counter", "0").unwrap();
    let go: Vec<_> = (0..2)
        .map(|_| Go::start(program, &etcd, &["count", "lock", "25"]))
        .collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let client = Client::connect([etcd.endpoint()]).unwrap();
                let session = Session::builder(&client).start().unwrap();
                let mutex = Mutex::new(&session, "lock");
                for _ in 0..25 {
                    let guard = mutex.lock_timeout(SOON).unwrap();
                    let counter = client.get("counter").unwrap().unwrap();
                    let n: u64 = counter.value_str().unwrap().parse().unwrap();
                    let same = Compare::mod_revision("counter").eq(counter.mod_revision());
                    let put = Put::new("counter", (n + 1).to_string());
                    let written = client.txn(Txn::when([guard.is_owner(), same]).then([put]));
                    assert!(written.unwrap().succeeded(), "two held the lock");
                }
            });
        }
    });
    for mut go in go {
        go.end();
    }
    assert_eq!(client.get("counter").unwrap().unwrap().value(), "100");
}

#[test]
fn readers_and_writers_of_go_and_rust_exclude_each_other() {
    let Some(program) = program() else { return };
    let (etcd, client, session) = start();
    let lock = RwLock::new(&session, "rw");
    let mut reading = Go::start(program, &etcd, &["read", "rw"]);
    reading.read_after("held");
    let guard = lock.try_read().unwrap().expect("readers share it");
    assert!(lock.try_write().unwrap().is_none());
    let mut writing = Go::start(program, &etcd, &["write", "rw"]);
    keys_become(&client, "rw/", 3);
    reading.end();
    keys_become(&client, "rw/", 2);
    assert!(writing.is_silent(), "it waits for our reader");
    guard.unlock().unwrap();
    writing.read_after("held");
    let short = Duration::from_millis(300);
    assert_eq!(
        lock.read_timeout(short).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    writing.end();
    assert!(lock.write_timeout(SOON).is_ok());
}

#[test]
fn go_and_rust_share_an_election() {
    let Some(program) = program() else { return };
    let (etcd, client, session) = start();
    let election = Election::new(&session, "vote");
    let observer = election.observe().unwrap();
    let next = || observer.recv_timeout(SOON).unwrap().unwrap();
    assert!(next().is_none());
    let mut watching = Go::start(program, &etcd, &["observe", "vote"]);
    let mut go = Go::start(program, &etcd, &["lead", "vote", "go"]);
    go.read_after("leads ");
    assert_eq!(next().unwrap().value(), "go");
    assert_eq!(watching.read_after("sees "), "go");
    let ours = thread::scope(|scope| {
        let waiting = scope.spawn(|| election.campaign_timeout("rust", SOON).unwrap());
        keys_become(&client, "vote/", 2);
        assert!(!waiting.is_finished());
        go.end();
        waiting.join().unwrap()
    });
    assert_eq!(next().unwrap().value(), "rust");
    assert_eq!(watching.read_after("sees "), "rust");
    let mut go = Go::start(program, &etcd, &["lead", "vote", "go again"]);
    keys_become(&client, "vote/", 2);
    assert!(go.is_silent());
    ours.proclaim("still rust").unwrap();
    assert_eq!(watching.read_after("sees "), "still rust");
    ours.resign().unwrap();
    go.read_after("leads ");
    assert_eq!(watching.read_after("sees "), "go again");
    drop(watching.child.stdin.take());
    go.end();
}

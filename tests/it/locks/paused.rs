//! A holder that is paused for longer than its lease lives, and resumes.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use etcd_blocking::Txn;
use etcd_blocking::concurrency::Mutex;
use etcd_blocking::crossbeam_channel::{select, tick, unbounded};
use rustix::process::{Pid, Signal, kill_process};

use super::*;

const ENDPOINT: &str = "ETCD_BLOCKING_TEST_HOLDER";

/// Kills the child of a failed test, stopped or not.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child process: holds the lock, works while it holds it, and writes once it detects that it
/// does not hold it.
fn hold(endpoint: &str) {
    let client = Client::connect([endpoint]).unwrap();
    let session = Session::builder(&client).ttl(secs(2)).start().unwrap();
    let guard = Mutex::new(&session, "lock").lock().unwrap();
    println!("held {}", guard.fencing_token());
    let work = tick(Duration::from_millis(20));
    let mut steps = 0;
    let why = loop {
        select! {
            recv(guard.lost()) -> why => break why.unwrap(),
            recv(work) -> _ => if guard.check().is_ok() { steps += 1 },
        }
    };
    println!("lost {:?} after {steps} steps", why.kind());
    let fenced = Txn::when([guard.is_owner()]).then([Put::new("resource", "old")]);
    let written = client.txn(fenced).unwrap().succeeded();
    println!("{}", if written { "written" } else { "refused" });
    println!(
        "unlocking: {:?}",
        guard.unlock().map_err(|error| error.kind())
    );
}

// Fault: F14
#[test]
fn a_stopped_holder_detects_its_loss_and_its_guarded_write_is_refused() {
    if let Ok(endpoint) = env::var(ENDPOINT) {
        return hold(&endpoint);
    }
    let (etcd, client) = start();
    let name = "locks::paused::a_stopped_holder_detects_its_loss_and_its_guarded_write_is_refused";
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ENDPOINT, etcd.endpoint())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = unbounded();
    let out = BufReader::new(child.stdout.take().unwrap());
    let pid = Pid::from_child(&child);
    let child = Killed(child);
    thread::spawn(move || {
        out.lines()
            .map_while(Result::ok)
            .all(|line| sender.send(line).is_ok())
    });
    let next = |prefix: &str| -> String {
        loop {
            let line = lines.recv_timeout(secs(30)).unwrap();
            // The test harness prints lines too.
            if let Some(at) = line.find(prefix) {
                return line[at + prefix.len()..].to_owned();
            }
            let ours = ["held", "lost", "written", "refused", "unlocking"];
            assert!(
                !ours.iter().any(|word| line.contains(word)),
                "{line}, not {prefix}"
            );
        }
    };

    let old: i64 = next("held ").parse().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mine = session(&client);
    let guard = Mutex::new(&mine, "lock").lock_timeout(secs(60)).unwrap();
    assert!(guard.fencing_token().get() > old);
    client.put("resource", "new").unwrap();
    let woken = Instant::now();
    kill_process(pid, Signal::CONT).unwrap();
    let lost = next("lost ");
    println!("lost fired {:?} after it woke: {lost}", woken.elapsed());
    assert!(lost.starts_with("LeaseExpired"), "{lost}");
    assert!(woken.elapsed() < secs(2), "before any other step");
    next("refused");
    assert!(
        next("unlocking: ").starts_with("Err("),
        "it had lost the lock"
    );
    assert_eq!(client.get("resource").unwrap().unwrap().value(), "new");
    assert!(guard.verify().is_ok(), "the former holder deleted nothing");
    drop(child);
}

//! Tests in a process of their own, and tests with a time limit.

use std::{
    env,
    os::unix::process::CommandExt,
    panic,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

const CHILD: &str = "ETCD_BLOCKING_TEST_ALONE";

/// Runs `body` in a process without other tests, so that threads, files and memory can be counted. The
/// process is the test binary with this one test.
///
/// `name` is the full name of the test that calls this, such as `bridge::a_test`.
#[track_caller]
pub fn alone(name: &str, limit: Duration, body: impl FnOnce()) {
    if env::var(CHILD).is_ok_and(|child| child == name) {
        return body();
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        // The group includes its etcd, so both can be killed together.
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let group = Pid::from_child(&child);
    let (done, ended) = channel();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = thread::spawn(move || std::io::read_to_string(&mut err).unwrap_or_default());
    thread::spawn(move || {
        let text = std::io::read_to_string(&mut out).unwrap_or_default();
        let _ = done.send((text, child.wait().unwrap()));
    });
    let Ok((text, status)) = ended.recv_timeout(limit) else {
        kill_process_group(group, Signal::KILL).unwrap();
        panic!("{name} did not end in {limit:?}");
    };
    let errors = errors.join().unwrap();
    println!("{text}{errors}");
    assert!(status.success(), "{name}: {status}");
    assert!(text.contains("1 passed"), "there is no test {name}");
}

/// Runs `body` on a thread of its own, and panics when it takes longer than `limit`.
#[track_caller]
pub fn within<T: Send + 'static>(limit: Duration, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = channel();
    let thread = thread::spawn(move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
        let _ = done.send(());
        result
    });
    if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("the test did not end in {limit:?}");
    }
    match thread.join().unwrap() {
        Ok(value) => value,
        Err(panicked) => panic::resume_unwind(panicked),
    }
}

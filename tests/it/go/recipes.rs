//! Go's queues and barriers, and this crate's on the same keys.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use etcd_blocking::concurrency::{Barrier, DoubleBarrier, PriorityQueue, Queue};

use super::{Go, SOON, build, if_built, keys_become, start};

fn program() -> Option<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

    if_built(BUILT.get_or_init(|| build("recipes")))
}

#[test]
fn go_and_rust_share_a_queue() {
    let Some(program) = program() else { return };
    let (etcd, client, _session) = start();
    let queue = Queue::new(&client, "q");
    Go::start(program, &etcd, &["enqueue", "q", "a", "b"]).end();
    queue.enqueue("c").unwrap();
    Go::start(program, &etcd, &["enqueue", "q", "d"]).end();
    for expected in ["a", "b"] {
        assert_eq!(queue.dequeue().unwrap().value(), expected);
    }
    let mut go = Go::start(program, &etcd, &["dequeue", "q", "3"]);
    assert_eq!(
        (go.read_after("got "), go.read_after("got ")),
        ("c".into(), "d".into())
    );
    // It waits for the third element.
    queue.enqueue("e").unwrap();
    assert_eq!(go.read_after("got "), "e");
    go.end();
    assert_eq!(queue.count().unwrap(), 0);
}

#[test]
fn go_and_rust_share_a_priority_queue() {
    let Some(program) = program() else { return };
    let (etcd, client, _session) = start();
    let queue = PriorityQueue::new(&client, "pq");
    queue.enqueue("last", 300).unwrap();
    Go::start(
        program,
        &etcd,
        &["enqueue-priority", "pq", "7", "first", "second"],
    )
    .end();
    let key = queue.enqueue("third", 7).unwrap();
    assert_eq!(key, "pq/00007/0000000000000002");
    Go::start(program, &etcd, &["enqueue-priority", "pq", "7", "fourth"]).end();
    assert_eq!(queue.dequeue().unwrap().value(), "first");
    let mut go = Go::start(program, &etcd, &["dequeue-priority", "pq", "2"]);
    assert_eq!(
        (go.read_after("got "), go.read_after("got ")),
        ("second".into(), "third".into())
    );
    go.end();
    for expected in ["fourth", "last"] {
        assert_eq!(queue.dequeue().unwrap().value(), expected);
    }
}

#[test]
fn rust_waits_at_a_barrier_held_by_go_and_go_at_one_held_by_rust() {
    let Some(program) = program() else { return };
    let (etcd, client, _session) = start();
    let barrier = Barrier::new(&client, "barrier");
    let mut go = Go::start(program, &etcd, &["hold", "barrier"]);
    go.read_after("held");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.wait_timeout(SOON));
        go.end();
        waiting.join().unwrap().unwrap();
    });
    barrier.hold().unwrap();
    let mut waiting = Go::start(program, &etcd, &["wait", "barrier"]);
    assert!(waiting.is_silent());
    barrier.release().unwrap();
    waiting.read_after("free");
    waiting.end();
}

#[test]
fn go_and_rust_share_a_double_barrier() {
    let Some(program) = program() else { return };
    for ours_is_first in [true, false] {
        let (etcd, client, session) = start();
        let barrier = DoubleBarrier::new(&session, "db", 2);
        thread::scope(|scope| {
            let go = || Go::start(program, &etcd, &["double", "db", "2"]);
            let (mut go, inside) = if ours_is_first {
                let entering = scope.spawn(|| barrier.enter_timeout(SOON).unwrap());
                keys_become(&client, "db/waiters/", 1);
                (go(), entering.join().unwrap())
            } else {
                let go = go();
                keys_become(&client, "db/waiters/", 1);
                (go, barrier.enter_timeout(SOON).unwrap())
            };
            go.read_after("inside");
            let leaving = scope.spawn(|| inside.leave_timeout(SOON));
            drop(go.child.stdin.take());
            go.read_after("outside");
            leaving.join().unwrap().unwrap();
            go.end();
            keys_become(&client, "db/", 0);
        });
    }
}

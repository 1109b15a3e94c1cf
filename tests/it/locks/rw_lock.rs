//! Read-write locks.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::thread;

use etcd_blocking::concurrency::RwLock;

use super::*;

#[test]
fn a_waiting_writer_waits_for_earlier_readers_and_blocks_later_readers() {
    let (_etcd, client) = start();
    let (a, b, c) = (session(&client), session(&client), session(&client));
    let lock = |session| RwLock::new(session, "rw");
    let (first, second) = (lock(&a).read().unwrap(), lock(&b).read().unwrap());
    assert_ne!(first.fencing_token(), second.fencing_token());
    assert!(lock(&c).try_write().unwrap().is_none());
    thread::scope(|scope| {
        let writer = scope.spawn(|| lock(&c).write_timeout(secs(60)).unwrap());
        keys_become(&client, "rw/", 3);
        assert!(lock(&a).try_read().unwrap().is_none(), "a writer waits");
        let reader = scope.spawn(|| lock(&a).read_timeout(secs(60)).unwrap());
        keys_become(&client, "rw/", 4);
        first.unlock().unwrap();
        assert!(!writer.is_finished());
        second.unlock().unwrap();
        let writer = writer.join().unwrap();
        assert!(!reader.is_finished());
        let token = writer.fencing_token();
        writer.unlock().unwrap();
        // It was queued later, and so has the greater number.
        assert!(reader.join().unwrap().fencing_token() > token);
    });
    assert!(keys(&client, "rw/").is_empty());
}

#[test]
fn a_read_write_lock_that_times_out_leaves_no_key() {
    let (_etcd, client) = start();
    let (a, b) = (session(&client), session(&client));
    let guard = RwLock::new(&a, "rw").write().unwrap();
    let short = Duration::from_millis(100);
    let lock = RwLock::new(&b, "rw");
    assert_eq!(
        lock.read_timeout(short).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(
        lock.write_timeout(short).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(keys(&client, "rw/").len(), 1);
    assert!(keys(&client, "rw/")[0].starts_with("rw/write/"));
    drop(guard);
    let guard = lock.try_read().unwrap().unwrap();
    assert!(String::from_utf8_lossy(guard.key()).starts_with("rw/read/"));
}

#[test]
fn no_reader_holds_the_lock_while_a_writer_does() {
    let (etcd, _client) = start();
    // The number of readers that hold the lock, or -1 for a writer.
    let inside = AtomicI64::new(0);
    thread::scope(|scope| {
        for n in 0..4 {
            let (etcd, inside) = (&etcd, &inside);
            scope.spawn(move || {
                let client = Client::connect([etcd.endpoint()]).unwrap();
                let session = session(&client);
                let lock = RwLock::new(&session, "rw");
                for _ in 0..15 {
                    if n == 0 {
                        let _guard = lock.write_timeout(secs(60)).unwrap();
                        inside.compare_exchange(0, -1, SeqCst, SeqCst).unwrap();
                        inside.store(0, SeqCst);
                    } else {
                        let _guard = lock.read_timeout(secs(60)).unwrap();
                        assert!(inside.fetch_add(1, SeqCst) >= 0, "a writer is inside");
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });
}

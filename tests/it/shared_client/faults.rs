//! Faults beside the uses: one operation stalled, oversized, refused or flooded, repeatedly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etcd_blocking::concurrency::Session;
use etcd_blocking::lock_service::Lock;
use etcd_blocking::{Client, ErrorKind, Get, Instance, KeyRange, Put, Registrar, Revision, Watch};

use super::RECEIVE_LIMIT;
use super::uses::refused;

/// A fault: it uses the shared client and a client of root until `stop` is set.
type Fault = fn(&Client, &Client, &AtomicBool);

pub(super) fn all() -> Vec<(&'static str, Fault)> {
    vec![
        ("unread flows", unread_flows),
        ("a list that is not read on", stalled_pages),
        ("replies over the limit", oversized_replies),
        ("an event over the limit", oversized_events),
        ("requests over the limit", oversized_requests),
        ("requests that are denied", denied_requests),
        ("instances that are denied", denied_instances),
        ("a lease that may not be renewed", denied_renewals),
        ("waiters for the server's lock", waiters),
        ("a flood of puts", flood),
    ]
}

fn until(stop: &AtomicBool, mut step: impl FnMut()) {
    while !stop.load(Ordering::SeqCst) {
        step();
        thread::sleep(Duration::from_millis(5));
    }
}

/// An unread watch, mirror and view during a flood of changes.
fn unread_flows(client: &Client, root: &Client, stop: &AtomicBool) {
    let range = || KeyRange::prefix("use/unread/");
    let _watch = client.watch(Watch::range(range())).unwrap();
    let _mirror = client.mirror(range()).unwrap();
    let value = vec![b'x'; 16 << 10];
    until(stop, || {
        let puts: Vec<_> = (0..8)
            .map(|n| root.submit(Put::new(format!("use/unread/{n}"), &value)))
            .collect();
        for put in puts {
            put.wait().unwrap();
        }
    });
}

fn stalled_pages(client: &Client, root: &Client, stop: &AtomicBool) {
    let value = vec![b'x'; 8 << 10];
    for n in 0..512 {
        root.put(format!("use/large/{n:04}"), &value).unwrap();
    }
    let mut open = Vec::new();
    until(stop, || {
        if open.len() < 4 {
            let mut pages = client.pages(Get::prefix("use/large/"), 16).unwrap();
            pages.next().unwrap().unwrap();
            open.push(pages);
        }
    });
}

fn oversized_replies(client: &Client, root: &Client, stop: &AtomicBool) {
    for n in 0..4 {
        let value = vec![b'x'; RECEIVE_LIMIT / 3];
        root.put(format!("use/sum/{n}"), value).unwrap();
    }
    until(stop, || {
        refused(client.get_prefix("use/sum/"), &[ErrorKind::TooLarge]);
    });
}

fn oversized_events(client: &Client, root: &Client, stop: &AtomicBool) {
    until(stop, || {
        let watch = client.watch(Watch::prefix("use/event/")).unwrap();
        root.put("use/event/k", vec![b'x'; RECEIVE_LIMIT + 1])
            .unwrap();
        let last = watch
            .recv_timeout(Duration::from_secs(10))
            .expect("the watch ends");
        refused(last, &[ErrorKind::TooLarge]);
    });
}

fn oversized_requests(client: &Client, _: &Client, stop: &AtomicBool) {
    // Over the server's limit of 1.5 MiB, and then over the client's of 2 MiB.
    let sizes = [1_700 << 10, 2_500 << 10];
    let mut sizes = sizes.iter().cycle();
    until(stop, || {
        let value = vec![b'x'; *sizes.next().unwrap()];
        refused(client.put("use/big", value), &[ErrorKind::TooLarge]);
    });
}

fn denied_requests(client: &Client, _: &Client, stop: &AtomicBool) {
    let denied = &[ErrorKind::PermissionDenied];
    until(stop, || {
        refused(client.put("other/k", "x"), denied);
        refused(client.get_prefix("other/"), denied);
        refused(client.watch(Watch::prefix("other/")), denied);
        refused(client.mirror(KeyRange::prefix("other/")), denied);
        refused(client.auth().user_list(), denied);
        // `Compacted` is allowed too: the request is refused for every user.
        let past = Watch::prefix("use/").start_revision(Revision::new(1));
        drop(client.watch(past));
    });
}

fn denied_instances(client: &Client, _: &Client, stop: &AtomicBool) {
    let registrar = Registrar::builder(client).prefix("other/").start().unwrap();
    let announced: Vec<_> = (1..40)
        .map(|n| registrar.announce(Instance::new("web", format!("h:{n}"))))
        .collect();
    until(stop, || {
        let late = registrar.register(Instance::new("api", "h:9"));
        refused(late, &[ErrorKind::PermissionDenied]);
    });
    drop(announced);
}

/// A lease with a key of root: etcd refuses to renew it for a user who may not write that key.
fn denied_renewals(client: &Client, root: &Client, stop: &AtomicBool) {
    until(stop, || {
        let lease = client.grant(Duration::from_secs(4)).unwrap();
        root.call(Put::new("other/leased", "x").lease(lease.id()))
            .unwrap();
        let _alive = client.keep_alive(lease.id()).unwrap();
        refused(
            client.keep_alive_once(lease.id()),
            &[ErrorKind::PermissionDenied],
        );
        thread::sleep(Duration::from_millis(200));
    });
}

fn waiters(client: &Client, _: &Client, stop: &AtomicBool) {
    let session = || Session::builder(client).start().unwrap();
    let (holder, waiting) = (session(), session());
    let held = client
        .lock_service()
        .lock("use/contended", &holder)
        .unwrap();
    thread::scope(|scope| {
        for n in 0..24 {
            let waiting = &waiting;
            scope.spawn(move || {
                until(stop, || {
                    let name = "use/contended";
                    let lock = Lock::new(name, waiting).within(Duration::from_millis(300 + n));
                    drop(client.call(lock));
                });
            });
        }
    });
    client.lock_service().unlock(held.key().clone()).unwrap();
}

fn flood(client: &Client, _: &Client, stop: &AtomicBool) {
    let value = vec![b'x'; 1 << 10];
    until(stop, || {
        let puts: Vec<_> = (0..256)
            .map(|n| client.submit(Put::new(format!("use/flood/{n}"), &value)))
            .collect();
        for put in puts {
            put.wait().unwrap();
        }
    });
}

/// Snapshots that begin and are not read.
pub(super) fn unread_snapshots(client: &Client, stop: &AtomicBool) {
    let mut open = Vec::new();
    until(stop, || {
        if open.len() < 4 {
            open.push(client.maintenance().snapshot().unwrap());
        }
    });
}

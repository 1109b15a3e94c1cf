//! Calls through the private runtime: from many threads, without a deadline, and after a fork.

mod close;
mod runtimes;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, Put, Txn, Watch};

use crate::support::child::{alone, within};
use crate::support::pace::Pace;
use crate::support::proxy::Proxy;
use crate::support::raw::RawServer;
use crate::support::wait::{eventually, eventually_all_asleep, items, open_fds, threads};

const SOON: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The documented `Send`, `Sync` and `Clone` of the public types.
#[test]
fn every_handle_can_be_used_by_every_thread() {
    use etcd_blocking::concurrency::{Leadership, LockGuard, Observer, Session};
    use etcd_blocking::lock_service::Leaders;
    use etcd_blocking::maintenance::SnapshotStream;
    use etcd_blocking::mirror::{Cache, Mirror, MirrorCopy};
    use etcd_blocking::watch::WatchSet;
    use etcd_blocking::{KeepAlive, Pages, Pending, Registrar, Registration, ServiceView, Watcher};

    fn cloned_for_all<T: Send + Sync + Clone + 'static>() {}
    fn for_all<T: Send + Sync + 'static>() {}
    cloned_for_all::<Client>();
    cloned_for_all::<Session>();
    for_all::<(Pending<()>, Pages, Watcher, WatchSet, KeepAlive)>();
    for_all::<(Mirror, Cache, MirrorCopy, SnapshotStream)>();
    for_all::<(LockGuard, Leadership, Observer, Leaders)>();
    for_all::<(ServiceView, Registrar, Registration)>();
}

#[test]
fn each_caller_gets_its_own_result_in_every_drive_mode() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let watcher = client.watch(Watch::key("count")).unwrap();
    let mut expected = 0u32;
    within(secs(120), move || {
        for callers in [1, 2, 16, 1, 16, 2, 1] {
            thread::scope(|scope| {
                for caller in 0..callers {
                    let client = &client;
                    scope.spawn(move || {
                        for round in 0..100 {
                            let (key, value) =
                                (format!("c/{caller}"), format!("{callers} {round}"));
                            client.put(key.clone(), value.clone()).unwrap();
                            let kv = client.get(key.clone()).unwrap().unwrap();
                            assert_eq!(
                                (kv.key().as_ref(), kv.value_str()),
                                (key.as_bytes(), Some(&*value))
                            );
                        }
                    });
                }
            });
            // Flows continue in every drive mode.
            client.put("count", expected.to_string()).unwrap();
            let seen = watcher.recv_timeout(SOON).unwrap().unwrap();
            assert_eq!(
                seen.events()[0].kv().value_str(),
                Some(&*expected.to_string())
            );
            expected += 1;
        }
    });
}

#[test]
fn the_maximum_timeout_means_no_deadline() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .timeout(Duration::MAX)
        .connect()
        .unwrap();
    client.put("k", "v").unwrap();
    let view = client.with_timeout(Duration::MAX);
    assert!(view.get("k").unwrap().is_some());
    let watcher = view.watch("k").unwrap();
    view.put("k", "w").unwrap();
    watcher.recv_timeout(SOON).unwrap().unwrap();
    let lease = view.grant(secs(30)).unwrap();
    view.keep_alive(lease.id())
        .unwrap()
        .receiver()
        .recv_timeout(SOON)
        .unwrap()
        .unwrap();
    assert!(view.mirror("k").unwrap().snapshot().len() == 1);
}

// Fault: F39
#[test]
fn a_forked_child_gets_errors_and_does_not_affect_its_parent() {
    alone(
        "bridge::a_forked_child_gets_errors_and_does_not_affect_its_parent",
        secs(60),
        || {
            let etcd = LocalEtcd::start().unwrap();
            let client = Client::connect([etcd.endpoint()]).unwrap();
            let watcher = client.watch("k").unwrap();
            let lease = client.grant(secs(60)).unwrap();
            let alive = client.keep_alive(lease.id()).unwrap();
            alive.receiver().recv_timeout(SOON).unwrap().unwrap();
            for n in 0..100 {
                client.put("k", n.to_string()).unwrap();
            }
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            match fork::fork().unwrap() {
                fork::Fork::Child => {
                    let begun = Instant::now();
                    let kinds = [
                        client.get("k").map(drop),
                        client.put("k", "child").map(drop),
                        client.submit(Get::key("k")).wait().map(drop),
                        client.watch("k").map(drop),
                        client.keep_alive(lease.id()).map(drop),
                        client.mirror("k").map(drop),
                        client.grant(secs(5)).map(drop),
                        client.clone().close(),
                    ]
                    .map(|result| result.map_err(|error| error.kind()));
                    drop((watcher, alive));
                    drop(client);
                    let took = begun.elapsed();
                    let text = match kinds
                        .iter()
                        .position(|kind| *kind != Err(ErrorKind::Forked))
                    {
                        None => format!("ok {took:?}"),
                        Some(call) => format!("call {call}: {:?}", kinds[call]),
                    };
                    let output = theirs.write_all(text.as_bytes());
                    // Exit without unwinding, because the child must not drop the parent's etcd.
                    std::process::exit(i32::from(output.is_err()));
                }
                fork::Fork::Parent(child) => {
                    drop(theirs);
                    ours.set_read_timeout(Some(SOON)).unwrap();
                    let mut output = String::new();
                    ours.read_to_string(&mut output).unwrap();
                    fork::waitpid(child).unwrap();
                    println!("the child: {output}");
                    assert!(output.starts_with("ok "), "{output}");
                    client.put("k", "parent").unwrap();
                    eventually(SOON, "the parent's watch delivers", || {
                        let seen = watcher.recv_timeout(SOON).unwrap().unwrap().into_events();
                        (seen.last().unwrap().kv().value() == "parent").then_some(())
                    });
                    assert!(alive.is_alive());
                    client.keep_alive_once(lease.id()).unwrap();
                    assert_eq!(client.get("k").unwrap().unwrap().value(), "parent");
                    let newer = client.watch("new").unwrap();
                    client.put("new", "v").unwrap();
                    newer.recv_timeout(SOON).unwrap().unwrap();
                    client.close().unwrap();
                }
            }
        },
    );
}

//! From every kind of caller to the private runtime and back: inside other runtimes, in many
//! threads, while the client closes, and after a fork.

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

/// What the table of `Client` says of threads and cloning.
#[test]
fn whatever_a_client_gives_can_be_used_by_every_thread() {
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

/// Makes a client and uses everything it has; then drops it, or closes it.
fn every_verb(endpoint: &str, prefix: &str, close: bool) {
    let client = Client::connect([endpoint]).unwrap();
    let key = format!("{prefix}/k");
    let watcher = client.watch(Watch::prefix(prefix.to_owned())).unwrap();
    let mirror = client.mirror(KeyRange::prefix(prefix.to_owned())).unwrap();
    let put = client.put(key.clone(), "v").unwrap();
    assert_eq!(client.get(key.clone()).unwrap().unwrap().value(), "v");
    let seen = watcher.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(seen.events()[0].revision(), put.revision());
    assert_eq!(mirror.wait_revision(put.revision(), SOON).unwrap().len(), 1);
    assert!(
        client
            .txn(Txn::always([Get::key(key.clone())]))
            .unwrap()
            .succeeded()
    );
    let pages = client.pages(Get::prefix(prefix.to_owned()), 1).unwrap();
    assert_eq!(pages.map(|page| page.unwrap().len()).sum::<usize>(), 1);
    let pending: Vec<_> = (0..10)
        .map(|_| client.submit(Get::key(key.clone())))
        .collect();
    for get in pending {
        assert_eq!(get.wait().unwrap().count(), 1);
    }
    let lease = client.grant(secs(30)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    client.keep_alive_once(lease.id()).unwrap();
    assert!(
        client
            .time_to_live(lease.id())
            .unwrap()
            .remaining()
            .is_some()
    );
    client.revoke(lease.id()).unwrap();
    let deleted = client.delete(key).unwrap();
    // Compaction at the same revision again is an error; other tests of this server compact too.
    let _ = client.compact(deleted.revision());
    if close {
        client.close().unwrap();
        let last = items(watcher.receiver(), SOON).last().unwrap();
        assert_eq!(last.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn every_verb_works_in_every_kind_of_runtime() {
    use tokio::runtime::Builder;

    let etcd = LocalEtcd::start().unwrap();
    let endpoint: Arc<str> = etcd.endpoint().into();
    let verbs = |place: &'static str| {
        let endpoint = Arc::clone(&endpoint);
        move || {
            every_verb(&endpoint, &format!("{place}/closed"), true);
            every_verb(&endpoint, &format!("{place}/dropped"), false);
        }
    };
    within(secs(60), verbs("thread"));
    let kinds = [
        ("current", Builder::new_current_thread()),
        ("multi", Builder::new_multi_thread()),
    ];
    for (kind, mut builder) in kinds {
        let runtime = builder.enable_all().build().unwrap();
        let (inside, spawned, blocking) = match kind {
            "current" => (verbs("c/in"), verbs("c/task"), verbs("c/blocking")),
            _ => (verbs("m/in"), verbs("m/task"), verbs("m/blocking")),
        };
        within(secs(60), move || {
            runtime.block_on(async { inside() });
            runtime.block_on(async {
                tokio::spawn(async move { spawned() }).await.unwrap();
                tokio::task::spawn_blocking(blocking).await.unwrap();
            });
        });
    }
}

#[test]
fn tasks_of_one_runtime_share_a_client_and_the_last_drops_it() {
    let etcd = LocalEtcd::start().unwrap();
    let endpoint = etcd.endpoint();
    within(secs(60), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .build()
            .unwrap();
        let client = Client::connect([endpoint]).unwrap();
        // A caller outside drives the private runtime meanwhile.
        for n in 0..100 {
            client.put("outside", n.to_string()).unwrap();
        }
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let client = client.clone();
                runtime.spawn(async move {
                    for round in 0..50 {
                        let (key, value) = (format!("task/{n}"), format!("{n}.{round}"));
                        client.put(key.clone(), value.clone()).unwrap();
                        assert_eq!(client.get(key).unwrap().unwrap().value_str(), Some(&*value));
                    }
                })
            })
            .collect();
        drop(client);
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    });
}

#[test]
fn results_belong_to_their_callers_whoever_drives() {
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
            // Flows go on whoever drove last.
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
fn a_deadline_without_end_is_one() {
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

/// What 64 threads do when the client closes.
fn blocked_call(client: &Client, n: usize) -> etcd_blocking::Error {
    match n % 8 {
        0 => client.get("k").unwrap_err(),
        1 => client.put("k", "v").unwrap_err(),
        2 => client.txn(Txn::always([Put::new("k", "v")])).unwrap_err(),
        3 => client.submit(Get::key("k")).wait().unwrap_err(),
        4 => client.watch("k").unwrap_err(),
        5 => client.grant(secs(30)).unwrap_err(),
        6 => client
            .submit(Put::new("k", "v"))
            .receiver()
            .recv_timeout(SOON)
            .unwrap()
            .unwrap_err(),
        _ => client.mirror("k").unwrap_err(),
    }
}

// Case: KV-27
#[test]
fn callers_that_wait_return_at_once_when_the_client_closes() {
    alone(
        "bridge::callers_that_wait_return_at_once_when_the_client_closes",
        secs(90),
        || {
            let etcd = LocalEtcd::start().unwrap();
            let proxy = Proxy::start(etcd.client_addr());
            let pace = Pace::start();
            let before = (threads(), open_fds());
            for (round, connected) in [(1, true), (2, false)] {
                let client = Client::builder([proxy.endpoint()])
                    .timeout(secs(60))
                    .connect()
                    .unwrap();
                if connected {
                    client.put("k", "v").unwrap();
                }
                let up = proxy.bytes_up();
                proxy.black_hole(true);
                let begun = Arc::new(Barrier::new(65));
                let blocked: Vec<_> = (0..64)
                    .map(|n| {
                        let (client, begun) = (client.clone(), Arc::clone(&begun));
                        thread::spawn(move || {
                            begun.wait();
                            let error = blocked_call(&client, n);
                            (n, Instant::now(), error)
                        })
                    })
                    .collect();
                begun.wait();
                eventually_all_asleep(SOON);
                assert_eq!(proxy.bytes_up(), up, "the proxy swallows everything");
                let closing = Instant::now();
                client.clone().close().unwrap();
                let closed = pace.check("close", closing, secs(1));
                let mut slowest = closing;
                for thread in blocked {
                    let (n, returned, error) = thread.join().unwrap();
                    assert_eq!(error.kind(), ErrorKind::Closed, "{n}: {error}");
                    // Nobody knows what became of a write that was on its way.
                    let write = [1, 2, 5, 6].contains(&(n % 8));
                    assert_eq!(error.outcome_unknown(), write, "{n}: {error}");
                    slowest = slowest.max(returned);
                }
                println!(
                    "round {round}: close took {closed:?}, the last of 64 callers returned after {:?}",
                    slowest.duration_since(closing)
                );
                pace.check_span("the last of 64 callers", closing, slowest, secs(1));
                for n in 0..8 {
                    let late = blocked_call(&client, n);
                    assert_eq!(late.kind(), ErrorKind::Closed);
                    assert!(!late.outcome_unknown(), "nothing was sent: {late}");
                }
                drop(client);
                proxy.black_hole(false);
                eventually(SOON, "threads and files as before", || {
                    ((threads(), open_fds()) == before).then_some(())
                });
            }
        },
    );
}

#[test]
fn a_lone_caller_that_drives_returns_at_once_when_the_client_closes() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr());
    let client = Client::builder([proxy.endpoint()])
        .timeout(secs(60))
        .connect()
        .unwrap();
    // Long enough in a row to drive itself.
    for _ in 0..200 {
        client.put("k", "v").unwrap();
    }
    let pace = Pace::start();
    proxy.black_hole(true);
    let waiting = thread::spawn({
        let client = client.clone();
        move || (client.put("k", "v").unwrap_err(), Instant::now())
    });
    // What it sends is swallowed: once it has been sent, the caller waits for good.
    eventually(SOON, "the call is under way", || {
        (proxy.bytes_swallowed() > 0).then_some(())
    });
    let closing = Instant::now();
    client.close().unwrap();
    let (error, returned) = waiting.join().unwrap();
    assert!(
        error.kind() == ErrorKind::Closed && error.outcome_unknown(),
        "{error}"
    );
    println!(
        "returned {:?} after close began",
        returned.saturating_duration_since(closing)
    );
    pace.check_span("a lone caller", closing, returned, secs(1));
}

#[test]
fn a_thousand_clients_leave_nothing_behind() {
    alone(
        "bridge::a_thousand_clients_leave_nothing_behind",
        secs(120),
        || {
            let etcd = LocalEtcd::start().unwrap();
            let cycle = |n: usize| {
                let client = Client::connect([etcd.endpoint()]).unwrap();
                client.put("k", n.to_string()).unwrap();
                match n % 4 {
                    0 => client.close().unwrap(),
                    1 => drop(client),
                    2 => {
                        let watcher = client.watch("k").unwrap();
                        drop(client);
                        assert_eq!(
                            watcher.recv_timeout(SOON).unwrap().unwrap_err().kind(),
                            ErrorKind::Closed
                        );
                    }
                    _ => {
                        drop(client.submit(Get::key("k")));
                        drop(client);
                    }
                }
            };
            cycle(0);
            let before = (threads(), open_fds());
            let begun = Instant::now();
            (0..1000).for_each(cycle);
            println!("1000 clients in {:?}", begun.elapsed());
            eventually(SOON, "threads and files as before", || {
                ((threads(), open_fds()) == before).then_some(())
            });
        },
    );
}

#[test]
fn dropping_the_last_handle_is_bounded() {
    let etcd = LocalEtcd::start().unwrap();
    let silent = RawServer::silent();
    let busy = |endpoint: String| {
        let client = Client::builder([endpoint])
            .timeout(secs(60))
            .connect()
            .unwrap();
        let put = |n| client.submit(Put::new(format!("k{n}"), "v"));
        let puts: Vec<_> = (0..100).map(put).collect();
        // Time to be in the middle of it, whatever that is.
        drop(puts[99].wait_timeout(Duration::from_millis(50)));
        client
    };
    let pace = Pace::start();
    let timed = |what: &'static str, client: Client| {
        let begun = Instant::now();
        drop(client);
        println!("{what}: {:?}", pace.check(what, begun, secs(1)));
    };
    timed("never used", Client::connect([etcd.endpoint()]).unwrap());
    timed("in the middle of 100 puts", busy(etcd.endpoint()));
    timed("a server that says nothing", busy(silent.endpoint()));
    timed("nobody there", busy("http://127.0.0.1:1".into()));
    // With a resolver that hangs this name takes seconds; with others it fails at once.
    timed(
        "a name that nobody knows",
        busy("http://etcd.invalid:2379".into()),
    );
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    let (watcher, mirror) = (client.watch("k").unwrap(), client.mirror("k").unwrap());
    etcd.pause().unwrap();
    let pending = client.submit(Put::new("k", "v"));
    timed(
        "a paused server, with watch, mirror, lease and a put under way",
        client,
    );
    let error = pending.wait().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Closed && error.outcome_unknown(),
        "{error}"
    );
    assert_eq!(
        items(watcher.receiver(), SOON)
            .last()
            .unwrap()
            .unwrap_err()
            .kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        items(mirror.changes(), SOON)
            .last()
            .unwrap()
            .unwrap_err()
            .kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        items(alive.receiver(), SOON)
            .last()
            .unwrap()
            .unwrap_err()
            .kind(),
        ErrorKind::Closed
    );
}

#[test]
fn a_forked_child_gets_errors_and_leaves_its_parent_alone() {
    alone(
        "bridge::a_forked_child_gets_errors_and_leaves_its_parent_alone",
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
                    let told = theirs.write_all(text.as_bytes());
                    // Not the end of the test: the parent's etcd must not be dropped here.
                    std::process::exit(i32::from(told.is_err()));
                }
                fork::Fork::Parent(child) => {
                    drop(theirs);
                    ours.set_read_timeout(Some(SOON)).unwrap();
                    let mut told = String::new();
                    ours.read_to_string(&mut told).unwrap();
                    fork::waitpid(child).unwrap();
                    println!("the child: {told}");
                    assert!(told.starts_with("ok "), "{told}");
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

//! Clients that are closed or dropped: what blocked callers get, how long it takes, and what is left.

use super::*;

/// The operations in which 64 threads are blocked when the client closes.
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
// Fault: F37
#[test]
fn waiting_callers_return_at_once_when_the_client_closes() {
    alone(
        "bridge::close::waiting_callers_return_at_once_when_the_client_closes",
        secs(90),
        || {
            let etcd = LocalEtcd::start().unwrap();
            let proxy = Proxy::start(etcd.client_addr()).unwrap();
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
                assert_eq!(proxy.bytes_up(), up, "the proxy discards everything");
                let closing = Instant::now();
                client.clone().close().unwrap();
                let closed = pace.check("close", closing, secs(1));
                let mut slowest = closing;
                for thread in blocked {
                    let (n, returned, error) = thread.join().unwrap();
                    assert_eq!(error.kind(), ErrorKind::Closed, "{n}: {error}");
                    // The outcome of a write in flight is unknown.
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
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .timeout(secs(60))
        .connect()
        .unwrap();
    // Enough calls in a row that the caller drives the runtime itself.
    for _ in 0..200 {
        client.put("k", "v").unwrap();
    }
    let pace = Pace::start();
    proxy.black_hole(true);
    let waiting = thread::spawn({
        let client = client.clone();
        move || (client.put("k", "v").unwrap_err(), Instant::now())
    });
    // The proxy discards the request, so the caller waits without an answer.
    eventually(SOON, "the call is under way", || {
        (proxy.bytes_discarded() > 0).then_some(())
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

// Fault: F37
#[test]
fn a_thousand_dropped_clients_leave_no_thread_and_no_connection() {
    alone(
        "bridge::close::a_thousand_dropped_clients_leave_no_thread_and_no_connection",
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

// Fault: F37
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
        // Let the operation begin.
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
    timed("a silent server", busy(silent.endpoint()));
    timed("nobody there", busy("http://127.0.0.1:1".into()));
    // With a resolver that hangs this name takes seconds; with others it fails at once.
    timed("an unknown name", busy("http://etcd.invalid:2379".into()));
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

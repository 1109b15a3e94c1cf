//! Links that lose one direction, break in the middle of a message, or deliver single bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use etcd_blocking::crossbeam_channel::Receiver;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, EventKind, Get, Instance, KeyRange, Put, Registrar, State, Watch, Watcher,
};

use super::{SOON, secs};
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

/// The values of the next events of a watch, one event for each key.
#[track_caller]
fn values(watcher: &Watcher, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        for event in watcher.recv_timeout(SOON).unwrap().unwrap().events() {
            values.push(event.kv().value_str().unwrap().to_owned());
        }
    }
    values
}

/// One client on a link whose open connections lose the bytes of `dir` from now on.
fn half_open(etcd: &LocalEtcd, dir: Dir, prefix: &str) {
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .ping_interval(secs(5))
        .ping_timeout(secs(1))
        .connect()
        .unwrap();
    let patient = client.with_timeout(2 * SOON);
    client.put(format!("{prefix}read"), "v").unwrap();
    let watcher = client
        .watch(Watch::prefix(format!("{prefix}watched/")))
        .unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();

    let before = proxy.connections();
    for connection in proxy.open() {
        connection.silence(dir, true);
    }
    let written = format!("{prefix}written");
    let put = patient.submit(Put::new(written.clone(), "v"));
    let get = patient.submit(Get::key(format!("{prefix}read")));
    for n in 0..3 {
        direct
            .put(format!("{prefix}watched/{n}"), n.to_string())
            .unwrap();
    }
    assert_eq!(values(&watcher, 3), ["0", "1", "2"], "{dir:?}");
    assert_eq!(get.wait().unwrap().count(), 1, "{dir:?}");
    match put.wait() {
        Ok(_) => assert!(direct.get(&*written).unwrap().is_some(), "{dir:?}"),
        Err(error) => assert!(error.outcome_unknown(), "{dir:?}: {error}"),
    }
    alive.check().unwrap();
    assert!(watcher.try_recv().is_err(), "{dir:?}: nothing comes twice");
    assert!(proxy.connections() > before, "{dir:?}");
}

// Fault: F9
#[test]
fn connections_that_lose_one_direction_or_both_are_replaced_and_no_event_is_lost() {
    let etcd = LocalEtcd::start().unwrap();
    thread::scope(|scope| {
        for (dir, prefix) in [(Dir::Up, "up/"), (Dir::Down, "down/"), (Dir::Both, "both/")] {
            let etcd = &etcd;
            scope.spawn(move || half_open(etcd, dir, prefix));
        }
    });
}

/// The connections end after any number of bytes from the server: before, within and after frames and messages.
// Fault: F10
#[test]
fn connections_that_break_after_any_number_of_bytes_lose_no_event_and_no_outcome() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let patient = client.with_timeout(SOON);
    let large = "x".repeat(2_000);
    direct.put("large", &*large).unwrap();
    let watcher = client.watch(Watch::prefix("w/")).unwrap();
    let (mut unknown, mut last) = (0, None);
    for n in 0..24 {
        let limit = 1 + 3 * n * n;
        proxy.limit_data(limit);
        proxy.drop_connections();
        let before = proxy.connections();
        direct.put(format!("w/{n}"), n.to_string()).unwrap();
        let key = format!("p/{n}");
        let read = AtomicBool::new(false);
        let (get, put) = thread::scope(|scope| {
            let get = scope.spawn(|| {
                let get = patient.get("large");
                read.store(true, Ordering::SeqCst);
                get
            });
            let put = scope.spawn(|| patient.put(key.clone(), "v"));
            // At least two connections broke at the limit, or the limit is large enough for everything.
            eventually(SOON, "connections break", || {
                let broken = proxy.connections() >= before + 2;
                (broken || read.load(Ordering::SeqCst)).then_some(())
            });
            proxy.limit_data(None);
            (get.join().unwrap(), put.join().unwrap())
        });
        assert_eq!(get.unwrap().unwrap().value_str(), Some(&*large), "{limit}");
        let stored = direct.get(&*key).unwrap();
        assert!(stored.as_ref().is_none_or(|kv| kv.version() == 1));
        match put {
            Ok(_) => assert!(stored.is_some(), "{limit}: it was acknowledged"),
            Err(error) if error.outcome_unknown() => unknown += 1,
            Err(error) => assert!(stored.is_none(), "{limit}: it is there, but: {error}"),
        }
        for value in values(&watcher, 1) {
            let value: u64 = value.parse().unwrap();
            assert_eq!(last.map_or(0, |last| last + 1), value, "{limit}: in order");
            last = Some(value);
        }
        assert_eq!(last, Some(n), "{limit}");
    }
    println!("{unknown} of 24 puts had an unknown outcome");
    assert!(watcher.try_recv().is_err(), "nothing comes twice");
}

// Fault: F29
#[test]
fn bytes_that_arrive_one_by_one_are_read_like_whole_messages() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.slice(1);
    let client = Client::builder([proxy.endpoint()])
        .timeout(SOON)
        .connect()
        .unwrap();
    let watcher = client.watch(Watch::prefix("k/")).unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    let text: Vec<_> = (0..20).map(|n| n.to_string().repeat(20)).collect();
    for (n, value) in text.iter().enumerate() {
        client.put(format!("k/{n:02}"), &**value).unwrap();
    }
    assert_eq!(values(&watcher, text.len()), text);
    let pages = client.pages(Get::prefix("k/"), 5).unwrap();
    let read: Vec<_> = pages.flat_map(|page| page.unwrap()).collect();
    assert!(read.iter().map(|kv| kv.value_str().unwrap()).eq(&text));
    alive.check().unwrap();
}

/// The states up to the first that `wanted` accepts.
#[track_caller]
fn until(states: &Receiver<State>, wanted: impl Fn(&State) -> bool) -> Vec<State> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&wanted) {
        let state = states.recv_timeout(SOON);
        seen.push(state.unwrap_or_else(|_| panic!("only {seen:?}")));
    }
    seen
}

// Fault: F17
#[test]
fn a_partition_longer_than_the_lease_is_never_hidden_and_the_instance_returns_after_it() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let registrar = Registrar::builder(&client).ttl(secs(3)).start().unwrap();
    let instance = Instance::new("web", "127.0.1.1:1");
    let registration = registrar.register(instance).unwrap();
    let lease = |state: &State| match state {
        State::Registered { lease, .. } => Some(*lease),
        _ => None,
    };
    let first = lease(&registration.state());
    let keys = direct.watch(KeyRange::prefix("/services/")).unwrap();

    proxy.black_hole(true);
    let deleted = keys.recv_timeout(SOON).unwrap().unwrap();
    // etcd deletes the key after the time that the registrar counts, so the state is right at once.
    let state = registration.state();
    assert_eq!(deleted.events()[0].kind(), EventKind::Delete);
    assert!(matches!(state, State::Lost { .. }), "{state:?}");
    until(registration.states(), |state| {
        matches!(state, State::Lost { .. })
    });

    proxy.black_hole(false);
    let states = until(registration.states(), |state| lease(state).is_some());
    assert_ne!(lease(states.last().unwrap()), first, "with a new lease");
    let there = direct.get("/services/web/127.0.1.1:1").unwrap();
    assert_eq!(
        there.unwrap().lease(),
        lease(states.last().unwrap()),
        "the key is there"
    );
}

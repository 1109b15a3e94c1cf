//! Slow, large or endless streams delay no call on a connection of another role.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::concurrency::Session;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::lock_service::Lock;
use etcd_blocking::{Client, ErrorKind, Get, Put};

use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// Fault: N3
#[test]
fn a_large_put_over_a_slow_link_does_not_look_like_a_silent_server() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    client.put("k", "connected").unwrap();
    // A round trip of 200 ms.
    proxy.delay(Dir::Both, Duration::from_millis(100));
    proxy.throttle(Dir::Up, 64_000);
    proxy.throttle(Dir::Down, 64_000);
    let patient = client.with_timeout(secs(60));
    patient.put("k", vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(proxy.connections(), 1, "the connection was kept");
}

// Fault: N3, F8
#[test]
fn renewals_and_calls_succeed_over_a_slow_link_with_200_ms_latency() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.delay(Dir::Both, Duration::from_millis(200));
    for dir in [Dir::Up, Dir::Down] {
        proxy.throttle(dir, 64_000);
    }
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let lease = client.grant(secs(5)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    for n in 0..5 {
        client.put("k", n.to_string()).unwrap();
    }
    let patient = client.with_timeout(secs(60));
    thread::scope(|scope| {
        let begun = Instant::now();
        let large = scope.spawn(|| patient.put("large", vec![b'x'; 512 << 10]));
        while !large.is_finished() {
            // The whole value may be in flight before the renewal.
            patient.get("k").unwrap();
            alive.check().unwrap();
        }
        large.join().unwrap().unwrap();
        assert!(begun.elapsed() > secs(5), "the lease was renewed");
    });
    assert_eq!(proxy.connections(), 2, "one for calls, one for leases");
}

// Fault: N4
#[test]
fn a_lease_is_kept_alive_while_a_large_value_is_read_over_a_slow_link() {
    let etcd = LocalEtcd::start().unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    direct.put("large", vec![b'x'; 1_400_000]).unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let lease = client.grant(secs(6)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    proxy.throttle(Dir::Down, 64_000);
    let large = client.with_timeout(secs(60)).get("large").unwrap();
    assert_eq!(large.unwrap().value().len(), 1_400_000);
    alive.check().unwrap();
    assert_eq!(proxy.connections(), 2, "one for calls, one for leases");
}

// Fault: N5
#[test]
fn calls_get_streams_while_many_waiters_use_the_servers_lock() {
    let etcd = LocalEtcd::builder()
        .arg("--max-concurrent-streams=4")
        .start()
        .unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let session = || Session::builder(&client).ttl(secs(30)).start().unwrap();
    let holder = session();
    let held = client.lock_service().lock("lock", &holder).unwrap();
    let waiters: Vec<_> = (0..6).map(|_| session()).collect();
    thread::scope(|scope| {
        let waiting = waiters.iter().map(|waiter| {
            let (client, waiter) = (&client, waiter);
            scope.spawn(move || {
                let lock = Lock::new("lock", waiter).within(SOON);
                let locked = client.call(lock)?;
                client.lock_service().unlock(locked.key().clone()).map(drop)
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let queued = || client.call(Get::prefix("lock/").count_only());
        eventually(SOON, "all of them wait", || {
            (queued().unwrap().count() == 7).then_some(())
        });
        client.put("k", "v").unwrap();
        client.get("k").unwrap().unwrap();
        client.lock_service().unlock(held.key().clone()).unwrap();
        for waiter in waiting {
            waiter.join().unwrap().unwrap();
        }
    });
}

// Fault: N15
#[test]
fn a_call_after_its_deadline_sends_nothing() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let before = client.put("k", "before").unwrap().header().revision;
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        let late = client.with_timeout(timeout);
        for _ in 0..100 {
            let error = late.put("k", "late").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(!error.outcome_unknown(), "{error}");
            let error = late.submit(Put::new("k", "late")).wait().unwrap_err();
            assert!(!error.outcome_unknown(), "{error}");
        }
        assert!(late.grant(secs(60)).is_err());
    }
    let late = client.with_timeout(Duration::ZERO);
    assert_eq!(late.watch("k").unwrap_err().kind(), ErrorKind::Timeout);
    let kv = client.get("k").unwrap().unwrap();
    assert_eq!(kv.mod_revision(), before);
    assert!(client.leases().unwrap().ids().is_empty());
}

//! Resource use: unread watches, an idle process, and one change among five thousand instances.
//!
//! Tests that measure the process run in a process of their own, without other tests.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, Discovery, ErrorKind, Instance, KeyRange, Put, Registrar, Revision, State, Watch,
    WatchResponse, Watcher,
};

use crate::support::wait::{cpu_time, eventually, rss_kib};

const SOON: Duration = Duration::from_secs(30);

/// Runs the test in a process of its own, and returns whether this is that process.
fn alone(test: &str) -> bool {
    const ALONE: &str = "ETCD_BLOCKING_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

fn connect(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

/// The processor time of this process in a span in which it should be almost idle.
fn cpu_over(span: Duration) -> Duration {
    let before = cpu_time();
    thread::sleep(span);
    cpu_time() - before
}

const WATCHES: usize = 1000;
const VALUE: usize = 1024;
/// The number of puts in flight.
const WINDOW: usize = 300;

/// The number of events; `ETCD_BLOCKING_EVENTS` sets another number.
fn event_count() -> usize {
    let events = std::env::var("ETCD_BLOCKING_EVENTS").map(|count| count.parse().unwrap());
    events.unwrap_or(100_000)
}

/// The value of a put: its number, padded to a certain length.
fn value(n: usize) -> String {
    format!("{n:<VALUE$}")
}

/// Takes the events of a response, which must be the next of its key.
fn check(response: WatchResponse, key: &str, next: &mut usize) -> usize {
    let events = response.into_events();
    for event in &events {
        assert_eq!(event.key(), key);
        let n: usize = event.kv().value_str().unwrap().trim_end().parse().unwrap();
        assert_eq!(n, *next, "{key}: in order, each once");
        *next += WATCHES;
    }
    events.len()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The latencies of successive gets, until `stop` is set.
fn latencies(client: &Client, stop: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        client.get("other").unwrap();
        times.push(begun.elapsed());
        // Rare enough not to be a load.
        thread::sleep(Duration::from_millis(2));
    }
    times.sort_unstable();
    times
}

/// Puts numbered values, number `n` to key `n % WATCHES`. Returns the last revision.
fn put_all(client: &Client, count: usize) -> Revision {
    let mut window = VecDeque::new();
    let mut last = Revision::NONE;
    for n in 0..count {
        if window.len() == WINDOW {
            let put: etcd_blocking::Pending<etcd_blocking::PutResponse> =
                window.pop_front().unwrap();
            put.wait().unwrap();
        }
        let put = Put::new(format!("load/{:04}/", n % WATCHES), value(n));
        window.push_back(client.submit(put));
    }
    for put in window {
        last = last.max(put.wait().unwrap().revision());
    }
    last
}

/// Reads an unread watch to its end: it has all events, or ends with `Compacted`.
fn read_late(stalled: &Watcher, count: usize) {
    let mut next: Vec<usize> = (0..WATCHES).collect();
    let mut seen = 0;
    let mut last = Revision::NONE;
    while seen < count {
        let item = stalled.recv_timeout(SOON).expect("the rest of it");
        let response = match item {
            Ok(response) => response,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Compacted);
                return println!("the unread watch: compacted after {seen} events");
            }
        };
        for event in response.into_events() {
            assert!(event.revision() > last, "each revision here is one event");
            last = event.revision();
            let n: usize = event.kv().value_str().unwrap().trim_end().parse().unwrap();
            assert_eq!(n, next[n % WATCHES]);
            next[n % WATCHES] += WATCHES;
            seen += 1;
        }
    }
    println!("the unread watch: {seen} events, none missing");
}

// Fault: F34
#[test]
fn an_unread_watch_delays_no_other_watch_and_no_call() {
    if !alone("stress::an_unread_watch_delays_no_other_watch_and_no_call") {
        return;
    }
    let count = event_count();
    let etcd = LocalEtcd::builder()
        .arg("--quota-backend-bytes=8589934592")
        .start()
        .unwrap();
    let (client, writer, bystander) = (connect(&etcd), connect(&etcd), connect(&etcd));
    client.put("other", "x").unwrap();
    let watchers: Vec<Watcher> = (0..WATCHES)
        .map(|n| {
            let range = KeyRange::prefix(format!("load/{n:04}/"));
            client.watch(Watch::range(range)).unwrap()
        })
        .collect();
    let stalled = client.watch(Watch::prefix("load/")).unwrap();

    let stop = AtomicBool::new(false);
    let idle = thread::scope(|scope| {
        let times = scope.spawn(|| latencies(&client, &stop));
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Relaxed);
        times.join().unwrap()
    });
    stop.store(false, Relaxed);

    let (memory, begun) = (rss_kib(), Instant::now());
    let (mut written, mut most_queued, mut most_memory) = (Duration::ZERO, 0, 0);
    let (busy, beside) = thread::scope(|scope| {
        let times = scope.spawn(|| latencies(&client, &stop));
        // The latency of a call under this load without watches.
        let beside = scope.spawn(|| latencies(&bystander, &stop));
        let writing = scope.spawn(|| {
            put_all(&writer, count);
            begun.elapsed()
        });
        let mut next: Vec<usize> = (0..WATCHES).collect();
        let mut seen = 0;
        let mut heard = Instant::now();
        while seen < count {
            let before = seen;
            for (n, watcher) in watchers.iter().enumerate() {
                let key = format!("load/{n:04}/");
                for item in watcher.receiver().try_iter() {
                    seen += check(item.unwrap(), &key, &mut next[n]);
                }
            }
            most_queued = most_queued.max(stalled.receiver().len());
            most_memory = most_memory.max(rss_kib());
            if seen > before {
                heard = Instant::now();
            } else {
                assert!(heard.elapsed() < SOON, "only {seen} of {count} events");
                thread::sleep(Duration::from_millis(1));
            }
        }
        written = writing.join().unwrap();
        stop.store(true, Relaxed);
        (times.join().unwrap(), beside.join().unwrap())
    });
    let took = begun.elapsed();
    let grown = most_memory.saturating_sub(memory) / 1024;
    println!(
        "{count} events of {VALUE} B over {WATCHES} watches: put in {written:?}, all seen in {took:?}"
    );
    println!("the unread watch: {most_queued} responses queued, the process grew by {grown} MiB");
    println!(
        "get p50/p99: idle {:?}/{:?} ({} calls), during {:?}/{:?}, at most {:?} ({} calls)",
        percentile(&idle, 50),
        percentile(&idle, 99),
        idle.len(),
        percentile(&busy, 50),
        percentile(&busy, 99),
        busy.last().unwrap(),
        busy.len()
    );
    println!(
        "get p50/p99 during, by a client without watches: {:?}/{:?}",
        percentile(&beside, 50),
        percentile(&beside, 99)
    );
    // The events are more than 8 MiB, so the watch was paused.
    assert!(most_queued <= 4096, "{most_queued} responses wait");
    assert!(client.metrics().watches.pauses > 0);
    // The queue of one watch may hold 32 MiB; the events are more than that together.
    assert!(grown < 200, "the process grew by {grown} MiB");
    // The watches increase the latency by less than a factor of three.
    let bound = 3 * percentile(&beside, 99).max(Duration::from_millis(100));
    assert!(percentile(&busy, 99) < bound);
    for watcher in &watchers {
        assert!(watcher.receiver().is_empty(), "nothing comes twice");
    }
    read_late(&stalled, count);
}

#[test]
fn an_idle_process_uses_no_cpu_time() {
    if !alone("stress::an_idle_process_uses_no_cpu_time") {
        return;
    }
    let mut etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let registrar = Registrar::builder(&client).start().unwrap();
    let registration = registrar.register(Instance::new("web", "h:1")).unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    view.wait_for(1, SOON).unwrap();

    let idle = cpu_over(Duration::from_secs(3));
    println!("idle: {idle:?} of processor time in 3 s");
    assert!(idle < Duration::from_millis(150), "{idle:?}");

    // These watches are not read, and their queues are full.
    let unread = (
        client.watch(Watch::prefix("/services/")).unwrap(),
        client.mirror(KeyRange::prefix("/services/")).unwrap(),
    );
    let puts: Vec<_> = (0..3000)
        .map(|n| {
            let instance = format!(r#"{{"id":"x","addr":"h:9","version":"{n}"}}"#);
            client.submit(Put::new("/services/web/x", instance))
        })
        .collect();
    // The puts are in flight together, so their order is arbitrary.
    let revisions = puts.into_iter().map(|put| put.wait().unwrap().revision());
    let last = revisions.max().unwrap();
    view.wait_revision(last, SOON).unwrap();
    unread.1.wait_revision(last, SOON).unwrap();
    let slow = cpu_over(Duration::from_secs(3));
    println!("with unread queues: {slow:?} of processor time in 3 s");
    assert!(slow < Duration::from_millis(300), "{slow:?}");

    // Its grants fail, and then no registration needs a lease any more.
    let second = Registrar::builder(&client).start().unwrap();
    etcd.kill().unwrap();
    let unwanted = second.announce(Instance::new("web", "h:2")).unwrap();
    let late = unwanted.wait_registered(Duration::from_millis(200));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    drop(unwanted);
    eventually(SOON, "the outage is noticed", || view.staleness());
    let outage = cpu_over(Duration::from_secs(10));
    println!("outage: {outage:?} of processor time in 10 s");
    assert!(outage < Duration::from_millis(500), "{outage:?}");

    etcd.restart().unwrap();
    eventually(3 * SOON, "registered again", || {
        matches!(registration.state(), State::Registered { .. }).then_some(())
    });
    eventually(SOON, "the view follows", || {
        view.staleness().is_none().then_some(())
    });
    drop((second, unread));
}

#[test]
fn a_change_of_one_of_five_thousand_instances_uses_little_cpu_time() {
    if !alone("stress::a_change_of_one_of_five_thousand_instances_uses_little_cpu_time") {
        return;
    }
    const INSTANCES: usize = 5000;
    const DELETED: usize = 100;
    let etcd = LocalEtcd::start().unwrap();
    let (client, operator) = (connect(&etcd), connect(&etcd));
    let registrar = Registrar::builder(&client).start().unwrap();
    let begun = Instant::now();
    let instances = (0..INSTANCES).map(|n| Instance::new("web", format!("h:{}", n + 1)));
    let registrations: Vec<_> = instances
        .map(|instance| registrar.announce(instance).unwrap())
        .collect();
    for registration in &registrations {
        registration.wait_registered(6 * SOON).unwrap();
    }
    println!("{INSTANCES} instances registered in {:?}", begun.elapsed());
    // Until all of them are watched.
    thread::sleep(Duration::from_millis(500));

    let restored = |n: usize| {
        let key = format!("/services/web/h:{}", n + 1);
        let deleted = operator.delete(key).unwrap().revision();
        eventually(SOON, "restored", || {
            (registrations[n].revision() > Some(deleted)).then_some(())
        });
    };
    let begun = Instant::now();
    restored(17);
    println!("one deleted and restored in {:?}", begun.elapsed());
    let (before, begun) = (cpu_time(), Instant::now());
    (0..DELETED).for_each(|n| restored(n * 40));
    let cpu = (cpu_time() - before) / DELETED as u32;
    println!(
        "{DELETED} deleted and restored one by one: {:?} and {cpu:?} of processor time each",
        begun.elapsed() / DELETED as u32
    );
    assert!(cpu < Duration::from_millis(50), "{cpu:?} each");
    drop(registrations);
}

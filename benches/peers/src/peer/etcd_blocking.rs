//! This client, as its documentation recommends: one client, shared by the threads.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::codec::GoNaming;
use etcd_blocking::{Client, Compare, Discovery, Get, LeaseId, Pending, Put, Revision, Txn, Watch};

use peers::Failure;
use peers::meter::{Meter, Span, closed_loop};
use peers::report::Report;
use peers::task::{
    LIVE_PREFIX, PAST_PREFIX, Task, key_of_put, key_of_txn, key_of_value, no_counterpart,
    range_prefix, ready, wait_for_end, watched_key,
};

const SOON: Duration = Duration::from_secs(120);

pub(super) fn run(task: &Task) -> Result<Report, Failure> {
    match task.work.as_str() {
        "connect" => return connect(task),
        "idle" => return idle(task),
        _ => {}
    }
    // The works that read much may take longer than the 5 s that a call has by default.
    let client = Client::builder([&task.endpoint]).timeout(SOON).connect()?;
    client.ready(SOON)?;
    match task.work.as_str() {
        "get" | "put" | "txn" | "register" | "range" => calls(task, &client),
        "pipeline" => pipeline(task, &client),
        "pages" => pages(task, &client),
        "watch" => watch(task, &client),
        "replay" => replay(task, &client),
        "leases" => leases(task, &client),
        "list" => list(task, &client),
        "pick" => pick(task, &client),
        _ => Ok(no_counterpart()),
    }
}

fn calls(task: &Task, client: &Client) -> Result<Report, Failure> {
    let params = &task.params;
    let size = params.number("size")?;
    let value = bytes::Bytes::from(vec![b'v'; size]);
    closed_loop(params.number("threads")?, Span::of(params)?, |n| {
        let (client, value) = (client.clone(), value.clone());
        let key = match task.work.as_str() {
            "get" => key_of_value(size),
            "txn" => key_of_txn(n),
            "range" => range_prefix(size),
            "register" => format!("peers/i/{n}"),
            _ => key_of_put(n),
        };
        let work = task.work.clone();
        let mut count = 0;
        move || {
            match work.as_str() {
                "get" => {
                    let found = client.get(&*key)?.ok_or("the key is missing")?;
                    if found.value().len() != size {
                        return Err("another value".into());
                    }
                }
                "put" => drop(client.put(&*key, value.clone())?),
                "txn" => {
                    let txn =
                        Txn::when([Compare::exists(&*key)]).then([Put::new(&*key, value.clone())]);
                    if !client.txn(txn)?.succeeded() {
                        return Err("the comparison failed".into());
                    }
                }
                "range" => {
                    if client.get_prefix(&*key)?.len() != size {
                        return Err("another number of keys".into());
                    }
                }
                _ => {
                    let lease = client.grant(Duration::from_secs(60))?.id();
                    client.call(Put::new(format!("{key}/{count}"), value.clone()).lease(lease))?;
                    count += 1;
                }
            }
            Ok(())
        }
    })
}

/// One thread submits, and takes the answers in the order of the requests.
fn pipeline(task: &Task, client: &Client) -> Result<Report, Failure> {
    let size = task.params.number("size")?;
    if task.params.is("verb", "get") {
        return in_flight(task, || client.submit(Get::key(key_of_value(size))));
    }
    let value = bytes::Bytes::from(vec![b'v'; size]);
    in_flight(task, || {
        client.submit(Put::new(key_of_put(0), value.clone()))
    })
}

fn in_flight<T>(task: &Task, submit: impl Fn() -> Pending<T>) -> Result<Report, Failure> {
    let (flight, span) = (task.params.number("flight")?, Span::of(&task.params)?);
    let mut sent: VecDeque<(Instant, Pending<T>)> = VecDeque::new();
    let mut run = |time: Duration| -> Result<(Meter, Vec<Duration>), Failure> {
        let (meter, mut latencies) = (Meter::start(), Vec::with_capacity(100_000));
        while meter.elapsed() < time || !sent.is_empty() {
            while meter.elapsed() < time && sent.len() < flight {
                sent.push_back((Instant::now(), submit()));
            }
            if let Some((begun, pending)) = sent.pop_front() {
                pending.wait()?;
                latencies.push(begun.elapsed());
            }
        }
        Ok((meter, latencies))
    };
    run(span.warm)?;
    let (meter, latencies) = run(span.secs)?;
    Ok(meter.with_latencies(latencies))
}

fn pages(task: &Task, client: &Client) -> Result<Report, Failure> {
    let keys = task.params.number("keys")?;
    let meter = Meter::start();
    let mut count = 0;
    for page in client.pages(Get::prefix(range_prefix(keys)), 1_000)? {
        count += page?.len();
    }
    let report = meter.report(count);
    if count != keys {
        return Err(format!("{count} of {keys} keys").into());
    }
    Ok(report)
}

/// One watch has a `Watcher`; many watches have one `WatchSet`, which is one channel.
fn watch(task: &Task, client: &Client) -> Result<Report, Failure> {
    let (watchers, events) = (
        task.params.number("watchers")?,
        task.params.number("events")?,
    );
    if watchers == 1 {
        let watcher = client.watch(Watch::prefix(LIVE_PREFIX))?;
        ready()?;
        return received(events, || Ok(watcher.recv_timeout(SOON)??.events().len()));
    }
    let set = client.watch_set()?;
    set.add_all((0..watchers).map(|n| Watch::key(watched_key(n))))?;
    ready()?;
    received(events, || Ok(set.recv_timeout(SOON)?.1?.events().len()))
}

/// Counts events. The time begins with the first response.
fn received(
    events: usize,
    mut next: impl FnMut() -> Result<usize, Failure>,
) -> Result<Report, Failure> {
    let first = next()?;
    let (meter, mut count) = (Meter::start(), 0);
    while first + count < events {
        count += next()?;
    }
    Ok(meter.report(count))
}

fn replay(task: &Task, client: &Client) -> Result<Report, Failure> {
    let (events, revision) = (
        task.params.number("events")?,
        task.params.number("revision")?,
    );
    let revision = Revision::new(i64::try_from(revision)?);
    let meter = Meter::start();
    let watcher = client.watch(Watch::prefix(PAST_PREFIX).start_revision(revision))?;
    let mut count = 0;
    while count < events {
        count += watcher.recv_timeout(SOON)??.events().len();
    }
    Ok(meter.report(count))
}

/// The client renews by itself; a program asks `is_alive()` and `lost()`.
fn leases(task: &Task, client: &Client) -> Result<Report, Failure> {
    let (first, count) = (task.params.number("first")?, task.params.number("count")?);
    let mut kept = Vec::with_capacity(count);
    for id in first..first + count {
        kept.push(client.keep_alive(LeaseId::new(i64::try_from(id)?).ok_or("not an id")?)?);
    }
    let begun = Instant::now();
    while client.metrics().leases.renewals < count as u64 && begun.elapsed() < SOON {
        thread::sleep(Duration::from_millis(10));
    }
    let (meter, before) = (Meter::start(), client.metrics().leases.renewals);
    thread::sleep(task.params.seconds("secs")?);
    let renewed = client.metrics().leases.renewals - before;
    let report = meter.report(usize::try_from(renewed)?);
    drop(kept);
    Ok(report)
}

/// The first list of a view, in the format of clientv3's `naming/endpoints`, which the Go peer reads too.
fn list(task: &Task, client: &Client) -> Result<Report, Failure> {
    let count = task.params.number("count")?;
    let meter = Meter::start();
    let view = Discovery::new(client)
        .codec(GoNaming)
        .service(&format!("peers-list-{count}"))?;
    let shown = view.snapshot().len();
    let report = meter.report(shown);
    if shown != count {
        return Err(format!("{shown} of {count} instances").into());
    }
    Ok(report)
}

fn pick(task: &Task, client: &Client) -> Result<Report, Failure> {
    let count = task.params.number("count")?;
    let view = Discovery::new(client)
        .codec(GoNaming)
        .service(&format!("peers-list-{count}"))?;
    let (span, mut picks) = (task.params.seconds("secs")?, 0);
    let meter = Meter::start();
    while meter.elapsed() < span {
        for _ in 0..1_000 {
            std::hint::black_box(view.pick().ok_or("an empty view")?);
        }
        picks += 1_000;
    }
    Ok(meter.report(picks))
}

fn connect(task: &Task) -> Result<Report, Failure> {
    let meter = Meter::start();
    let mut latencies = Vec::new();
    for _ in 0..task.params.number("count")? {
        let begun = Instant::now();
        let client = Client::connect(&*task.endpoint)?;
        client.get(key_of_value(256))?;
        latencies.push(begun.elapsed());
        client.close()?;
    }
    Ok(meter.with_latencies(latencies))
}

fn idle(task: &Task) -> Result<Report, Failure> {
    let mut clients = Vec::new();
    for _ in 0..task.params.number("clients")? {
        let client = Client::connect(&*task.endpoint)?;
        client.get(key_of_value(256))?;
        clients.push(client);
    }
    ready()?;
    wait_for_end()?;
    drop(clients);
    Ok(Report::default())
}

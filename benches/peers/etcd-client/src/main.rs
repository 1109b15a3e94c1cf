//! The crate `etcd-client` in a program without async: each call is `block_on` of its future.
//!
//! The runtime is what tokio's guide for synchronous programs recommends: a current-thread runtime where one thread
//! calls, the multi-thread runtime where several threads call or where something goes on in the background. Each
//! thread has its own clone of the client, which is cheap and shares the connection.

mod streams;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use tokio::runtime::{Builder, Runtime};

use peers::Failure;
use peers::meter::{Meter, Span, closed_loop};
use peers::report::Report;
use peers::task::{
    Task, key_of_put, key_of_txn, key_of_value, no_counterpart, range_prefix, ready, wait_for_end,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match Task::parse(&args).and_then(|task| run(&task)) {
        Ok(report) => {
            report.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<Report, Failure> {
    let threads = task.params.number("threads").unwrap_or(1);
    let in_background = matches!(task.work.as_str(), "leases" | "idle");
    let runtime = if threads > 1 || in_background {
        Runtime::new()?
    } else {
        Builder::new_current_thread().enable_all().build()?
    };
    match task.work.as_str() {
        "connect" => return connect(task, &runtime),
        "idle" => return idle(task, &runtime),
        "list" | "pick" => return Ok(no_counterpart()),
        _ => {}
    }
    let client = runtime.block_on(Client::connect([&task.endpoint], None))?;
    match task.work.as_str() {
        "get" | "put" | "txn" | "register" | "range" => calls(task, &client, &Arc::new(runtime)),
        "pipeline" => pipeline(task, &client, &runtime),
        "pages" => runtime.block_on(streams::pages(task, client)),
        "watch" => runtime.block_on(streams::watch(task, client)),
        "replay" => runtime.block_on(streams::replay(task, client)),
        "leases" => runtime.block_on(streams::leases(task, client)),
        _ => Ok(no_counterpart()),
    }
}

fn calls(task: &Task, client: &Client, runtime: &Arc<Runtime>) -> Result<Report, Failure> {
    let params = &task.params;
    let size = params.number("size")?;
    closed_loop(params.number("threads")?, Span::of(params)?, |n| {
        let (mut client, runtime, value) = (client.clone(), Arc::clone(runtime), vec![b'v'; size]);
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
                    let found = runtime.block_on(client.get(&*key, None))?;
                    if found
                        .kvs()
                        .first()
                        .is_none_or(|kv| kv.value().len() != size)
                    {
                        return Err("another value".into());
                    }
                }
                "put" => drop(runtime.block_on(client.put(&*key, &*value, None))?),
                "txn" => {
                    let exists = Compare::create_revision(&*key, CompareOp::Greater, 0);
                    let txn = Txn::new()
                        .when([exists])
                        .and_then([TxnOp::put(&*key, &*value, None)]);
                    if !runtime.block_on(client.txn(txn))?.succeeded() {
                        return Err("the comparison failed".into());
                    }
                }
                "range" => {
                    let options = GetOptions::new().with_prefix();
                    if runtime
                        .block_on(client.get(&*key, Some(options)))?
                        .kvs()
                        .len()
                        != size
                    {
                        return Err("another number of keys".into());
                    }
                }
                _ => {
                    let lease = runtime.block_on(client.lease_grant(60, None))?.id();
                    let options = PutOptions::new().with_lease(lease);
                    runtime.block_on(client.put(
                        format!("{key}/{count}"),
                        &*value,
                        Some(options),
                    ))?;
                    count += 1;
                }
            }
            Ok(())
        }
    })
}

/// Tasks that call in turn, all under one `block_on`.
fn pipeline(task: &Task, client: &Client, runtime: &Runtime) -> Result<Report, Failure> {
    let (flight, span) = (task.params.number("flight")?, Span::of(&task.params)?);
    let (size, is_get) = (task.params.number("size")?, task.params.is("verb", "get"));
    let run = |time: Duration| {
        runtime.block_on(async {
            let meter = Meter::start();
            let tasks: Vec<_> = (0..flight)
                .map(|_| {
                    let (mut client, value) = (client.clone(), vec![b'v'; size]);
                    tokio::spawn(async move {
                        let (begun, mut latencies) = (Instant::now(), Vec::with_capacity(10_000));
                        while begun.elapsed() < time {
                            let sent = Instant::now();
                            if is_get {
                                client.get(key_of_value(size), None).await?;
                            } else {
                                client.put(key_of_put(0), &*value, None).await?;
                            }
                            latencies.push(sent.elapsed());
                        }
                        Ok::<_, etcd_client::Error>(latencies)
                    })
                })
                .collect();
            let mut latencies = Vec::new();
            for task in tasks {
                latencies.extend(task.await??);
            }
            Ok::<_, Failure>((meter, latencies))
        })
    };
    run(span.warm)?;
    let (meter, latencies) = run(span.secs)?;
    Ok(meter.with_latencies(latencies))
}

fn connect(task: &Task, runtime: &Runtime) -> Result<Report, Failure> {
    let meter = Meter::start();
    let mut latencies = Vec::new();
    for _ in 0..task.params.number("count")? {
        let begun = Instant::now();
        let mut client = runtime.block_on(Client::connect([&task.endpoint], None))?;
        runtime.block_on(client.get(key_of_value(256), None))?;
        latencies.push(begun.elapsed());
    }
    Ok(meter.with_latencies(latencies))
}

fn idle(task: &Task, runtime: &Runtime) -> Result<Report, Failure> {
    let mut clients = Vec::new();
    for _ in 0..task.params.number("clients")? {
        let mut client = runtime.block_on(Client::connect([&task.endpoint], None))?;
        runtime.block_on(client.get(key_of_value(256), None))?;
        clients.push(client);
    }
    ready()?;
    wait_for_end()?;
    drop(clients);
    Ok(Report::default())
}

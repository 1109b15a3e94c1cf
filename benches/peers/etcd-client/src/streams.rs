//! The works of `etcd-client` that stream: pages, watches and leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, GetOptions, WatchOptions, WatchStream};

use peers::Failure;
use peers::meter::Meter;
use peers::report::Report;
use peers::task::{LIVE_PREFIX, PAST_PREFIX, Task, range_prefix, ready, watched_key};

/// `get_stream`, which etcd 3.7 answers in chunks.
pub(super) async fn pages(task: &Task, client: Client) -> Result<Report, Failure> {
    let keys = task.params.number("keys")?;
    let meter = Meter::start();
    let options = GetOptions::new().with_prefix();
    let mut stream = client
        .kv_client()
        .get_stream(range_prefix(keys), Some(options))
        .await?;
    let mut count = 0;
    while let Some(page) = stream.message().await? {
        count += page.kvs().len();
    }
    let report = meter.report(count);
    if count != keys {
        return Err(format!("{count} of {keys} keys").into());
    }
    Ok(report)
}

/// Many watches share one stream, as in the example of the crate.
pub(super) async fn watch(task: &Task, mut client: Client) -> Result<Report, Failure> {
    let (watchers, events) = (
        task.params.number("watchers")?,
        task.params.number("events")?,
    );
    let mut stream = if watchers == 1 {
        client
            .watch(LIVE_PREFIX, Some(WatchOptions::new().with_prefix()))
            .await?
    } else {
        client.watch(watched_key(0), None).await?
    };
    let mut created = 0;
    for n in 1..=watchers {
        if n < watchers {
            stream.watch(watched_key(n), None).await?;
        }
        // The answers are read meanwhile, because the queue of requests has a limit.
        let answer = stream.message().await?.ok_or("the stream ended")?;
        created += usize::from(answer.created());
    }
    if created != watchers {
        return Err(format!("{created} of {watchers} watches").into());
    }
    ready()?;
    let first = next(&mut stream).await?;
    let (meter, mut count) = (Meter::start(), 0);
    while first + count < events {
        count += next(&mut stream).await?;
    }
    Ok(meter.report(count))
}

async fn next(stream: &mut WatchStream) -> Result<usize, Failure> {
    let answer = stream.message().await?.ok_or("the stream ended")?;
    if answer.canceled() {
        return Err(answer.cancel_reason().into());
    }
    Ok(answer.events().len())
}

/// With a higher limit for messages: etcd sends a backlog in messages of more than the 4 MiB that are the default.
pub(super) async fn replay(task: &Task, client: Client) -> Result<Report, Failure> {
    let (events, revision) = (
        task.params.number("events")?,
        task.params.number("revision")?,
    );
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(i64::try_from(revision)?);
    let mut watch = client.watch_client().max_decoding_message_size(64 << 20);
    let meter = Meter::start();
    let mut stream = watch.watch(PAST_PREFIX, Some(options)).await?;
    let mut count = 0;
    while count < events {
        count += next(&mut stream).await?;
    }
    Ok(meter.report(count))
}

/// `lease_keep_alive` opens a stream for each lease, and the program sends each renewal: a task for each lease does so
/// every third of the time to live.
pub(super) async fn leases(task: &Task, client: Client) -> Result<Report, Failure> {
    let (first, count) = (task.params.number("first")?, task.params.number("count")?);
    let every = task.params.seconds("ttl")? / 3;
    let (renewed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for id in first..first + count {
        let (mut client, id) = (client.clone(), i64::try_from(id)?);
        let (renewed, failed) = (Arc::clone(&renewed), Arc::clone(&failed));
        tokio::spawn(async move {
            let kept = async {
                let (mut keeper, mut stream) = client.lease_keep_alive(id).await?;
                loop {
                    renewed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(every).await;
                    keeper.keep_alive().await?;
                    if stream
                        .message()
                        .await?
                        .is_none_or(|answer| answer.ttl() <= 0)
                    {
                        return Ok::<_, etcd_client::Error>(());
                    }
                }
            };
            let _ = kept.await;
            failed.fetch_add(1, Ordering::Relaxed);
        });
    }
    let begun = Meter::start();
    while renewed.load(Ordering::Relaxed) + failed.load(Ordering::Relaxed) < count
        && begun.elapsed().as_secs() < 120
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (meter, before) = (Meter::start(), renewed.load(Ordering::Relaxed));
    tokio::time::sleep(task.params.seconds("secs")?).await;
    Ok(meter.report(renewed.load(Ordering::Relaxed) - before))
}

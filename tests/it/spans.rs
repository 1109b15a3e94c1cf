//! Spans and events of the feature `tracing`.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, KeyRange, Put};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// A span or an event, with its fields as text.
#[derive(Clone, Debug)]
struct TraceRecord {
    /// The id of a span; 0 for an event.
    id: u64,
    /// The span that contains the event.
    within: Option<u64>,
    target: &'static str,
    level: Level,
    text: String,
}

/// All spans and events of this crate in this process.
static RECORDS: Mutex<Vec<TraceRecord>> = Mutex::new(Vec::new());

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Listener(AtomicU64);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

impl Listener {
    /// Collects until the end of the process, because events come from many threads.
    fn start() {
        static STARTED: OnceLock<()> = OnceLock::new();
        STARTED.get_or_init(|| {
            tracing::subscriber::set_global_default(Listener(AtomicU64::new(1))).unwrap();
        });
    }

    fn record_text(id: u64, metadata: &'static Metadata<'static>, text: String) {
        let within = ENTERED.with_borrow(|entered| entered.last().copied());
        RECORDS.lock().push(TraceRecord {
            id,
            within,
            target: metadata.target(),
            level: *metadata.level(),
            text,
        });
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("etcd_blocking::")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.0.fetch_add(1, Ordering::Relaxed);
        let mut text = format!("{} ", span.metadata().name());
        span.record(&mut Fields(&mut text));
        Listener::record_text(id, span.metadata(), text);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut wait_for_record = RECORDS.lock();
        let span = wait_for_record
            .iter_mut()
            .find(|wait_for_record| wait_for_record.id == span.into_u64());
        values.record(&mut Fields(&mut span.unwrap().text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        Listener::record_text(0, event.metadata(), text);
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        let _ = ENTERED.with_borrow_mut(Vec::pop);
    }
}

/// Waits for something from `target` that has all of `parts` in its text.
#[track_caller]
fn wait_for_record(target: &str, level: Level, parts: &[&str]) -> TraceRecord {
    let what = format!("{level} of {target} with {parts:?}");
    eventually(SOON, &what, || {
        let wait_for_record = RECORDS.lock();
        let mut fits = wait_for_record.iter().filter(|wait_for_record| {
            let same = wait_for_record.target == format!("etcd_blocking::{target}")
                && wait_for_record.level == level;
            same && parts.iter().all(|part| wait_for_record.text.contains(part))
        });
        fits.next().cloned()
    })
}

#[test]
fn a_call_is_a_span_with_its_keys_and_outcome_and_without_its_value() {
    Listener::start();
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    client.put("spans/put", "canary-value").unwrap();
    client
        .submit(Put::new("spans/submitted", "canary-value"))
        .wait()
        .unwrap();
    for key in ["spans/put", "spans/submitted"] {
        let request = format!("request=put \"{key}\"");
        wait_for_record(
            "call",
            Level::DEBUG,
            &["call verb=\"put\"", &request, "outcome=\"ok\""],
        );
    }
    let error = client.call(Put::keep_value("spans/none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    wait_for_record(
        "call",
        Level::DEBUG,
        &["\"spans/none\"", "outcome=NotFound", "attempts=1"],
    );
    let endpoint = etcd.endpoint();
    wait_for_record(
        "connection",
        Level::INFO,
        &["connected", &endpoint, "elapsed="],
    );
    drop(client);
    wait_for_record("connection", Level::DEBUG, &["closed", &endpoint]);
    let said = RECORDS.lock().clone();
    let canary = said
        .iter()
        .find(|wait_for_record| wait_for_record.text.contains("canary"));
    assert!(canary.is_none(), "{canary:?}");
}

#[test]
fn the_ejection_of_a_dead_member_and_the_retry_are_in_the_span_of_the_call() {
    Listener::start();
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .timeout(SOON)
        .connect()
        .unwrap();
    client.put("dies", "v").unwrap();
    etcd.kill().unwrap();
    let waiting = std::thread::spawn({
        let client = client.clone();
        move || client.get("spans/dies")
    });
    let endpoint = etcd.endpoint();
    wait_for_record(
        "connection",
        Level::WARN,
        &["ejected", &endpoint, "reason="],
    );
    wait_for_record(
        "connection",
        Level::WARN,
        &["dial failed", &endpoint, "refused"],
    );
    let retry = wait_for_record(
        "call",
        Level::DEBUG,
        &["retry attempt=", "reason=", &endpoint],
    );
    etcd.spawn().unwrap();
    etcd.wait_ready(SOON).unwrap();
    waiting.join().unwrap().unwrap();
    let call = wait_for_record("call", Level::DEBUG, &["\"spans/dies\"", "outcome=\"ok\""]);
    assert_eq!(retry.within, Some(call.id), "{retry:?}");
}

#[test]
fn the_span_of_a_watch_has_its_events() {
    Listener::start();
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .watch_queue(1, 1 << 20)
        .connect()
        .unwrap();
    let watcher = client.watch(KeyRange::prefix("spans/watched")).unwrap();
    let keys = "keys=\"spans/watched\"..\"spans/watchee\"";
    wait_for_record("watch", Level::DEBUG, &["stream opened"]);
    wait_for_record("watch", Level::DEBUG, &["created", keys]);
    proxy.drop_connections();
    wait_for_record("watch", Level::INFO, &["stream lost", "reason="]);
    wait_for_record("watch", Level::INFO, &["resumed", keys]);
    let writer = Client::connect([etcd.endpoint()]).unwrap();
    for _ in 0..3 {
        writer.put("spans/watched", "v").unwrap();
    }
    wait_for_record("watch", Level::INFO, &["paused", keys]);
    let mut read = 0;
    while read < 3 {
        read += watcher.recv_timeout(SOON).unwrap().unwrap().events().len();
    }
    wait_for_record("watch", Level::DEBUG, &["caught up", keys]);
    client.close().unwrap();
}

#[test]
fn the_span_of_a_lease_has_its_renewals_and_its_loss() {
    Listener::start();
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let lease = client.grant(Duration::from_secs(2)).unwrap().id();
    let kept = client.keep_alive(lease).unwrap();
    let name = format!("lease={lease}");
    wait_for_record("lease", Level::TRACE, &["renewed", &name, "ttl=2s"]);
    client.revoke(lease).unwrap();
    wait_for_record("lease", Level::WARN, &["lost", &name, "error="]);
    drop(kept);
}

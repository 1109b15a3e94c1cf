//! Watches.

mod cases;
mod faults;
mod large;
mod latest;
mod queues;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, ErrorKind, Event, EventKind, KeyRange, Op, Put, Revision, Txn, Watch, WatchResponse,
    Watcher,
};

use crate::support::pace::Pace;
use crate::support::server::{EARLY_PROGRESS, progress_interval, skip_before};
use crate::support::wait::{eventually, items};

const SOON: Duration = Duration::from_secs(30);

fn connect(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

fn next(watcher: &Watcher) -> WatchResponse {
    watcher.recv_timeout(SOON).unwrap().unwrap()
}

fn events(watcher: &Watcher, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next(watcher).into_events());
    }
    assert_eq!(events.len(), count);
    events
}

/// Reads a watch to its end, and returns the kind of its error.
fn last_error(watcher: &Watcher) -> ErrorKind {
    let deadline = Instant::now() + 3 * SOON;
    loop {
        match watcher.receiver().recv_deadline(deadline).unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert!(
                    watcher.receiver().recv_deadline(deadline).is_err(),
                    "no item after it"
                );
                assert!(watcher.receiver().is_empty());
                return error.kind();
            }
        }
    }
}

/// The metrics of a server, as text.
fn metrics(etcd: &LocalEtcd) -> String {
    let mut stream = TcpStream::connect(etcd.client_addr()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The number of watches on the server.
fn watches(etcd: &LocalEtcd) -> usize {
    let text = metrics(etcd);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
    line.unwrap().parse().unwrap()
}

fn eventually_watches(etcd: &LocalEtcd, count: usize) {
    eventually(SOON, &format!("{count} watches on the server"), || {
        (watches(etcd) == count).then_some(())
    });
}

#[test]
fn a_watch_delivers_puts_and_deletions_of_its_range() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch(Watch::prefix("a/").prev_kv()).unwrap();
    let first = client.put("a/1", "one").unwrap().header().revision;
    client.put("a/1", "two").unwrap();
    client.put("b", "not this").unwrap();
    client.delete("a/1").unwrap();
    let events = events(&watcher, 3);
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, [EventKind::Put, EventKind::Put, EventKind::Delete]);
    assert!(events[0].is_create() && events[1].is_modify());
    assert_eq!(events[0].revision(), first);
    assert!(events[0].prev_kv().is_none());
    assert_eq!(events[2].prev_kv().unwrap().value(), "two");
    assert!(watcher.try_recv().is_err());
}

// Case: W-32
#[test]
fn a_transaction_is_one_item() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch(KeyRange::prefix("t/")).unwrap();
    let puts = (0..3).map(|n| Op::from(Put::new(format!("t/{n}"), "v")));
    client.txn(Txn::when([]).then(puts)).unwrap();
    let response = next(&watcher);
    assert_eq!(response.events().len(), 3);
    let revision = response.revision();
    assert!(
        response
            .events()
            .iter()
            .all(|event| event.revision() == revision)
    );
}

// Case: W-20
#[test]
fn filters_suppress_puts_or_deletions() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let no_put = client.watch(Watch::key("k").no_put()).unwrap();
    let no_delete = client.watch(Watch::key("k").no_delete()).unwrap();
    client.put("k", "v").unwrap();
    client.delete("k").unwrap();
    client.put("k", "v").unwrap();
    client.delete("k").unwrap();
    assert!(
        events(&no_put, 2)
            .iter()
            .all(|event| event.kind() == EventKind::Delete)
    );
    assert!(
        events(&no_delete, 2)
            .iter()
            .all(|event| event.kind() == EventKind::Put)
    );
}

#[test]
fn history_is_delivered_before_new_events() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let revisions: Vec<_> = (0..20)
        .map(|n| client.put("k", n.to_string()).unwrap().header().revision)
        .collect();
    let watcher = client
        .watch(Watch::key("k").start_revision(revisions[5]))
        .unwrap();
    client.put("k", "20").unwrap();
    let seen = events(&watcher, 16);
    assert_eq!(seen[0].revision(), revisions[5]);
    assert_eq!(seen[15].kv().value(), "20");
}

// Case: W-09
#[test]
fn a_compacted_start_revision_is_the_only_item() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let mut revision = Revision::NONE;
    for _ in 0..5 {
        revision = client.put("k", "v").unwrap().header().revision;
    }
    client.compact(revision).unwrap();
    let watcher = client
        .watch(Watch::key("k").start_revision(Revision::new(2)))
        .unwrap();
    let error = watcher.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted);
    assert_eq!(error.compact_revision(), Some(revision));
    assert!(watcher.recv().is_none());
    let at_the_edge = client
        .watch(Watch::key("k").start_revision(revision))
        .unwrap();
    assert_eq!(next(&at_the_edge).revision(), revision);
}

// Case: W-29
#[test]
fn invalid_requests_are_refused_before_sending() {
    let client = Client::connect(["http://127.0.0.1:9"]).unwrap();
    for watch in [
        Watch::key(""),
        Watch::range(KeyRange::range("b", "a")),
        Watch::key("k").no_put().no_delete(),
        Watch::key("k").start_revision(Revision::new(-1)),
    ] {
        assert_eq!(
            client.watch(watch).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }
}

#[test]
fn a_watch_that_is_not_created_fails_with_timeout_and_the_cause() {
    let client = Client::connect(["http://127.0.0.1:9"]).unwrap();
    let pace = Pace::start();
    let begun = Instant::now();
    let error = client
        .with_timeout(Duration::from_millis(300))
        .watch("k")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
    pace.check("a timeout of 300 ms", begun, Duration::from_secs(2));
}

// Case: W-23
#[test]
fn dropping_a_watch_cancels_it_on_the_server() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let kept = client.watch("kept").unwrap();
    let dropped: Vec<_> = (0..10).map(|_| client.watch("k").unwrap()).collect();
    eventually_watches(&etcd, 11);
    drop(dropped);
    eventually_watches(&etcd, 1);
    client.put("kept", "v").unwrap();
    assert_eq!(events(&kept, 1)[0].key(), "kept");
    let receiver = kept.receiver().clone();
    kept.close();
    eventually_watches(&etcd, 0);
    assert!(
        items(&receiver, SOON).next().is_none(),
        "a bare disconnect: you cancelled"
    );
}

// Case: W-23
#[test]
fn a_thousand_watches_are_created_and_cancelled() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let set = client.watch_set().unwrap();
    let keys = set
        .add_all((0..1000).map(|n| Watch::key(format!("k/{n}"))))
        .unwrap();
    eventually_watches(&etcd, 1000);
    client.put("k/7", "v").unwrap();
    let (key, item) = set.receiver().recv_timeout(SOON).unwrap();
    assert_eq!((key, item.unwrap().events().len()), (keys[7], 1));
    assert!(set.remove(keys[7]) && !set.remove(keys[7]));
    eventually_watches(&etcd, 999);
    drop(set);
    eventually_watches(&etcd, 0);
}

// Fault: Q8
#[test]
fn a_set_removes_an_ended_watch() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let last = client.put("k", "1").unwrap().revision();
    let last = last.max(client.put("k", "2").unwrap().revision());
    client.compact(last).unwrap();
    let set = client.watch_set().unwrap();
    let kept = set.add("other").unwrap();
    let past = Watch::key("k").start_revision(Revision::new(1));
    let ended = set.submit(past).unwrap();
    let (key, item) = set.receiver().recv_timeout(SOON).unwrap();
    assert_eq!(key, ended);
    assert_eq!(item.unwrap_err().kind(), ErrorKind::Compacted);
    assert!(!set.remove(ended), "it is not there any more");
    assert!(set.remove(kept));
}

// Case: W-12
#[test]
fn progress_is_answered_with_the_revision_of_the_store() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let asked = client.watch("k").unwrap();
    let other = client.watch("k").unwrap();
    let revision = client.put("unrelated", "v").unwrap().header().revision;
    asked.request_progress();
    let progress = next(&asked);
    assert!(progress.is_progress() && progress.revision() == revision);
    asked.request_progress();
    assert_eq!(next(&asked).revision(), revision);
    let quiet = client.watch("k").unwrap();
    quiet.request_progress();
    assert_eq!(next(&quiet).revision(), revision);
    assert!(other.try_recv().is_err(), "no progress without a request");
}

// Case: W-13
#[test]
fn progress_is_delivered_after_history() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let pending: Vec<_> = (0..1500)
        .map(|_| client.submit(Put::new("k", "v")))
        .collect();
    let mut last = Revision::NONE;
    for put in pending {
        last = last.max(put.wait().unwrap().header().revision);
    }
    let watcher = client
        .watch(Watch::key("k").start_revision(Revision::new(2)))
        .unwrap();
    watcher.request_progress();
    let mut seen = 0;
    loop {
        let response = next(&watcher);
        if response.is_progress() {
            assert_eq!((response.revision(), seen), (last, 1500));
            break;
        }
        seen += response.events().len();
    }
}

#[test]
fn progress_notifications_are_delivered_on_request() {
    let etcd = LocalEtcd::builder()
        .arg(progress_interval("200ms"))
        .start()
        .unwrap();
    let client = connect(&etcd);
    let wants = client.watch(Watch::key("k").progress_notify()).unwrap();
    let not = client.watch("k").unwrap();
    // A server sends no progress to a watch that starts after its revision.
    client.put("unrelated", "v").unwrap();
    assert!(next(&wants).is_progress());
    assert!(next(&wants).is_progress());
    assert!(not.try_recv().is_err());
}

// Case: W-35
#[test]
fn a_response_over_the_message_limit_is_one_item() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .receive_limit(3 << 19)
        .connect()
        .unwrap();
    let value = vec![b'x'; 1 << 20];
    let mut first = Revision::NONE;
    for n in 0..10 {
        let put = client.put(format!("k/{n}"), value.clone()).unwrap();
        if n == 0 {
            first = put.header().revision;
        }
    }
    let watcher = client
        .watch(Watch::prefix("k/").start_revision(first))
        .unwrap();
    assert_eq!(next(&watcher).events().len(), 10);
}

#[test]
fn it_works_inside_an_async_runtime() {
    let etcd = LocalEtcd::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect(&etcd);
        let watcher = client.watch("k").unwrap();
        client.put("k", "v").unwrap();
        assert_eq!(events(&watcher, 1)[0].kv().value(), "v");
    });
}

// Case: W-16
#[test]
fn closing_the_client_ends_every_watch_with_closed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    let set = client.watch_set().unwrap();
    set.add("k").unwrap();
    let waiting = thread::spawn(move || last_error(&watcher));
    client.clone().close().unwrap();
    assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
    let (_, item) = set.receiver().recv_timeout(SOON).unwrap();
    assert_eq!(item.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.watch("k").unwrap_err().kind(), ErrorKind::Closed);
}

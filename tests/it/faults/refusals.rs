//! Servers that refuse everything: corrupt data, and overload.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Delete, ErrorKind, Put, Txn};

use super::{SOON, secs};
use crate::support::frames;
use crate::support::gateway;
use crate::support::raw::RawServer;

// Fault: F24
#[test]
fn a_corrupt_store_refuses_each_write_once_until_the_alarm_is_disarmed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    client.put("k", "v").unwrap();
    let lease = client.grant(secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    let member = client.maintenance().status().unwrap().member_id();
    let alarm = format!(
        r#"{{"action":"ACTIVATE","memberID":"{}","alarm":"CORRUPT"}}"#,
        member.get()
    );
    let reply = gateway::post(etcd.client_addr(), "/v3/maintenance/alarm", &alarm, SOON).unwrap();
    assert_eq!(reply.0, 200, "{}", reply.1);
    let errors = [
        client.put("k", "w").unwrap_err(),
        client.call(Delete::key("k")).unwrap_err(),
        client.txn(Txn::always([Put::new("k", "w")])).unwrap_err(),
        client.grant(secs(60)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.attempts(), 1, "{error}");
        assert!(!error.is_retryable() && !error.outcome_unknown(), "{error}");
    }
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    client.maintenance().disarm_all().unwrap();
    assert_eq!(client.get("k").unwrap().unwrap().value(), "v");
    client.put("k", "w").unwrap();
}

/// A server that refuses the first `refused` requests because of its load, and then answers with an empty
/// message; the number of its requests.
fn overloaded(refused: usize) -> (RawServer, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            out.write_all(&frames::ok(id))?;
            if counted.fetch_add(1, Ordering::SeqCst) < refused {
                return out.write_all(&frames::trailers(id, "8", "etcdserver: too many requests"));
            }
            out.write_all(&frames::data(id, 0, &frames::message(0, 0, b"")))?;
            out.write_all(&frames::trailers(id, "0", ""))
        });
    });
    (server, requests)
}

/// etcd sends this error while thousands of entries are committed and not applied, which no test can arrange.
// Fault: F26
#[test]
fn requests_to_an_overloaded_server_are_repeated_at_a_bounded_rate() {
    let (server, _) = overloaded(4);
    let client = Client::builder([server.endpoint()])
        .timeout(SOON)
        .connect()
        .unwrap();
    client.get("k").unwrap();

    // The server executes nothing that it refuses so, and a write may be repeated too.
    let (server, _) = overloaded(4);
    let client = Client::builder([server.endpoint()])
        .timeout(SOON)
        .connect()
        .unwrap();
    client.put("k", "v").unwrap();

    let (server, requests) = overloaded(usize::MAX);
    let client = Client::builder([server.endpoint()])
        .timeout(secs(2))
        .connect()
        .unwrap();
    for error in [
        client.get("k").unwrap_err(),
        client.put("k", "v").unwrap_err(),
    ] {
        println!("{error}");
        assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
        assert!(error.is_retryable() && !error.outcome_unknown(), "{error}");
        assert!(error.attempts() > 1, "{error}");
    }
    // The waits grow to half a second; 2 s of attempts without a wait would be thousands.
    let requests = requests.load(Ordering::SeqCst);
    assert!(requests < 100, "{requests} requests in two times 2 s");
}

//! Size limits of requests and replies.

use super::*;

// Case: KV-02
// Case: KV-04
// Fault: F25
#[test]
fn requests_are_limited_by_the_client_and_by_the_server() {
    let etcd = LocalEtcd::builder()
        .arg("--max-request-bytes=7864320")
        .start()
        .unwrap();
    let client = Client::builder([etcd.endpoint()])
        .send_limit(16 << 20)
        .connect()
        .unwrap();
    client.put("large", vec![7u8; 5 << 20]).unwrap();
    assert_eq!(client.get("large").unwrap().unwrap().value().len(), 5 << 20);
    // Above the limit of etcd, and above that of grpc-go, which is 512 KiB higher.
    for size in [7_864_400, 9 << 20] {
        let refused = client.put("too large", vec![7u8; size]);
        assert_eq!(kind("put", refused), ErrorKind::TooLarge);
    }
    assert!(client.get("too large").unwrap().is_none());
}

// Case: KV-03
// Fault: F25
#[test]
fn a_request_over_the_send_limit_is_refused_before_anything_is_sent() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .send_limit(1000)
        .connect()
        .unwrap();
    let large = || Put::new("k", vec![0u8; 1000]);
    let error = client.call(large()).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TooLarge, 0));
    assert!(error.to_string().contains("send_limit"), "{error}");
    assert_eq!(
        kind("put \"k\"", client.submit(large()).wait()),
        ErrorKind::TooLarge
    );
    assert_eq!(
        kind("txn", client.txn(Txn::always([large()]))),
        ErrorKind::TooLarge
    );
    assert_eq!(proxy.connections(), 0);
    client.call(Put::new("k", vec![0u8; 990])).unwrap();
}

// Fault: F27
#[test]
fn a_reply_over_the_receive_limit_affects_no_other_call() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .receive_limit(1 << 20)
        .connect()
        .unwrap();
    for n in 0..8 {
        client
            .put(format!("large/{n}"), vec![0u8; 512 << 10])
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    let others = thread::scope(|scope| {
        let done = Raise(&stop);
        let others: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !stop.load(Ordering::SeqCst) {
                        client.get("large/0").unwrap().unwrap();
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for _ in 0..20 {
            let error = client.get_prefix("large/").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
            assert!(error.to_string().contains("1048576"), "{error}");
            assert!(
                error.endpoint().is_some_and(|e| e == proxy.endpoint()),
                "{error}"
            );
        }
        drop(done);
        others
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<u32>>()
    });
    assert!(others.iter().all(|calls| *calls > 0), "{others:?}");
    assert_eq!(
        proxy.connections(),
        2,
        "one connection for calls, one for ranges, and both are kept"
    );
    // A deletion is executed before its reply is found to be too large.
    let error = client.call(Delete::prefix("large/").prev_kv()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::TooLarge && error.outcome_unknown(),
        "{error}"
    );
    assert_eq!(
        client
            .call(Get::prefix("large/").count_only())
            .unwrap()
            .count(),
        0
    );
}

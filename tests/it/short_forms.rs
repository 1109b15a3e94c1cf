//! Short forms of the client: endpoints as text, verbs on prefixes, typed values, waiting for etcd.

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Put};

use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn endpoints_are_one_text_or_a_list_or_a_collection() {
    let etcd = LocalEtcd::start().unwrap();
    let endpoint = etcd.endpoint();
    let dead = "http://127.0.0.1:1";
    let list = format!("{dead},{endpoint}");
    for client in [
        Client::connect(&endpoint),
        Client::connect(endpoint.as_str()),
        Client::connect(list.as_str()),
        Client::connect([dead, &endpoint]),
        Client::connect(vec![dead.to_owned(), endpoint.clone()]),
    ] {
        client.unwrap().put("k", "v").unwrap();
    }
    let client = Client::connect(list).unwrap();
    assert_eq!(client.endpoints(), [dead, endpoint.as_str()]);
    client.set_endpoints(&endpoint).unwrap();
    assert_eq!(client.endpoints(), [endpoint.as_str()]);
    let refused = Client::connect("a:1,").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_prefix_is_watched_and_deleted() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let watcher = client.watch_prefix("jobs/").unwrap();
    for key in ["jobs/1", "jobs/2", "other"] {
        client.put(key, "7").unwrap();
    }
    let mut items = watcher.iter().take(2);
    for key in ["jobs/1", "jobs/2"] {
        let item = items.next().unwrap().unwrap();
        assert_eq!(item.events()[0].kv().key(), key);
    }
    assert_eq!(client.delete_prefix("jobs/").unwrap().deleted(), 2);
    assert!(client.get_prefix("jobs/").unwrap().is_empty());
    let kv = client.get("other").unwrap().unwrap();
    assert_eq!(kv.parse::<u64>().unwrap(), 7);
    watcher.close();
}

#[test]
fn keep_alive_has_the_methods_of_a_receiving_handle() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let lease = client.grant(Duration::from_secs(2)).unwrap().id();
    let keep = client.keep_alive(lease).unwrap();
    assert!(keep.recv_timeout(SOON).unwrap().is_ok());
    client.revoke(lease).unwrap();
    let lost = keep.iter().find_map(Result::err).unwrap();
    assert_eq!(lost.kind(), ErrorKind::LeaseNotFound);
    assert!(keep.recv().is_none() && keep.try_recv().is_err());
}

#[test]
fn ready_waits_until_etcd_serves() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.ready(SOON).unwrap();
    etcd.kill().unwrap();
    let begun = Instant::now();
    let error = client.ready(Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(250), "it waits");
    std::thread::scope(|scope| {
        let ready = scope.spawn(|| client.ready(SOON));
        etcd.spawn().unwrap();
        etcd.wait_ready(SOON).unwrap();
        ready.join().unwrap().unwrap();
    });
}

#[test]
fn ready_succeeds_for_a_user_without_read_permission() {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let root = Client::connect(etcd.endpoint()).unwrap();
    let auth = root.auth();
    auth.user_add("root", "pw").unwrap();
    auth.user_grant_role("root", "root").unwrap();
    auth.user_add("nobody", "pw").unwrap();
    auth.enable().unwrap();
    let nobody = Client::builder(etcd.endpoint())
        .user("nobody", "pw")
        .allow_plaintext_credentials()
        .connect()
        .unwrap();
    let denied = nobody.call(Put::new("k", "v")).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    nobody.ready(SOON).unwrap();
    eventually(SOON, "the wrong password is refused at once", || {
        let wrong = Client::builder(etcd.endpoint())
            .user("nobody", "wrong")
            .allow_plaintext_credentials();
        let error = wrong.connect().unwrap().ready(SOON).unwrap_err();
        (error.kind() == ErrorKind::Unauthenticated).then_some(())
    });
}

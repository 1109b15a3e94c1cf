//! Ordered views: no read returns an older revision than an earlier one, on a cluster with a member that
//! lags.

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, Compare, Error, ErrorKind, Get, Revision, Txn};

use crate::support::peers::PeerLinks;
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// A cluster, its links, and two proxies: one in front of a member that stays, one in front of a follower that is
/// isolated later.
fn start() -> (LocalCluster, PeerLinks, Proxy, Proxy, usize) {
    let (cluster, links) = PeerLinks::start(3, &[]);
    let leader = cluster.leader().unwrap();
    let follower = (leader + 1) % 3;
    let proxy = |member: usize| Proxy::start(cluster.member(member).client_addr()).unwrap();
    let (fresh, behind) = (proxy(leader), proxy(follower));
    (cluster, links, fresh, behind, follower)
}

fn read(client: &Client) -> Result<String, Error> {
    let answer = client.call(Get::key("k").serializable())?;
    Ok(answer.first().unwrap().value_str().unwrap().to_owned())
}

fn read_by_txn(client: &Client) -> Result<String, Error> {
    let get = Get::key("k").serializable();
    let answer = client.txn(Txn::when([Compare::exists("k")]).then([get]))?;
    let kv = answer.get(0).unwrap().first().unwrap();
    Ok(kv.value_str().unwrap().to_owned())
}

// Case: O-02
// Case: O-03
#[test]
fn an_ordered_read_of_a_member_that_is_behind_is_repeated_elsewhere() {
    let (cluster, links, fresh, behind, follower) = start();
    let member = cluster.member(follower);
    let client = Client::builder([fresh.endpoint(), behind.endpoint()])
        .timeout(Duration::from_secs(5))
        .connect()
        .unwrap();
    let (ordered, other) = (client.ordered(), client.ordered());
    // The first calls go to the member that stays.
    behind.cut();
    let old = ordered.put("k", "old").unwrap().revision();
    eventually(SOON, "the follower has it", || {
        (member.status().ok()?.revision == old.get()).then_some(())
    });
    assert_eq!(read(&other).unwrap(), "old");
    links.isolate(follower);
    // Without a leader it does not forward requests.
    eventually(SOON, "the follower is cut off", || {
        (member.status().ok()?.leader == 0).then_some(())
    });
    let new = eventually(SOON, "a write", || ordered.put("k", "new").ok()).revision();
    assert!(new > old);

    // Only the member that is behind is reachable.
    fresh.cut();
    behind.restore();
    eventually(SOON, "the member that is behind answers", || {
        (read(&client).ok()? == "old").then_some(())
    });
    assert_eq!(read(&other).unwrap(), "old", "this view has not seen more");
    let begun = Instant::now();
    for result in [read(&ordered), read_by_txn(&ordered)] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
        assert!(error.is_retryable() && error.attempts() > 1, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("revision {new}")), "{text}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(11),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        read_by_txn(&client).unwrap(),
        "old",
        "it is there, and readable"
    );
    // The client has received this revision, and this member does not have it.
    let pinned = Get::key("k").revision(new).serializable();
    assert!(ordered.call(pinned.clone()).is_err());

    // A member that is not behind is reachable again, and is asked instead.
    fresh.restore();
    eventually(SOON, "an answer that is new enough", || {
        read(&ordered).ok().filter(|v| v == "new")
    });
    assert_eq!(read_by_txn(&ordered).unwrap(), "new");
    assert!(ordered.call(pinned).unwrap().header().revision >= new);

    // The other member is used again when it has caught up.
    fresh.cut();
    links.heal();
    eventually(SOON, "the follower has caught up", || {
        (member.status().ok()?.revision == new.get()).then_some(())
    });
    let value = eventually(SOON, "a read", || read(&ordered).ok());
    assert_eq!(value, "new");
}

#[test]
fn ordered_reads_return_the_writes_of_all_views_of_the_client() {
    let (cluster, _links) = PeerLinks::start(3, &[]);
    let client = Client::connect(cluster.endpoints()).unwrap();
    let ordered = client.ordered();
    let inside = ordered.namespace("a/").unwrap();
    let mut last = Revision::NONE;
    for n in 0..200 {
        let written = inside.put("k", n.to_string()).unwrap().revision();
        let read = ordered.call(Get::key("a/k").serializable()).unwrap();
        assert!(read.header().revision >= written && written > last);
        assert_eq!(read.first().unwrap().value(), n.to_string().as_bytes());
        last = written;
    }
}

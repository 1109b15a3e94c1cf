//! Members of a cluster: listed, added, promoted, removed; and clients that update their endpoints from the
//! list.

use std::time::{Duration, Instant};

use etcd_blocking::cluster::{
    Member, MemberAdd, MemberAddResponse, MemberId, MemberList, MemberUpdate,
};
use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, Error, ErrorKind, Get, Put, Result, Txn};

use crate::support::wait::{eventually, join};

const SOON: Duration = Duration::from_secs(30);

/// Adds a member. A cluster reports that it is unhealthy until all its members have been connected for
/// 5 s, and again when one was disconnected.
fn try_add(client: &Client, add: &MemberAdd) -> Result<MemberAddResponse> {
    eventually(SOON, "a healthy cluster", || {
        let result = client.call(add.clone());
        let unhealthy = |e: &Error| e.kind() == ErrorKind::Unavailable;
        match &result {
            Err(error) if unhealthy(error) => assert!(!error.outcome_unknown(), "{error}"),
            _ => return Some(result),
        }
        None
    })
}

fn add(client: &Client, add: &MemberAdd) -> MemberAddResponse {
    try_add(client, add).unwrap()
}

fn ids(members: &[Member]) -> Vec<MemberId> {
    members.iter().map(Member::id).collect()
}

fn minor(client: &Client) -> u32 {
    let status = client.maintenance().status().unwrap();
    status.version().split('.').nth(1).unwrap().parse().unwrap()
}

// Case: C-01
// Case: C-02
#[test]
fn members_are_listed_added_updated_and_removed() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let listed = client.cluster().member_list().unwrap().into_members();
    assert_eq!(listed.len(), 3);
    for (index, endpoint) in cluster.endpoints().iter().enumerate() {
        let server = cluster.member(index);
        let member = listed.iter().find(|m| m.name() == server.name()).unwrap();
        assert_eq!(member.client_urls(), std::slice::from_ref(endpoint));
        assert_eq!(member.peer_urls(), [server.peer_url()]);
        assert_eq!(member.id().get(), server.status().unwrap().member_id);
        assert!(member.is_started() && !member.is_learner());
    }

    // While all members run: before 3.6, a server first reports a stopped member.
    let known = MemberAdd::new([cluster.member(0).peer_url()]);
    let again = try_add(&client, &known).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");

    // The new member is not running, and three of four are a majority.
    let added = add(&client, &MemberAdd::new(["http://127.0.0.1:1"]));
    let new = added.member();
    assert_eq!(new.peer_urls(), ["http://127.0.0.1:1"]);
    assert!(!new.is_started() && new.client_urls().is_empty() && !new.is_learner());
    assert_eq!(added.members().len(), 4);
    assert!(ids(added.members()).contains(&new.id()));

    let moved = ["http://127.0.0.1:2", "http://127.0.0.1:3"];
    let updated = client.cluster().member_update(new.id(), moved).unwrap();
    let member = updated.members().iter().find(|m| m.id() == new.id());
    assert_eq!(member.unwrap().peer_urls(), moved);

    let removed = client.cluster().member_remove(new.id()).unwrap();
    assert_eq!(ids(removed.members()).len(), 3);
    let gone = client.cluster().member_remove(new.id()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    assert!(!gone.outcome_unknown());
    assert_eq!(client.cluster().member_list().unwrap().members().len(), 3);
}

// Case: C-03
#[test]
fn malformed_peer_urls_are_refused_before_sending() {
    // There is no server, so a request that is sent would fail late.
    let client = Client::connect(["http://127.0.0.1:1"]).unwrap();
    for url in [
        "://127.0.0.1:12345",
        "mailto://127.0.0.1:12345",
        "http://127.0.0.1",
        "http://127.0.0.1:12345/path",
        "127.0.0.1:12345",
        "http://:12345",
    ] {
        let before = Instant::now();
        for error in [
            client.cluster().member_add([url]).unwrap_err(),
            client.call(MemberAdd::new([url]).learner()).unwrap_err(),
            client
                .call(MemberUpdate::new(MemberId::new(1), [url]))
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(url), "{error}");
            assert_eq!(error.attempts(), 0);
        }
        assert!(before.elapsed() < Duration::from_secs(3));
    }
}

/// Checks that a learner refuses a request at each attempt. The answer to the last attempt may
/// be in flight at the deadline; then the error is `Timeout`.
#[track_caller]
fn refused(request: impl Fn() -> Result<()>) {
    let error = eventually(SOON, "its answer comes in time", || {
        let error = request().unwrap_err();
        (error.kind() != ErrorKind::Timeout || error.to_string().contains("learner"))
            .then_some(error)
    });
    assert!(error.to_string().contains("learner"), "{error}");
    assert!(!error.outcome_unknown(), "{error}");
}

// Case: C-04
// Case: C-06
// Case: KV-29
#[test]
fn a_learner_is_promoted_once_it_has_caught_up() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let leader = eventually(SOON, "a leader", || cluster.leader().ok());
    let client = Client::connect(cluster.endpoints()).unwrap();
    client.put("k", "v").unwrap();
    // Changes are sent to a follower, which forwards them.
    let follower = client.at(&cluster.endpoints()[(leader + 1) % 3]).unwrap();

    let index = cluster.prepare_member().unwrap();
    let peer = cluster.member(index).peer_url();
    let added = add(&follower, &MemberAdd::new([peer]).learner());
    let learner = added.member().id();
    assert!(added.member().is_learner());

    let unstarted = follower.cluster().member_promote(learner).unwrap_err();
    assert_eq!(unstarted.kind(), ErrorKind::FailedPrecondition);
    assert!(unstarted.to_string().contains("in sync"), "{unstarted}");
    let second = MemberAdd::new(["http://127.0.0.1:1"]).learner();
    let too_many = try_add(&follower, &second).unwrap_err();
    assert_eq!(too_many.kind(), ErrorKind::FailedPrecondition);
    assert!(
        too_many.to_string().contains("too many learner"),
        "{too_many}"
    );

    join(cluster.member_mut(index));
    let view = client.at(cluster.member(index).endpoint()).unwrap();
    let status = eventually(SOON, "the learner runs", || {
        view.maintenance().status().ok()
    });
    assert!(status.is_learner() && !status.is_leader());
    assert_eq!(status.member_id(), learner);
    // The requests that a learner serves.
    let read = || view.call(Get::key("k").serializable()).ok();
    eventually(SOON, "it has the data", || {
        read().filter(|r| !r.kvs().is_empty())
    });
    let short = view.with_timeout(Duration::from_millis(500));
    refused(|| short.get("k").map(drop));
    refused(|| short.put("k", "not this").map(drop));
    refused(|| short.delete("k").map(drop));
    refused(|| {
        short
            .txn(Txn::always([Put::new("k", "not this")]))
            .map(drop)
    });

    let promoted = eventually(SOON, "it has caught up", || {
        follower.cluster().member_promote(learner).ok()
    });
    let is_it = |m: &&Member| m.id() == learner;
    assert!(!promoted.members().iter().find(is_it).unwrap().is_learner());
    let again = follower.cluster().member_promote(learner).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::FailedPrecondition, "{again}");
    eventually(SOON, "it serves everything", || view.put("k", "w").ok());
    let unknown = follower
        .cluster()
        .member_promote(MemberId::new(42))
        .unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
}

// Case: C-08
#[test]
fn without_a_majority_only_a_serializable_list_is_answered() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    if minor(&client) < 5 {
        println!("skipped: before 3.5 every member list is serializable");
        return;
    }
    add(&client, &MemberAdd::new(["http://127.0.0.1:1"]));
    let quick = client.with_timeout(Duration::from_millis(1500));
    let error = quick.cluster().member_list().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
        "{error}"
    );
    let listed = client.call(MemberList::new().serializable()).unwrap();
    assert_eq!(listed.members().len(), 2);
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

// Case: C-09
#[test]
fn sync_endpoints_sets_the_endpoints_of_started_voting_members() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let three = sorted(cluster.endpoints());
    let all = Client::connect(cluster.endpoints()).unwrap();
    // A learner that has not started.
    let learner = cluster.prepare_member().unwrap();
    let peer = cluster.member(learner).peer_url();
    add(&all, &MemberAdd::new([peer]).learner());

    let seed = cluster.member(0).endpoint();
    let client = Client::connect([&seed]).unwrap();
    assert_eq!(client.endpoints(), [&*seed]);
    let watcher = client.watch("k").unwrap();
    assert_eq!(sorted(client.sync_endpoints().unwrap()), three);
    assert_eq!(client.endpoints()[0], seed);
    // It runs now, and is still a learner.
    join(cluster.member_mut(learner));
    let view = client.at(cluster.member(learner).endpoint()).unwrap();
    eventually(SOON, "the learner runs", || {
        view.maintenance().status().ok()
    });
    assert_eq!(sorted(client.sync_endpoints().unwrap()), three);

    // The first endpoint is dead, and the client continues.
    cluster.member_mut(0).kill().unwrap();
    eventually(SOON, "calls go elsewhere", || client.put("k", "v").ok());
    let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(response.events()[0].kv().key(), "k");
    // The configured endpoint stays, even if it is not in the list.
    let members = client.cluster().member_list().unwrap().into_members();
    let name = cluster.member(0).name();
    let dead = members.iter().find(|m| m.name() == name).unwrap().id();
    let removed = client.cluster().member_remove(dead);
    assert!(removed.is_ok(), "{removed:?}");
    assert_eq!(sorted(client.sync_endpoints().unwrap()), three);
    assert_eq!(client.endpoints()[0], seed);
}

#[test]
fn endpoints_are_synced_in_the_background() {
    let mut cluster = LocalCluster::start(1).unwrap();
    let client = Client::builder(cluster.endpoints())
        .sync_interval(Duration::from_millis(100))
        .connect()
        .unwrap();
    let new = cluster.prepare_member().unwrap();
    let peer = cluster.member(new).peer_url();
    let added = add(&client, &MemberAdd::new([peer]));
    join(cluster.member_mut(new));
    cluster.member_mut(new).wait_ready(SOON).unwrap();
    let both = sorted(cluster.endpoints());
    eventually(SOON, "the endpoint of the new member is known", || {
        (sorted(client.endpoints()) == both).then_some(())
    });
    eventually(SOON, "the new member is removed", || {
        let removed = client.cluster().member_remove(added.member().id());
        match removed.map_err(|error| (error.kind(), error)) {
            // An earlier request whose answer was lost has removed it.
            Ok(_) | Err((ErrorKind::NotFound, _)) => Some(()),
            Err((_, error)) => {
                eprintln!("{error}");
                None
            }
        }
    });
    eventually(SOON, "the endpoint of that member is removed", || {
        (client.endpoints() == cluster.endpoints()[..1]).then_some(())
    });
    client.put("k", "v").unwrap();
}

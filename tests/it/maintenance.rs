//! Maintenance: status, health, alarms, hashes, leadership, downgrades.

use std::io::Write;
use std::time::{Duration, Instant};

use etcd_blocking::cluster::MemberId;
use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::maintenance::{Alarm, AlarmKind, Defragment, Hash, HashKv, MoveLeader};
use etcd_blocking::{Client, ErrorKind, Revision};

use crate::support::frames;
use crate::support::raw::RawServer;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// The server's minor release, 7 of 3.7.2.
fn minor(client: &Client) -> u32 {
    let status = client.maintenance().status().unwrap();
    status.version().split('.').nth(1).unwrap().parse().unwrap()
}

// Case: M-07
#[test]
fn status_returns_the_state_of_the_addressed_member() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    client.put("k", "v").unwrap();
    let mut ids = Vec::new();
    let mut leaders = 0;
    for (index, endpoint) in client.endpoints().iter().enumerate() {
        let status = client.at(endpoint).unwrap().maintenance().status().unwrap();
        let server = cluster.member(index).status().unwrap();
        assert_eq!(status.member_id().get(), server.member_id);
        assert_eq!(status.leader().unwrap().get(), server.leader);
        assert!(status.version().starts_with("3."));
        assert!(status.db_size() > 0 && status.db_size_in_use() <= status.db_size());
        assert!(status.raft_term() > 0 && status.raft_index() > 0);
        assert!(status.raft_applied_index() <= status.raft_index());
        assert!(!status.is_learner() && status.errors().is_empty());
        assert_eq!(status.downgrade(), None);
        if minor(&client) >= 6 {
            assert_eq!(status.db_size_quota(), Some(2 << 30));
            // The cluster version reaches that of the program shortly after the start.
            assert!(status.storage_version().is_none_or(|v| v.starts_with("3.")));
        }
        leaders += u32::from(status.is_leader());
        ids.push(status.member_id());
    }
    ids.sort_unstable_by_key(|id| id.get());
    ids.dedup();
    assert_eq!((ids.len(), leaders), (3, 1));
}

// Case: M-01
#[test]
fn members_have_the_same_hash_of_a_common_revision() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let mut revision = Revision::NONE;
    for n in 0..20 {
        revision = client.put(format!("k{n}"), "v").unwrap().header().revision;
    }
    let hash_of = |endpoint: &String, revision| {
        let view = client.at(endpoint).unwrap();
        // The member has caught up when it serves a linearizable read.
        view.get("k0").unwrap();
        view.maintenance().hash_kv(revision).unwrap()
    };
    let endpoints = client.endpoints();
    let hashes: Vec<_> = endpoints.iter().map(|e| hash_of(e, revision)).collect();
    assert!(
        hashes
            .iter()
            .all(|h| h.hash() == hashes[0].hash() && h.hash() != 0)
    );
    if minor(&client) >= 6 {
        assert!(hashes.iter().all(|h| h.hash_revision() == revision));
        let earlier = hash_of(&endpoints[0], Revision::new(revision.get() - 1));
        assert_ne!(earlier.hash(), hashes[0].hash());
    }
    assert!(
        hashes
            .iter()
            .all(|h| h.compact_revision() == Revision::NONE)
    );
    assert_eq!(
        hash_of(&endpoints[1], Revision::NONE).hash(),
        hashes[0].hash()
    );
    let future = HashKv::at(Revision::new(revision.get() + 100));
    let error = client.call(future).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FutureRevision, "{error}");
    assert_ne!(client.call(Hash::new()).unwrap().hash(), 0);
}

// Case: M-02
#[test]
fn move_leader_is_accepted_by_the_leader_only_and_a_client_finds_the_leader() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let id = |index: usize| MemberId::new(cluster.member(index).status().unwrap().member_id);
    let leader = eventually(SOON, "a leader", || cluster.leader().ok());
    let (next, third) = ((leader + 1) % 3, (leader + 2) % 3);

    let follower = client.at(cluster.member(next).endpoint()).unwrap();
    for refused in [
        follower.maintenance().move_leader(id(next)).unwrap_err(),
        follower.call(MoveLeader::to(id(next))).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");
        assert!(refused.to_string().contains("not leader"), "{refused}");
        assert!(!refused.outcome_unknown());
    }
    let leads = |index: usize| {
        eventually(SOON, "the new leader leads", || {
            (cluster.leader().ok()? == index).then_some(())
        });
    };
    let at_leader = client.at(cluster.member(leader).endpoint()).unwrap();
    at_leader.maintenance().move_leader(id(next)).unwrap();
    leads(next);
    client.maintenance().move_leader(id(third)).unwrap();
    leads(third);
    // The member need not be an endpoint of the client.
    let elsewhere = Client::connect([cluster.member(leader).endpoint()]).unwrap();
    elsewhere.maintenance().move_leader(id(leader)).unwrap();
    leads(leader);

    let nobody = client
        .maintenance()
        .move_leader(MemberId::new(42))
        .unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::InvalidArgument, "{nobody}");
}

// Case: M-08
// Case: M-10
// Fault: F23
#[test]
fn a_full_store_raises_an_alarm_until_it_is_compacted_and_disarmed() {
    let etcd = LocalEtcd::builder()
        .arg("--quota-backend-bytes=4194304")
        .start()
        .unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    assert_eq!(client.maintenance().alarms().unwrap().alarms(), []);
    let lease = client.grant(Duration::from_secs(60)).unwrap();
    let value = vec![7; 128 * 1024];
    let full = (0..200).find_map(|_| client.put("big", value.clone()).err());
    let full = full.expect("the quota is reached");
    assert_eq!(full.kind(), ErrorKind::NoSpace, "{full}");

    let alarm = eventually(SOON, "the alarm is raised", || {
        client
            .maintenance()
            .alarms()
            .unwrap()
            .alarms()
            .first()
            .copied()
    });
    let status = client.maintenance().status().unwrap();
    assert_eq!(alarm.kind, AlarmKind::NoSpace);
    assert_eq!(alarm.member, status.member_id());
    assert!(status.errors().iter().any(|e| e.contains("NOSPACE")));
    let health = client.maintenance().health().unwrap();
    assert!(!health[0].is_healthy() && health[0].is_reachable);
    assert!(health[0].alarms == [alarm] && health[0].error.is_none());
    let full = client.put("small", "v").unwrap_err();
    assert_eq!((full.kind(), full.attempts()), (ErrorKind::NoSpace, 1));
    // What needs no space goes on.
    assert!(client.get("big").unwrap().is_some());
    client.keep_alive_once(lease.id()).unwrap();
    let revision = client.delete("big").unwrap().header().revision;

    client.compact(revision).unwrap();
    let before = client.maintenance().status().unwrap().db_size();
    client.maintenance().defragment().unwrap();
    assert!(client.maintenance().status().unwrap().db_size() < before / 2);
    assert_eq!(
        client.put("small", "v").unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(client.maintenance().disarm_all().unwrap(), [alarm]);
    client.put("small", "v").unwrap();
    assert!(client.maintenance().health().unwrap()[0].is_healthy());
    // Disarming an alarm that is not raised is not an error.
    assert_eq!(
        client.maintenance().disarm(alarm).unwrap().alarms(),
        [] as [Alarm; 0]
    );
    assert!(client.maintenance().disarm_all().unwrap().is_empty());
}

#[test]
fn the_member_to_defragment_must_be_chosen() {
    let cluster = LocalCluster::start(2).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let error = client.maintenance().defragment().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("client.at("), "{error}");
    let zero = client.call(Defragment::new().timeout(Duration::ZERO));
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidArgument);
    for endpoint in client.endpoints() {
        client
            .at(endpoint)
            .unwrap()
            .maintenance()
            .defragment()
            .unwrap();
    }
}

// Case: M-10
#[test]
fn health_returns_the_state_of_each_endpoint() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::builder(cluster.endpoints())
        .timeout(Duration::from_secs(3))
        .connect()
        .unwrap();
    let health = client.maintenance().health().unwrap();
    let endpoints: Vec<_> = health.iter().map(|h| h.endpoint.clone()).collect();
    assert_eq!(endpoints, cluster.endpoints());
    assert!(
        health.iter().all(|h| h.is_healthy() && h.is_reachable),
        "{health:?}"
    );
    assert_eq!(health.iter().filter(|h| h.is_leader()).count(), 1);

    cluster.member_mut(0).kill().unwrap();
    cluster.member(1).pause().unwrap();
    let begun = Instant::now();
    let health = client.maintenance().health().unwrap();
    // All endpoints are asked at once, each with the client's timeout.
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    let error = |index: usize| health[index].error.as_ref().unwrap();
    assert!(health.iter().all(|h| !h.is_healthy()));
    assert!(!health[0].is_reachable && !health[1].is_reachable && health[2].is_reachable);
    assert_eq!(error(0).kind(), ErrorKind::Unavailable);
    assert!(error(0).to_string().contains("refused"), "{}", error(0));
    assert!(error(0).to_string().contains(&cluster.endpoints()[0]));
    // The remaining member has no majority.
    let alone = error(2).kind();
    assert!(matches!(alone, ErrorKind::Unavailable | ErrorKind::Timeout));
    cluster.member(1).resume().unwrap();
    eventually(SOON, "two of three are healthy", || {
        let health = client.maintenance().health().unwrap();
        (health.iter().filter(|h| h.is_healthy()).count() == 2).then_some(())
    });
}

/// A server that answers everything with this gRPC status.
fn refusing(code: &'static str, text: &'static str) -> RawServer {
    RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            let status = [
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", code),
                ("grpc-message", text),
            ];
            out.write_all(&frames::headers(id, frames::END_STREAM, &status))
        });
    })
}

// Case: M-10
#[test]
fn a_member_that_denies_the_status_request_is_healthy() {
    let server = refusing("7", "etcdserver: permission denied");
    let client = Client::connect([server.endpoint()]).unwrap();
    let health = client.maintenance().health().unwrap();
    assert!(
        health[0].is_healthy() && health[0].is_reachable,
        "{health:?}"
    );
    assert!(health[0].status.is_none());
    let server = refusing("14", "etcdserver: corrupt cluster");
    let client = Client::connect([server.endpoint()]).unwrap();
    assert!(!client.maintenance().health().unwrap()[0].is_healthy());
}

/// A server whose status says that it is of this version.
fn of_version(version: &'static str) -> RawServer {
    RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            let mut pb = vec![(2 << 3) | 2, version.len() as u8];
            pb.extend(version.as_bytes());
            let length = pb.len() as u32;
            out.write_all(&frames::ok(id))?;
            out.write_all(&frames::data(id, 0, &frames::message(0, length, &pb)))?;
            out.write_all(&frames::trailers(id, "0", ""))
        });
    })
}

// Case: C-10
// Fault: F43
#[test]
fn reject_old_cluster_refuses_a_cluster_with_an_old_member() {
    let strict = |endpoints: &[String]| {
        let builder = Client::builder(endpoints).reject_old_cluster(true);
        builder.timeout(Duration::from_secs(3)).connect()
    };
    let (new, previous, old) = (
        of_version("3.7.2"),
        of_version("3.6.0"),
        of_version("3.5.26"),
    );
    let [new, previous, old] = [&new, &previous, &old].map(RawServer::endpoint);
    assert!(strict(&[new.clone(), previous.clone()]).is_ok());
    let error = strict(&[new.clone(), old.clone()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let text = error.to_string();
    assert!(text.contains("3.5.26") && text.contains(&old), "{text}");
    assert!(
        Client::connect([&old])
            .unwrap()
            .maintenance()
            .status()
            .is_ok()
    );
    // A member without a version is not regarded as new.
    let silent = "http://127.0.0.1:1".to_owned();
    let error = strict(&[new, silent]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // Only new members deny the request.
    let denied = refusing("7", "etcdserver: permission denied");
    assert!(strict(&[denied.endpoint()]).is_ok());

    let etcd = LocalEtcd::start().unwrap();
    let current = Client::connect([etcd.endpoint()]).unwrap();
    assert_eq!(strict(&[etcd.endpoint()]).is_ok(), minor(&current) >= 6);
}

#[test]
fn a_downgrade_is_validated_enabled_and_cancelled() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let minor = minor(&client);
    if minor < 6 {
        println!("skipped: downgrades are complete since 3.6");
        return;
    }
    let (previous, current) = (format!("3.{}.0", minor - 1), format!("3.{minor}"));
    // The cluster version is set shortly after the start.
    let validated = eventually(SOON, "the cluster has a version", || {
        client.maintenance().downgrade_validate(&previous).ok()
    });
    assert!(validated.version().starts_with(&current), "{validated:?}");
    for wrong in ["2.0.0", "nonsense"] {
        let error = client.maintenance().downgrade_validate(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(
        client
            .maintenance()
            .downgrade_validate("")
            .unwrap_err()
            .attempts(),
        0,
        "refused before anything is sent"
    );
    // Without a downgrade in progress, 3.7 reports success.
    let none = client.maintenance().downgrade_cancel().err();
    assert!(none.is_none_or(|e| e.kind() == ErrorKind::FailedPrecondition));

    client.maintenance().downgrade_enable(&previous).unwrap();
    let status = client.maintenance().status().unwrap();
    assert_eq!(status.downgrade().unwrap().target_version, previous);
    let second = client.maintenance().downgrade_enable(&previous).err();
    println!("a second one: {second:?}");
    assert!(second.is_none_or(|e| e.kind() == ErrorKind::FailedPrecondition));
    client.maintenance().downgrade_cancel().unwrap();
    assert_eq!(client.maintenance().status().unwrap().downgrade(), None);
}

//! `doctor` and clusters: learners, members that are away, no majority, versions.

use std::io::Write as _;

use etcd_blocking::Client;
use etcd_blocking::cluster::MemberAdd;
use etcd_blocking::local::LocalCluster;

use crate::doctor::{doctor, finding};
use crate::program::SOON;
use crate::support::frames;
use crate::support::raw::RawServer;
use crate::support::wait::{eventually, join};

#[test]
fn members_that_are_away_and_learners_are_found() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let first = cluster.member(0).endpoint();
    let ended = doctor(&cluster.endpoints().join(","), &[]);
    assert_eq!(ended.stdout, "nothing wrong was found\n", "{ended:?}");
    let ended = doctor(&first, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let found = finding(&ended, "the member local1: it answers at");
    assert!(found.starts_with("info "), "{found}");
    let new = cluster.prepare_member().unwrap();
    let add = MemberAdd::new([cluster.member(new).peer_url()]).learner();
    eventually(SOON, "the learner is added", || {
        client.call(add.clone()).ok()
    });
    let ended = doctor(&cluster.endpoints()[..3].join(","), &[]);
    assert_eq!(ended.code, 13, "{ended:?}");
    finding(&ended, "it was added, but has not started");
    join(cluster.member_mut(new));
    let all = cluster.endpoints().join(",");
    let ended = eventually(SOON, "the learner answers", || {
        let ended = doctor(&all, &[]);
        ended
            .stdout
            .contains("the member is a learner")
            .then_some(ended)
    });
    assert!(finding(&ended, "is a learner").contains("member promote"));
    cluster.member_mut(new).kill().unwrap();
    // Without a majority of the three that vote. Not the first, which is asked.
    cluster.member_mut(1).kill().unwrap();
    let ended = doctor(&first, &[]);
    assert_eq!(ended.code, 13, "{ended:?}");
    let found = finding(&ended, "the member local1: it does not answer");
    assert!(found.contains("connection refused"), "{found}");
    cluster.member_mut(2).kill().unwrap();
    let ended = eventually(SOON, "the first has no leader", || {
        let ended = doctor(&first, &[]);
        ended
            .stdout
            .contains("the member has no leader")
            .then_some(ended)
    });
    assert_eq!(ended.code, 13, "{ended:?}");
    assert!(finding(&ended, "the member has no leader").contains("majority"));
}

/// A server whose status says that it is of this version; everything else is the same answer.
fn of_version(version: &'static str) -> RawServer {
    RawServer::start(move |stream, _| {
        let _ = frames::serve(stream, |out, id| {
            let mut pb = vec![(2 << 3) | 2, version.len() as u8];
            pb.extend(version.as_bytes());
            // The leader.
            pb.extend([4 << 3, 1]);
            let length = pb.len() as u32;
            out.write_all(&frames::ok(id))?;
            out.write_all(&frames::data(id, 0, &frames::message(0, length, &pb)))?;
            out.write_all(&frames::trailers(id, "0", ""))
        });
    })
}

#[test]
fn mixed_and_old_versions_are_found() {
    let (new, old) = (of_version("3.6.4"), of_version("3.3.27"));
    let endpoints = format!("{},{}", new.endpoint(), old.endpoint());
    let ended = doctor(&endpoints, &[]);
    let found = finding(&ended, "the members have 2 versions: 3.3.27 at");
    assert!(found.starts_with("warning "), "{found}");
    let found = finding(&ended, "etcd 3.3.27 is older than 3.4");
    assert!(found.contains(&old.endpoint()), "{found}");
}

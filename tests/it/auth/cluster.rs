//! Tokens in a cluster: each member keeps its own token store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, KeyRange};

use super::{LONG, authentications, set_up};
use crate::support::wait::{Raise, eventually};

fn start() -> (LocalCluster, Client, Client) {
    let cluster = LocalCluster::builder(3)
        .arg("--bcrypt-cost=4")
        .start()
        .unwrap();
    let client = |user: Option<&str>| {
        let builder = Client::builder(cluster.endpoints())
            .timeout(LONG)
            .allow_plaintext_credentials();
        match user {
            Some(name) => builder.user(name, format!("{name}-pw")).connect().unwrap(),
            None => builder.connect().unwrap(),
        }
    };
    set_up(&client(None));
    let (root, alice) = (client(Some("root")), client(Some("alice")));
    root.auth().user_list().unwrap();
    (cluster, root, alice)
}

fn all_authentications(cluster: &LocalCluster) -> u64 {
    let running = cluster
        .members()
        .iter()
        .filter(|member| member.pid().is_some());
    running.map(authentications).sum()
}

#[test]
fn reads_and_watches_of_a_user_survive_the_restart_of_every_member() {
    let (mut cluster, root, alice) = start();
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let mut revision = None;
    let over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        let _over = Raise(&over);
        scope.spawn(|| {
            while !over.load(SeqCst) {
                alice.get("app/k").unwrap();
                reads.fetch_add(1, SeqCst);
            }
        });
        for member in 0..3 {
            cluster.member_mut(member).kill().unwrap();
            eventually(LONG, "the tokens of alice are invalid", || {
                root.auth().user_change_password("alice", "alice-pw").ok()
            });
            let before = reads.load(SeqCst);
            eventually(LONG, "reads go on", || {
                (reads.load(SeqCst) > before + 5).then_some(())
            });
            revision = eventually(LONG, "a put", || alice.put("app/k", "v").ok())
                .revision()
                .into();
            cluster.member_mut(member).restart().unwrap();
        }
    });
    let mut seen = None;
    while seen < revision {
        let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
        assert!(seen < Some(item.revision()));
        seen = Some(item.revision());
    }
}

#[test]
fn calls_and_watches_on_different_members_share_one_token() {
    let (cluster, root, alice) = start();
    let before = all_authentications(&cluster);
    alice.put("app/k", "v").unwrap();
    let _watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    // Each member is asked on a connection of its own.
    for health in root.maintenance().health().unwrap() {
        assert!(health.error.is_none(), "{health:?}");
    }
    for health in alice.maintenance().health().unwrap() {
        assert!(health.is_reachable, "{health:?}");
    }
    for endpoint in cluster.endpoints() {
        alice.at(endpoint).unwrap().get("app/k").unwrap();
    }
    assert_eq!(all_authentications(&cluster) - before, 1);
}

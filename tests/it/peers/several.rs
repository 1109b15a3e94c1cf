//! One instance in several formats, which readers of all libraries see at the same time.

use std::collections::{BTreeMap, BTreeSet};

use etcd_blocking::{Cause, Delete, EventKind, KeyRange, LeaseId, codec};

use super::dns::{CoreDns, ZONE};
use super::*;
use crate::examples;
use crate::support::wait::eventually;

const ADDR: &str = "127.0.1.1:8080";

/// The keys of the instance in the formats native, go-naming, kratos and skydns.
const KEYS: [&str; 4] = [
    "/microservices/web/127.0.1.1:8080",
    "/services/web/127.0.1.1:8080",
    "/skydns/local/cluster/web/127-0-1-1-8080",
    "web/127.0.1.1:8080",
];

fn registrar(client: &Client) -> Registrar {
    Registrar::builder(client)
        .add_codec(codec::GoNaming)
        .add_codec(codec::Kratos)
        .add_codec(codec::SkyDns)
        .prefix(ZONE)
        .start()
        .unwrap()
}

/// Every key of the store, with the revision of its last change and its lease.
fn stored(client: &Client) -> Vec<(String, i64, Option<LeaseId>)> {
    let all = client.get_prefix("").unwrap();
    let all = all.iter().map(|kv| {
        let key = String::from_utf8(kv.key().to_vec()).unwrap();
        (key, kv.mod_revision().get(), kv.lease())
    });
    all.collect()
}

fn all_are_stored(client: &Client) -> bool {
    let stored = stored(client);
    let leases: BTreeSet<_> = stored.iter().map(|(.., lease)| *lease).collect();
    stored.iter().map(|(key, ..)| key.as_str()).eq(KEYS) && leases.len() == 1
}

#[test]
fn one_instance_is_seen_by_grpc_go_kratos_and_coredns_until_it_crashes() {
    let peers = [Peer::GoNaming, Peer::Kratos].map(Peer::program);
    let [Some(grpc), Some(kratos)] = peers else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let Some(mut dns) = CoreDns::start(&etcd) else {
        return;
    };
    let client = client(&etcd);
    let watcher = client.watch_prefix("").unwrap();
    let grpc = Running::start(&grpc, &etcd, &["discover", "web"]);
    let kratos = Running::start(&kratos, &etcd, &["discover", "web"]);

    let formats = "native,go-naming,kratos,skydns";
    let prefixes = format!(",,,{ZONE}");
    let ours = examples::register_with(&etcd, formats, ADDR, &["--prefix", &prefixes]);
    grpc.says(&format!("list {ADDR}"));
    kratos.says(&format!("list grpc://{ADDR}"));
    assert_eq!(
        dns.ask("A web.cluster.local"),
        "NOERROR; A web.cluster.local. 127.0.1.1"
    );
    assert!(all_are_stored(&client));

    ours.kill();
    grpc.says("list ");
    kratos.says("list ");
    dns.answers("A web.cluster.local", "NXDOMAIN; ");

    // All keys appeared at one revision, and vanished at another. Where a stalled machine lost the lease and
    // restored it, that happened more than once.
    let mut revisions: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    let mut present = BTreeSet::new();
    while !present.is_empty() || revisions.is_empty() {
        let response = watcher.recv_timeout(SOON).unwrap().unwrap();
        for event in response.events() {
            let is_put = event.kind() == EventKind::Put;
            let key = event.kv().key().to_vec();
            let _changed = if is_put {
                present.insert(key)
            } else {
                present.remove(&key)
            };
            revisions.entry(event.revision()).or_default().push(is_put);
        }
    }
    for events in revisions.values() {
        assert_eq!(*events, [events[0]; KEYS.len()], "{revisions:?}");
    }
}

#[test]
fn each_format_is_restored_whatever_happens_to_its_key() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client);
    let registration = registrar.register(Instance::new("web", ADDR)).unwrap();
    assert!(all_are_stored(&client));
    let values = |client: &Client| {
        let values = KEYS.map(|key| client.get(key).unwrap());
        values.map(|kv| kv.map(|kv| kv.value().to_vec()))
    };
    let before = values(&client);
    let restored = |client: &Client, what: &str| {
        eventually(SOON, what, || {
            (all_are_stored(client) && values(client) == before).then_some(())
        });
    };

    for key in KEYS {
        client.delete(key).unwrap();
        restored(&client, "the deleted key");
        client.put(key, "malformed").unwrap();
        restored(&client, "the overwritten key");
    }
    let lease = stored(&client)[0].2.unwrap();
    client.revoke(lease).unwrap();
    restored(&client, "the keys of the revoked lease");
    client.call(Delete::range(KeyRange::all())).unwrap();
    restored(&client, "the deleted store");
    registration.leave().unwrap();
    assert_eq!(stored(&client), []);
}

#[test]
fn a_view_of_two_formats_shows_kratos_programs_and_ours_once_each() {
    let Some(kratos) = Peer::Kratos.program() else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = discovery(&client, codec::Native).add_codec(codec::Kratos);
    let view = view.service("web").unwrap();
    let args = ["register", "web", "127.0.1.9:8080", "60"];
    let mut theirs = Running::start(&kratos, &etcd, &args);
    theirs.says("registered");
    // An instance that moves from kratos to the native format is in both meanwhile.
    let registrar = Registrar::builder(&client).add_codec(codec::Kratos);
    let registrar = registrar.start().unwrap();
    let ours = Instance::new("web", ADDR).version("3").tag("native");
    let ours = registrar.register(ours).unwrap();
    eventually(SOON, "one of each", || {
        (addrs(&view) == [ADDR, "127.0.1.9:8080"]).then_some(())
    });
    let seen = view.snapshot();
    let seen = seen.iter().find(|instance| instance.addr == ADDR);
    assert_eq!(seen.unwrap().tags, ["native"], "the first format is shown");

    let gone = |addr: &str| {
        until(&view, addr, |change| {
            let mut gone = change.causes().filter(|(gone, _)| gone.addr == addr);
            gone.next().map(|(_, cause)| cause)
        })
    };
    theirs.tell("leave");
    theirs.says("left");
    assert_eq!(gone("127.0.1.9:8080"), Cause::Left);
    ours.leave().unwrap();
    assert_eq!(gone(ADDR), Cause::Left);
    assert!(view.snapshot().is_empty());
    let more = view.changes().try_iter().any(|c| c.causes().count() > 0);
    assert!(!more, "each is removed once");
}

//! A key of a lock that is deleted by hand.

use std::time::Instant;

use etcd_blocking::local::{LocalEtcd, Proxy};
use etcd_blocking::{Client, Delete, Get};

use crate::program::{Program, SOON, command, command_for};
use crate::support::wait::eventually;

/// No renewal is due during the test.
const FLAGS: [&str; 3] = ["job", "--ttl", "3000s"];
const COMMAND: [&str; 4] = [
    "--",
    "/bin/sh",
    "-c",
    "trap '' TERM; echo started; while :; do sleep 0.02; done",
];

#[track_caller]
fn is_lost(program: Program) {
    let ended = program.ended();
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("its key was deleted"), "{ended:?}");
}

#[test]
fn a_key_that_is_deleted_is_noticed_at_once() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    for verb in ["lock", "lead"] {
        for command in [&COMMAND[..], &[]] {
            let args = [&[verb], &FLAGS[..], command].concat();
            let program = Program::start(&mut command_for(&etcd, &args));
            program.line();
            let begun = Instant::now();
            let deleted = client.call(Delete::prefix("job/")).unwrap();
            assert_eq!(deleted.deleted(), 1);
            is_lost(program);
            println!("{verb}: ended {:?} after the delete", begun.elapsed());
        }
    }
}

#[test]
fn a_key_that_was_deleted_and_compacted_while_etcd_was_away_is_noticed() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let args = [&["lock"], &FLAGS[..], &COMMAND].concat();
    let mut lock = command(&args);
    let program = Program::start(lock.env("ETCDCTL_ENDPOINTS", proxy.endpoint()));
    assert_eq!(program.line(), "started");
    proxy.cut();
    client.call(Delete::prefix("job/")).unwrap();
    let now = client.put("other", "").unwrap().header().revision;
    client.compact(now).unwrap();
    proxy.restore();
    is_lost(program);
}

#[test]
fn a_key_that_stays_while_others_change_is_held() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let mut lock = command(&[&["lead"], &FLAGS[..]].concat());
    let program = Program::start(lock.env("ETCDCTL_ENDPOINTS", proxy.endpoint()));
    let key = program.line();
    proxy.cut();
    // A value that is set by hand, and a compaction, do not end it.
    let lease = client.get(&*key).unwrap().unwrap().lease().unwrap();
    client
        .call(etcd_blocking::Put::new(&*key, "by hand").lease(lease))
        .unwrap();
    let now = client.put("other", "").unwrap().header().revision;
    client.compact(now).unwrap();
    proxy.restore();
    let next = Program::start(&mut command_for(&etcd, &[&["lead"], &FLAGS[..]].concat()));
    eventually(SOON, "the next one waits", || {
        (client.call(Get::prefix("job/")).unwrap().kvs().len() == 2).then_some(())
    });
    client.delete(&*key).unwrap();
    next.line();
    is_lost(program);
}

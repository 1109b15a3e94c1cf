//! Instances of this crate, as programs of other libraries see them.

use etcd_blocking::{Status, codec};

use super::*;
use crate::examples;

/// An instance of ours registers, is out of service for a while, and leaves; another one crashes.
fn come_and_go(peer: Peer, name: &str, listed: fn(&str) -> String) {
    let Some(program) = peer.program() else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = Registrar::builder(&client).codec(codec::by_name(name).unwrap());
    let registrar = registrar.start().unwrap();
    let theirs = Running::start(&program, &etcd, &["discover", "web"]);
    let list = |addrs: &[&str]| {
        let addrs: Vec<String> = addrs.iter().map(|addr| listed(addr)).collect();
        theirs.says(&format!("list {}", addrs.join(" ")));
    };

    // A service with a longer name is another one.
    let other = Instance::new("web2", "127.0.1.9:1");
    let _other = registrar.register(other).unwrap();
    let first = Instance::new("web", "127.0.1.1:8080");
    let first = registrar.register(first).unwrap();
    list(&["127.0.1.1:8080"]);
    let crashing = examples::register(&etcd, name, "127.0.1.2:8080");
    list(&["127.0.1.1:8080", "127.0.1.2:8080"]);

    // These formats cannot say that an instance takes no calls, so it has no key.
    first.set_status(Status::OutOfService).unwrap();
    list(&["127.0.1.2:8080"]);
    first.set_status(Status::Up).unwrap();
    list(&["127.0.1.1:8080", "127.0.1.2:8080"]);

    crashing.kill();
    list(&["127.0.1.1:8080"]);
    first.leave().unwrap();
    list(&[]);
}

#[test]
fn grpc_go_follows_our_instances() {
    come_and_go(Peer::GoNaming, "go-naming", str::to_owned);
}

#[test]
fn go_zero_follows_our_instances() {
    come_and_go(Peer::GoZero, "go-zero", str::to_owned);
}

#[test]
fn kratos_follows_our_instances() {
    come_and_go(Peer::Kratos, "kratos", |addr| format!("grpc://{addr}"));
}

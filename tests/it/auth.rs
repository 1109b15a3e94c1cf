//! Users, roles, permissions, and tokens that expire while they are in use.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use etcd_blocking::auth::Permission;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ClientBuilder, ErrorKind, KeyRange};

mod admin;
mod certificates;
mod cluster;
mod jwt;
mod maintenance;
mod permissions;
mod secrets;
mod streams;
mod tokens;

use crate::support::server::{Version, skip_unless_since, version};

const LONG: Duration = Duration::from_secs(20);

/// Where each part of a nested transaction needs its permission, and a lease needs a user.
const NO_WAY_AROUND: &[Version] = &[Version(3, 4, 44), Version(3, 5, 30), Version(3, 6, 11)];

/// Whether this etcd is one that now and then denies a change by `root` while others make theirs.
fn denies_root() -> bool {
    skip_unless_since(3, 6, "changes of users by root are denied at random")
}

/// An etcd whose passwords are cheap to check.
fn etcd(args: &[&str]) -> LocalEtcd {
    let mut builder = LocalEtcd::builder().arg("--bcrypt-cost=4");
    for arg in args {
        builder = builder.arg(*arg);
    }
    builder.start().unwrap()
}

fn builder(etcd: &LocalEtcd) -> ClientBuilder {
    Client::builder([etcd.endpoint()])
        .timeout(LONG)
        .allow_plaintext_credentials()
}

fn user(etcd: &LocalEtcd, name: &str) -> Client {
    builder(etcd)
        .user(name, format!("{name}-pw"))
        .connect()
        .unwrap()
}

/// Switches authentication on: `root`, and `alice` with the role `app`, who may do everything below
/// `app/`. Returns root's client.
fn enable(etcd: &LocalEtcd) -> Client {
    set_up(&builder(etcd).connect().unwrap());
    let root = user(etcd, "root");
    // So that it has its token.
    root.auth().user_list().unwrap();
    root
}

fn set_up(anybody: &Client) {
    anybody.auth().role_add("app").unwrap();
    let permission = Permission::read_write(KeyRange::prefix("app/"));
    anybody
        .auth()
        .role_grant_permission("app", permission)
        .unwrap();
    anybody.auth().user_add("alice", "alice-pw").unwrap();
    anybody.auth().user_grant_role("alice", "app").unwrap();
    anybody.auth().user_add("root", "root-pw").unwrap();
    anybody.auth().user_grant_role("root", "root").unwrap();
    anybody.auth().enable().unwrap();
}

/// How many passwords this server has checked, or refused to.
fn authentications(etcd: &LocalEtcd) -> u64 {
    let mut stream = TcpStream::connect(etcd.client_addr()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines()
        .filter(|line| {
            line.starts_with("grpc_server_handled_total")
                && line.contains("grpc_method=\"Authenticate\"")
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Makes the tokens of alice void at once. Her password is what it was.
fn void_tokens_of_alice(root: &Client) {
    if version() < Version(3, 6, 0) {
        // Root is denied at random there while others send requests.
        crate::support::wait::eventually(LONG, "root may do it", || {
            root.auth().user_change_password("alice", "alice-pw").ok()
        });
        return;
    }
    root.auth()
        .user_change_password("alice", "alice-pw")
        .unwrap();
}

#[track_caller]
fn fails<T>(result: etcd_blocking::Result<T>, kind: ErrorKind) -> etcd_blocking::Error {
    match result {
        Ok(_) => panic!("it works"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error
        }
    }
}

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

/// Releases in which each part of a nested transaction needs a permission, and a lease needs a user.
const NO_WAY_AROUND: &[Version] = &[Version(3, 4, 44), Version(3, 5, 30), Version(3, 6, 11)];

/// Whether this etcd sometimes denies a change by `root` during changes by other clients.
fn denies_root() -> bool {
    skip_unless_since(3, 6, "changes of users by root are denied at random")
}

/// An etcd that checks passwords quickly.
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

/// Enables authentication with `root`, and with `alice`, whose role `app` may read and write everything below
/// `app/`. Returns root's client.
fn enable(etcd: &LocalEtcd) -> Client {
    set_up(&builder(etcd).connect().unwrap());
    let root = user(etcd, "root");
    // The client fetches its token.
    root.auth().user_list().unwrap();
    root
}

fn set_up(client: &Client) {
    client.auth().role_add("app").unwrap();
    let permission = Permission::read_write(KeyRange::prefix("app/"));
    client
        .auth()
        .role_grant_permission("app", permission)
        .unwrap();
    client.auth().user_add("alice", "alice-pw").unwrap();
    client.auth().user_grant_role("alice", "app").unwrap();
    client.auth().user_add("root", "root-pw").unwrap();
    client.auth().user_grant_role("root", "root").unwrap();
    client.auth().enable().unwrap();
}

/// The number of authentications that this server has answered.
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

/// Invalidates the tokens of alice. Her password is unchanged.
fn invalidate_tokens_of_alice(root: &Client) {
    if version() < Version(3, 6, 0) {
        // This etcd sometimes denies root while other clients send requests.
        crate::support::wait::eventually(LONG, "root is permitted", || {
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

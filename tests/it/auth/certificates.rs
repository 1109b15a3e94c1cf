//! Users identified by client certificate: no token is requested.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::auth::{Permission, UserAdd};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, KeyRange, Tls};

use super::{LONG, denies_root, fails};
use crate::support::certs::Authority;
use crate::support::wait::Raise;

struct Secure {
    ca: Authority,
    etcd: LocalEtcd,
}

impl Secure {
    fn start() -> Self {
        let ca = Authority::new("the authority of users");
        let server = ca.server();
        let etcd = LocalEtcd::builder()
            .arg("--bcrypt-cost=4")
            .tls(&server.cert, &server.key)
            .client_ca(ca.ca_file())
            .start()
            .unwrap();
        Secure { ca, etcd }
    }

    fn builder(&self, common_name: &str) -> etcd_blocking::ClientBuilder {
        let identity = self.ca.client(common_name);
        let tls = Tls::new()
            .ca_file(self.ca.ca_file())
            .client_cert_files(&identity.cert, &identity.key);
        Client::builder([self.etcd.endpoint()])
            .tls(tls)
            .timeout(LONG)
    }

    fn client(&self, common_name: &str) -> Client {
        self.builder(common_name).connect().unwrap()
    }

    /// `root` and `alice` are identified by certificates only; `bob` has a password.
    fn enable(&self) -> Client {
        let root = self.client("root");
        root.auth().role_add("app").unwrap();
        let permission = Permission::read_write(KeyRange::prefix("app/"));
        root.auth()
            .role_grant_permission("app", permission)
            .unwrap();
        root.call(UserAdd::no_password("alice")).unwrap();
        root.auth().user_grant_role("alice", "app").unwrap();
        root.auth().user_add("bob", "bob-pw").unwrap();
        root.call(UserAdd::no_password("root")).unwrap();
        root.auth().user_grant_role("root", "root").unwrap();
        root.auth().enable().unwrap();
        root
    }
}

// Case: A-09
#[test]
fn a_certificate_identifies_its_user_while_users_and_roles_change() {
    if denies_root() {
        return;
    }
    let secure = Secure::start();
    let root = secure.enable();
    let alice = secure.client("alice");
    fails(alice.put("other", "v"), ErrorKind::PermissionDenied);
    fails(
        secure.client("nobody").put("app/k", "v"),
        ErrorKind::PermissionDenied,
    );
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let lease = alice.grant(Duration::from_secs(5)).unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    let over = AtomicBool::new(false);
    let puts = thread::scope(|scope| {
        let _over = Raise(&over);
        scope.spawn(|| {
            for n in 0..40 {
                root.auth().role_add(format!("r{n}")).unwrap();
                root.auth()
                    .user_grant_role("alice", format!("r{n}"))
                    .unwrap();
                root.auth().role_delete(format!("r{n}")).unwrap();
            }
            over.store(true, SeqCst);
        });
        let mut puts = 0;
        while !over.load(SeqCst) {
            alice.put("app/k", "v").unwrap();
            drop(alice.watch("app/x").unwrap());
            puts += 1;
        }
        puts
    });
    for _ in 0..puts {
        watch.receiver().recv_timeout(LONG).unwrap().unwrap();
    }
    alive.receiver().recv_timeout(LONG).unwrap().unwrap();
    let tokens = alice.metrics().tokens;
    assert_eq!((tokens.refreshes, tokens.failures), (0, 0));
}

#[test]
fn a_password_takes_precedence_over_a_certificate() {
    let secure = Secure::start();
    let _root = secure.enable();
    // With TLS, no setting for plaintext passwords is needed.
    let bob = secure
        .builder("root")
        .user("bob", "bob-pw")
        .connect()
        .unwrap();
    fails(bob.put("app/k", "v"), ErrorKind::PermissionDenied);
    assert_eq!(bob.metrics().tokens.refreshes, 1);
}

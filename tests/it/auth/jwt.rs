//! JSON web tokens: every change of users or roles invalidates all of them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::auth::Authenticate;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{ErrorKind, KeyRange};

use super::{LONG, authentications, builder, denies_root, enable, etcd, fails, user};
use crate::support::wait::{Raise, eventually, items};

/// The secret that signs tokens, in a file.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let name = format!(
            "etcd-blocking-jwt-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, SeqCst)
        );
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "a secret that is long enough for a signature").unwrap();
        SecretFile(path)
    }

    fn etcd(&self, ttl: &str) -> LocalEtcd {
        let path = self.0.display();
        etcd(&[&format!(
            "--auth-token=jwt,pub-key={path},priv-key={path},sign-method=HS256,ttl={ttl}"
        )])
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

// Case: A-07
#[test]
fn a_configured_jwt_works_until_it_expires_and_then_calls_fail() {
    let secret = SecretFile::new();
    let etcd = secret.etcd("3s");
    let root = enable(&etcd);
    let token = root.call(Authenticate::new("alice", "alice-pw")).unwrap();
    assert_eq!(token.token().split('.').count(), 3);
    let client = builder(&etcd).token(token.token()).connect().unwrap();
    client.put("app/k", "v").unwrap();
    let watch = client.watch(KeyRange::prefix("app/")).unwrap();
    let error = eventually(LONG, "it expires", || client.put("app/k", "v").err());
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(error.to_string().contains("invalid auth token"), "{error}");
    assert!(error.elapsed() < Duration::from_secs(2), "at once: {error}");
    fails(client.watch("app/x"), ErrorKind::Unauthenticated);
    let last = items(watch.receiver(), LONG).last().unwrap();
    fails(last, ErrorKind::Unauthenticated);
}

#[test]
fn a_configured_jwt_fails_after_a_change_of_users_or_roles() {
    let secret = SecretFile::new();
    let etcd = secret.etcd("5m");
    let root = enable(&etcd);
    let token = root.call(Authenticate::new("alice", "alice-pw")).unwrap();
    let client = builder(&etcd).token(token.token()).connect().unwrap();
    client.put("app/k", "v").unwrap();
    root.auth().role_add("another").unwrap();
    let error = fails(client.put("app/k", "v"), ErrorKind::Unauthenticated);
    assert!(
        error.to_string().contains("revision of auth store is old"),
        "{error}"
    );
    assert!(error.elapsed() < Duration::from_secs(2), "at once: {error}");
}

#[test]
fn with_a_password_an_expired_jwt_is_replaced() {
    let secret = SecretFile::new();
    let etcd = secret.etcd("2s");
    let _root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let lease = alice.grant(Duration::from_secs(3)).unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    let before = authentications(&etcd);
    let mut puts = 0;
    while authentications(&etcd) - before < 3 {
        alice.put("app/k", "v").unwrap();
        puts += 1;
        alive.receiver().recv_timeout(LONG).unwrap().unwrap();
    }
    drop(alice.watch("app/x").unwrap());
    for _ in 0..puts {
        watch.receiver().recv_timeout(LONG).unwrap().unwrap();
    }
}

// Case: A-09
#[test]
fn calls_and_streams_continue_when_new_jwts_are_already_outdated() {
    if denies_root() {
        return;
    }
    let secret = SecretFile::new();
    let etcd = secret.etcd("5m");
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let before = authentications(&etcd);
    let over = AtomicBool::new(false);
    let (changes, puts) = thread::scope(|scope| {
        let _over = Raise(&over);
        let changes = scope.spawn(|| {
            for n in 0..20 {
                root.auth().role_add(format!("r{n}")).unwrap();
                root.auth()
                    .user_grant_role("alice", format!("r{n}"))
                    .unwrap();
                root.auth().role_delete(format!("r{n}")).unwrap();
            }
            over.store(true, SeqCst);
            60
        });
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (alice, over) = (&alice, &over);
                scope.spawn(move || {
                    let mut puts = 0;
                    while !over.load(SeqCst) {
                        alice.put(format!("app/{n}"), "x").unwrap();
                        if puts % 10 == 0 {
                            drop(alice.watch("app/x").unwrap());
                        }
                        puts += 1;
                    }
                    puts
                })
            })
            .collect();
        let puts = threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .sum::<usize>();
        (changes.join().unwrap(), puts)
    });
    let mut seen = 0;
    while seen < puts {
        let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
        seen += item.events().len();
    }
    let checks = authentications(&etcd) - before;
    // The clients of root and of alice each need one new token per change.
    assert!(checks <= 2 * changes + 2, "{checks} for {changes} changes");
}

//! Tokens that become invalid while they are in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::auth::{Permission, UserAdd};
use etcd_blocking::concurrency::{Election, Session};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{ErrorKind, KeyRange, Put};

use super::{
    LONG, authentications, builder, denies_root, enable, etcd, fails, invalidate_tokens_of_alice,
    user,
};
use crate::support::wait::{Raise, eventually};

#[test]
fn a_client_fetches_one_token_for_all_threads_and_connections() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let before = authentications(&etcd);
    let alice = user(&etcd, "alice");
    thread::scope(|scope| {
        for n in 0..8 {
            let alice = alice.clone();
            scope.spawn(move || {
                alice.put(format!("app/{n}"), "x").unwrap();
                drop(alice.watch(format!("app/{n}")).unwrap());
            });
        }
    });
    let lease = alice.grant(Duration::from_secs(10)).unwrap();
    alice
        .keep_alive(lease.id())
        .unwrap()
        .receiver()
        .recv_timeout(LONG)
        .unwrap()
        .unwrap();
    alice.with_timeout(LONG).get("app/1").unwrap();
    assert_eq!(authentications(&etcd) - before, 1);
    assert_eq!(alice.metrics().tokens.refreshes, 1);
    drop(root);
}

// Fault: F19
#[test]
fn an_invalid_token_is_replaced_once_for_all_threads() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "0").unwrap();
    for round in 1..=5 {
        let before = authentications(&etcd);
        invalidate_tokens_of_alice(&root);
        thread::scope(|scope| {
            for n in 0..16 {
                let alice = &alice;
                scope.spawn(move || alice.put(format!("app/{n}"), "x").unwrap());
            }
        });
        assert_eq!(authentications(&etcd) - before, 1, "round {round}");
    }
}

#[test]
fn a_call_that_times_out_before_a_new_token_fails_with_timeout() {
    // The server takes half a second to check a password.
    let etcd = LocalEtcd::builder()
        .arg("--bcrypt-cost=13")
        .start()
        .unwrap();
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "1").unwrap();
    invalidate_tokens_of_alice(&root);
    let hasty = alice.with_timeout(Duration::from_millis(150));
    let error = fails(hasty.put("app/k", "2"), ErrorKind::Timeout);
    assert!(error.is_retryable(), "{error}");
    assert_eq!(alice.get("app/k").unwrap().unwrap().value(), "1");
}

// Case: A-11
// Fault: F21
#[test]
fn calls_of_a_deleted_user_fail_after_one_authentication() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "1").unwrap();
    root.auth().user_delete("alice").unwrap();
    let before = authentications(&etcd);
    let error = fails(alice.put("app/k", "2"), ErrorKind::Unauthenticated);
    assert!(
        error.to_string().contains("authentication failed"),
        "{error}"
    );
    assert!(!error.outcome_unknown());
    for _ in 0..100 {
        fails(alice.get("app/k"), ErrorKind::Unauthenticated);
    }
    assert_eq!(authentications(&etcd) - before, 1);
}

#[test]
fn after_a_password_change_calls_with_the_old_password_fail() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "1").unwrap();
    root.auth()
        .user_change_password("alice", "other-pw")
        .unwrap();
    fails(alice.put("app/k", "2"), ErrorKind::Unauthenticated);
    let lease = fails(
        alice.grant(Duration::from_secs(5)),
        ErrorKind::Unauthenticated,
    );
    assert!(lease.to_string().contains("alice"), "{lease}");
}

// Case: A-15
// Fault: F19
#[test]
fn a_lease_is_kept_alive_when_its_token_becomes_invalid() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let lease = alice.grant(Duration::from_secs(3)).unwrap();
    alice
        .call(Put::new("app/k", "v").lease(lease.id()))
        .unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    let begun = Instant::now();
    let before = authentications(&etcd);
    let mut voided = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        invalidate_tokens_of_alice(&root);
        voided += 1;
        alive.receiver().recv_timeout(LONG).unwrap().unwrap();
    }
    assert!(alice.get("app/k").unwrap().is_some());
    assert!(authentications(&etcd) - before <= voided + 1);
    invalidate_tokens_of_alice(&root);
    alice.keep_alive_once(lease.id()).unwrap();
}

// Case: A-18
// Fault: F19
#[test]
fn a_restarted_member_without_the_token_fails_no_call() {
    // A member restores its tokens from its log, which is short here.
    let mut etcd = etcd(&["--snapshot-count=1"]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "1").unwrap();
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let mirror = alice.mirror(KeyRange::prefix("app/")).unwrap();
    for n in 0..20 {
        root.put("other", n.to_string()).unwrap();
    }
    etcd.restart().unwrap();
    let revision = eventually(LONG, "a put", || alice.put("app/k", "2").ok()).revision();
    let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(item.events()[0].kv().value(), "2");
    mirror.wait_revision(revision, LONG).unwrap();
    drop(alice.watch("app/x").unwrap());
    assert_eq!(authentications(&etcd), 1, "since the restart");
}

/// Typical steps of an operator; every step creates a revision of the auth store. `alice` keeps her
/// role. Returns the number of steps.
fn administer(root: &etcd_blocking::Client, over: &AtomicBool) -> u64 {
    let mut steps = 0;
    for n in 0.. {
        let (name, role) = (format!("user-{n}"), format!("role-{n}"));
        let key = format!("app/{n}");
        let todo: [&dyn Fn() -> etcd_blocking::Result<etcd_blocking::auth::AuthResponse>; 9] = [
            &|| root.auth().user_add(&name, "pw"),
            &|| root.auth().role_add(&role),
            &|| {
                root.auth()
                    .role_grant_permission(&role, Permission::read("x"))
            },
            &|| root.auth().user_grant_role("alice", &role),
            &|| root.auth().user_change_password(&name, "pw2"),
            &|| {
                root.auth()
                    .role_grant_permission("app", Permission::read(key.clone()))
            },
            &|| root.auth().user_revoke_role("alice", &role),
            &|| root.auth().role_delete(&role),
            &|| root.auth().user_delete(&name),
        ];
        for step in todo {
            if over.load(SeqCst) {
                return steps;
            }
            step().unwrap();
            steps += 1;
        }
    }
    steps
}

/// Uses a client for puts, a watch, a lease, an idle watch and a leadership, and a quiet client that puts every
/// 2.6 s and waits for the leadership, while users and roles change. Returns the numbers of password checks, of
/// steps of the operator, and of puts by the quiet client.
fn work_while_users_change(
    etcd: &etcd_blocking::local::LocalEtcd,
    length: Duration,
) -> (u64, u64, u64) {
    let root = enable(etcd);
    let (alice, quiet) = (user(etcd, "alice"), user(etcd, "alice"));
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let quiet_watch = quiet.watch(KeyRange::prefix("app/")).unwrap();
    let waiting = alice.watch("app/turn").unwrap();
    let lease = alice.grant(Duration::from_secs(3)).unwrap();
    alice
        .call(Put::new("app/alive", "v").lease(lease.id()))
        .unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    quiet.get("app/alive").unwrap();
    let elections = Permission::read_write(KeyRange::prefix("elect/"));
    root.auth().role_grant_permission("app", elections).unwrap();
    let (leader, candidate) = (Session::builder(&alice), Session::builder(&quiet));
    let (leader, candidate) = (leader.start().unwrap(), candidate.start().unwrap());
    let leadership = Election::new(&leader, "elect/it")
        .campaign("first")
        .unwrap();
    let before = authentications(etcd);
    let over = AtomicBool::new(false);
    let (steps, puts, quiet_puts) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let _over = Raise(&over);
        scope.spawn(|| steps.store(administer(&root, &over), SeqCst));
        for n in 0..2 {
            let (alice, over, puts) = (&alice, &over, &puts);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    alice.put(format!("app/put/{n}"), "x").unwrap();
                    alice.get(format!("app/put/{n}")).unwrap();
                    puts.fetch_add(1, SeqCst);
                }
            });
        }
        scope.spawn(|| {
            while !over.load(SeqCst) {
                quiet.put("app/quiet", "x").unwrap();
                drop(quiet.watch("app/another").unwrap());
                quiet_puts.fetch_add(1, SeqCst);
                let until = Instant::now() + Duration::from_millis(2600);
                while Instant::now() < until && !over.load(SeqCst) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let campaign = scope.spawn(|| {
            let election = Election::new(&candidate, "elect/it");
            let won = election.campaign_timeout("second", length + LONG).unwrap();
            won.resign().unwrap();
        });
        thread::sleep(length);
        assert!(!campaign.is_finished(), "another candidate leads");
        leadership.resign().unwrap();
        campaign.join().unwrap();
    });
    let last = alice.put("app/turn", "yours").unwrap().revision();
    let turn = waiting.receiver().recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(turn.revision(), last);
    for (watch, name) in [(&watch, "busy"), (&quiet_watch, "quiet")] {
        let mut seen = 0;
        let mut at = None;
        while at != Some(last) {
            let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
            assert!(at < Some(item.revision()), "{name}");
            at = Some(item.revision());
            seen += item.events().len() as u64;
        }
        let written = puts.load(SeqCst) + quiet_puts.load(SeqCst) + 2;
        assert_eq!(seen, written, "{name}");
    }
    assert!(
        alice.get("app/alive").unwrap().is_some(),
        "the lease is alive"
    );
    assert!(alive.receiver().try_iter().all(|renewal| renewal.is_ok()));
    let (steps, quiet_puts) = (steps.load(SeqCst), quiet_puts.load(SeqCst));
    assert!(steps > 20 && puts.load(SeqCst) > 20 && quiet_puts >= 2);
    (authentications(etcd) - before, steps, quiet_puts)
}

/// The duration of the long tests: a few seconds, or the number that is set.
fn length() -> Duration {
    let asked = std::env::var("ETCD_BLOCKING_AUTH_SECONDS").ok();
    Duration::from_secs(asked.and_then(|text| text.parse().ok()).unwrap_or(9))
}

// Fault: F19
#[test]
fn nothing_fails_while_tokens_expire_and_users_and_roles_change() {
    if denies_root() {
        return;
    }
    let etcd = etcd(&["--auth-token-ttl=2"]);
    let (checks, steps, quiet) = work_while_users_change(&etcd, length());
    println!("{checks} authentications, {steps} changes, {quiet} expiries");
    // The busy client and root use their tokens continuously; that of the quiet client expires before each
    // of its puts but the first.
    assert!(
        checks <= quiet,
        "{checks} authentications for {quiet} expiries"
    );
}

// Case: A-09
#[test]
fn calls_at_the_moment_of_a_change_of_users_do_not_fail() {
    if denies_root() {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Raise(&over);
        let changes = scope.spawn(|| {
            let mut steps = 0;
            for n in 0..60 {
                let role = format!("r{n}");
                root.auth().role_add(&role).unwrap();
                root.auth().user_grant_role("alice", &role).unwrap();
                root.auth().user_revoke_role("alice", &role).unwrap();
                steps += 3;
            }
            over.store(true, SeqCst);
            steps
        });
        for n in 0..4 {
            let (alice, over) = (&alice, &over);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    alice.put(format!("app/{n}"), "x").unwrap();
                    alice.get_prefix("app/").unwrap();
                }
            });
        }
        assert_eq!(changes.join().unwrap(), 180);
    });
}

#[test]
fn a_client_with_a_token_and_no_password_fails_after_the_token_is_invalid() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let token = root
        .call(etcd_blocking::auth::Authenticate::new("alice", "alice-pw"))
        .unwrap();
    let client = builder(&etcd).token(token.token()).connect().unwrap();
    client.put("app/k", "v").unwrap();
    let watch = client.watch("app/k").unwrap();
    invalidate_tokens_of_alice(&root);
    let error = fails(client.put("app/k", "v"), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("invalid auth token"), "{error}");
    fails(client.watch("app/x"), ErrorKind::Unauthenticated);
    let last = watch.receiver().recv_timeout(LONG).unwrap();
    fails(last, ErrorKind::Unauthenticated);
}

/// etcd answers with a text for which its API has no code.
// Fault: N8
#[test]
fn a_password_for_a_user_without_password_is_refused_with_one_request() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    root.call(UserAdd::no_password("bare")).unwrap();
    root.auth().user_grant_role("bare", "app").unwrap();
    let before = authentications(&etcd);
    let bare = user(&etcd, "bare");
    let text = "password was given for no password user";
    let refused = [
        fails(bare.put("app/k", "v"), ErrorKind::Unauthenticated),
        fails(bare.get("app/k"), ErrorKind::Unauthenticated),
        fails(bare.watch("app/k"), ErrorKind::Unauthenticated),
    ];
    for error in refused {
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().contains("bare"), "{error}");
        assert!(!error.outcome_unknown() && !error.is_retryable(), "{error}");
        assert!(error.elapsed() < LONG / 4, "at once: {error:?}");
    }
    assert_eq!(authentications(&etcd) - before, 1);
}

//! A zone whose instances are ejected or out of service.

use super::super::super::stable_hash::{fraction, mix};
use super::*;

/// A pool whose own zone is `a`, with instances of weight 1 numbered from 0: first those of `a`, then those of `b`.
fn zones(balance: Balance, near: usize, far: usize) -> Pool {
    let settings = BalanceSettings {
        zone: Some("a".to_owned()),
        ..balanced(balance)
    };
    let mut pool = Pool::new(settings, 5);
    for n in 0..near + far {
        put(&mut pool, zoned(n, if n < near { "a" } else { "b" }));
    }
    pool.updated(Instant::now());
    pool
}

fn zoned(n: usize, zone: &str) -> Instance {
    Instance::new("web", "a:1").id(n.to_string()).zone(zone)
}

fn out_of_service(pool: &mut Pool, n: usize) {
    put(pool, zoned(n, "a").status(Status::OutOfService));
}

#[test]
fn ejected_instances_are_missed_as_those_out_of_service_are() {
    for balance in BALANCES {
        for (ejected, away, near) in [(1, 0, 1000), (2, 0, 840), (1, 1, 840), (2, 1, 560)] {
            let now = Instant::now();
            let mut pool = zones(balance, 5, 5);
            for n in 0..ejected {
                eject(&mut pool, n, now);
            }
            for n in 0..away {
                out_of_service(&mut pool, ejected + n);
            }
            let mut counts = 0;
            for _ in 0..1000 {
                let request = Request {
                    now: Some(now),
                    ..Request::default()
                };
                let picked = pool.pick(request).unwrap();
                counts += usize::from(picked.zone == "a");
            }
            let off = counts.abs_diff(near);
            assert!(off <= 1, "{balance:?}, {ejected} and {away}: {counts}");
        }
    }
}

#[test]
fn a_zone_alone_gets_the_calls_of_the_others_by_its_balance() {
    let mut pool = zones(Balance::RoundRobin, 6, 0);
    for n in 2..6 {
        out_of_service(&mut pool, n);
    }
    assert_eq!(pick_counts(&mut pool, 6, 100)[..2], [50, 50]);
}

#[test]
fn a_zone_that_returns_has_its_share_from_the_first_call() {
    let mut pool = zones(Balance::RoundRobin, 4, 4);
    for n in 0..4 {
        out_of_service(&mut pool, n);
    }
    assert_eq!(pick_counts(&mut pool, 8, 3)[..4], [0; 4]);
    put(&mut pool, zoned(0, "a"));
    put(&mut pool, zoned(1, "a"));
    // The others have 30 % of the calls, which is one at the fourth call.
    let zones: String = (0..4)
        .map(|_| pool.pick(Request::default()).unwrap().zone.clone())
        .collect();
    assert_eq!(zones, "aaab");
}

#[test]
fn the_keys_that_leave_the_zone_never_change() {
    let mut pool = zones(Balance::Rendezvous, 4, 4);
    out_of_service(&mut pool, 0);
    out_of_service(&mut pool, 1);
    for key in (0..500u64).map(|n| stable_hash(&n.to_le_bytes())) {
        let request = Request {
            key: Some(key),
            ..Request::default()
        };
        let leaves = fraction(mix(key ^ 0x9E37_79B9_7F4A_7C15)) >= 0.7;
        let zone = &pool.pick(request).unwrap().zone;
        assert_eq!(zone, if leaves { "b" } else { "a" });
    }
}

#[test]
fn an_instance_of_another_zone_has_its_trial_when_calls_leave_the_zone() {
    for balance in BALANCES {
        let now = Instant::now();
        let mut pool = zones(balance, 4, 4);
        eject(&mut pool, 4, now);
        let due = now + Duration::from_secs(6);
        let calls = |pool: &mut Pool| -> Vec<usize> {
            let all = (0..20).map(|_| pool.acquire(counted(due)).unwrap());
            let all: Vec<_> = all.collect();
            for (position, _) in &all {
                pool.ended(*position, CallEnd::Dropped, due);
            }
            all.iter().map(|(_, instance)| number(instance)).collect()
        };
        let numbers = calls(&mut pool);
        assert!(numbers.iter().all(|n| *n < 4), "{balance:?}: {numbers:?}");
        out_of_service(&mut pool, 0);
        out_of_service(&mut pool, 1);
        assert_eq!(calls(&mut pool)[0], 4, "{balance:?}");
    }
}

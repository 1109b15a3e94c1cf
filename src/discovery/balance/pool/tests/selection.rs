//! Filters, zones and subsets.

use super::*;
use crate::discovery::balance::filter::Filter;

fn zoned(id: usize, zone: &str) -> Instance {
    Instance::new("web", "a:1").id(id.to_string()).zone(zone)
}

fn in_zone(balance: Balance) -> BalanceSettings {
    BalanceSettings {
        zone: Some("a".to_owned()),
        ..balanced(balance)
    }
}

#[test]
fn only_instances_that_match_the_filter_are_picked() {
    for balance in BALANCES {
        let settings = BalanceSettings {
            filter: Arc::new(Filter::new().tag("gpu").version("2")),
            ..balanced(balance)
        };
        let mut pool = Pool::new(settings, 1);
        for n in 0..9 {
            let instance = zoned(n, "").version(format!("{}.0", n % 3));
            let instance = if n > 4 { instance.tag("gpu") } else { instance };
            put(&mut pool, instance);
        }
        assert_eq!(pool.len(), 2);
        let counts = pick_counts(&mut pool, 9, 100);
        assert!(counts[5] > 0 && counts[8] > 0 && counts[5] + counts[8] == 100);
        // An update that does not match any more is a removal.
        put(&mut pool, zoned(8, "").version("3.0").tag("gpu"));
        assert_eq!(pick_counts(&mut pool, 9, 100)[5], 100);
    }
}

#[test]
fn calls_stay_in_the_zone_while_it_can_serve_them() {
    for balance in BALANCES {
        let mut pool = Pool::new(in_zone(balance), 1);
        for n in 0..8 {
            put(&mut pool, zoned(n, if n < 4 { "a" } else { "b" }));
        }
        let near = |pool: &mut Pool| pick_counts(pool, 8, 1000)[..4].iter().sum::<usize>();
        assert_eq!(near(&mut pool), 1000, "{balance:?}");
        // Three of four are more than 72 %.
        put(&mut pool, zoned(0, "a").status(Status::Maintenance));
        assert_eq!(near(&mut pool), 1000);
        put(&mut pool, zoned(1, "a").status(Status::OutOfService));
        let half = near(&mut pool);
        assert!((699..=701).contains(&half), "70 % of the calls, not {half}");
        // One that is about to leave is not missed, and neither is one that left.
        put(&mut pool, zoned(0, "a").status(Status::Draining));
        remove(&mut pool, "1");
        assert_eq!(near(&mut pool), 1000);
        for n in 0..4 {
            remove(&mut pool, &n.to_string());
        }
        assert_eq!(near(&mut pool), 0);
        put(&mut pool, zoned(2, "a"));
        for n in 4..8 {
            put(&mut pool, zoned(n, "a"));
        }
        let one_of_five = near(&mut pool);
        assert!(
            (130..270).contains(&one_of_five),
            "{balance:?}: {one_of_five}"
        );
    }
}

#[test]
fn a_zone_without_others_gets_all_calls() {
    let mut pool = Pool::new(in_zone(Balance::Weighted), 1);
    put(&mut pool, zoned(0, "a"));
    for n in 1..5 {
        put(&mut pool, zoned(n, "a").status(Status::OutOfService));
    }
    assert_eq!(pick_counts(&mut pool, 5, 100)[0], 100);
}

#[test]
fn the_same_keys_leave_the_zone_each_time() {
    let mut pool = Pool::new(in_zone(Balance::Rendezvous), 1);
    for n in 0..8 {
        put(&mut pool, zoned(n, if n < 4 { "a" } else { "b" }));
    }
    put(&mut pool, zoned(0, "a").status(Status::OutOfService));
    put(&mut pool, zoned(1, "a").status(Status::OutOfService));
    let mut left = 0;
    for key in 0..1000u64 {
        let key = Some(stable_hash(&key.to_le_bytes()));
        let request = Request {
            key,
            ..Request::default()
        };
        let first = pool.pick(request);
        assert_eq!(pool.pick(request), first);
        left += usize::from(first.unwrap().zone == "b");
    }
    assert!((240..360).contains(&left), "{left} and not about 300");
}

#[test]
fn a_subset_has_some_of_the_instances_and_one_is_exchanged_when_one_leaves() {
    for balance in BALANCES {
        let settings = BalanceSettings {
            subset: Some((5, "client-1".to_owned())),
            ..balanced(balance)
        };
        let mut pool = filled(settings, &[1; 50]);
        let used = |pool: &mut Pool| {
            let counts = pick_counts(pool, 50, 500);
            (0..50)
                .filter(|n| counts[*n] > 0)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let before = used(&mut pool);
        assert_eq!((before.len(), pool.len()), (5, 5));
        let first = *before.first().unwrap();
        remove(&mut pool, &first.to_string());
        let after = used(&mut pool);
        assert_eq!((after.len(), before.intersection(&after).count()), (5, 4));
        // The same again in another order, for another start of the client.
        put(&mut pool, zoned(first, ""));
        assert_eq!(used(&mut pool), before);
    }
}

#[test]
fn a_subset_has_its_size_in_the_own_zone_and_in_the_others() {
    let settings = BalanceSettings {
        subset: Some((3, "client-1".to_owned())),
        ..in_zone(Balance::RoundRobin)
    };
    let mut pool = Pool::new(settings, 1);
    for n in 0..20 {
        put(&mut pool, zoned(n, if n < 10 { "a" } else { "b" }));
    }
    assert_eq!(pool.len(), 6);
    // Whatever moves between the zones, both keep their size.
    for n in 0..20 {
        put(&mut pool, zoned(n, if n % 2 == 0 { "b" } else { "a" }));
        assert_eq!(pool.len(), 6);
    }
    let counts = pick_counts(&mut pool, 20, 99);
    assert_eq!(counts.iter().filter(|count| **count == 33).count(), 3);
    assert!((0..20).all(|n| counts[n] == 0 || n % 2 == 1), "{counts:?}");
}

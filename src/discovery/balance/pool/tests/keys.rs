//! Keys, and the bound of the calls in flight.

use proptest::prelude::*;

use super::super::super::stable_hash::mix;
use super::super::super::tier::Order;
use super::*;

fn keyed(key: usize) -> Request<'static> {
    Request {
        key: Some(stable_hash(format!("user-{key}").as_bytes())),
        ..Request::default()
    }
}

#[test]
fn under_2_percent_of_keys_move_when_one_of_100_instances_leaves() {
    let mut pool = filled(balanced(Balance::Rendezvous), &[1; 100]);
    let owners = |pool: &mut Pool| -> Vec<usize> {
        let owner = |key| number(&pool.pick(keyed(key)).unwrap());
        (0..5_000).map(owner).collect()
    };
    let before = owners(&mut pool);
    let mut most = 0;
    for leaving in (0..100).step_by(7) {
        remove(&mut pool, &leaving.to_string());
        let after = owners(&mut pool);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(was, is)| was != is)
            .count();
        most = most.max(moved);
        assert!(!after.contains(&leaving));
        put(
            &mut pool,
            Instance::new("web", "a:1").id(leaving.to_string()),
        );
    }
    assert!(most < 5_000 * 2 / 100, "{most}");
    assert!(owners(&mut pool) == before);
}

#[test]
fn two_programs_choose_the_same_instance_for_a_key() {
    let ids: Vec<_> = (0..300).collect();
    let fill = |ids: &mut dyn Iterator<Item = &usize>| {
        let mut pool = Pool::new(balanced(Balance::Rendezvous), ids.size_hint().0 as u64);
        for id in ids {
            put(&mut pool, Instance::new("web", "a:1").id(id.to_string()));
        }
        pool
    };
    let (mut one, mut other) = (fill(&mut ids.iter()), fill(&mut ids.iter().rev()));
    for key in 0..2000 {
        assert_eq!(one.pick(keyed(key)), other.pick(keyed(key)));
    }
}

#[test]
fn a_key_has_no_effect_with_other_balances() {
    for balance in [Balance::RoundRobin, Balance::Weighted] {
        let mut pool = filled(balanced(balance), &[1; 4]);
        let mut picked: Vec<_> = (0..4)
            .map(|_| number(&pool.pick(keyed(1)).unwrap()))
            .collect();
        picked.sort_unstable();
        assert_eq!(picked, [0, 1, 2, 3]);
    }
}

#[test]
fn a_key_keeps_its_instance_while_that_has_room() {
    let now = Instant::now();
    let mut pool = filled(balanced(Balance::Rendezvous), &[1; 10]);
    let owner = number(&pool.pick(keyed(5)).unwrap());
    for _ in 0..100 {
        let request = Request {
            key: keyed(5).key,
            ..counted(now)
        };
        let (position, instance) = pool.acquire(request).unwrap();
        assert_eq!(number(&instance), owner);
        pool.ended(position, CallEnd::Succeeded(ms(1)), now);
    }
}

/// The slot of each hash that a key has, the first one first.
fn draws(pool: &mut Pool, key: u64) -> Vec<usize> {
    let hashes = (0..8u64).map(|n| match n {
        0 => key,
        n => mix(key.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
    });
    let Order::ByKey(_, table) = pool.tiers[0].order() else {
        panic!("no table");
    };
    hashes.map(|hash| table.find(hash).unwrap()).collect()
}

#[test]
fn a_retry_of_a_key_is_sent_to_the_instance_of_its_next_hash() {
    let now = Instant::now();
    let mut pool = filled(balanced(Balance::Rendezvous), &[1, 2, 3, 1, 2, 3]);
    for n in 0..200 {
        let key = keyed(n).key.unwrap();
        let draws = draws(&mut pool, key);
        let mut tried = Vec::new();
        // The eight hashes of a key seldom have all instances.
        while let Some(next) = draws.iter().find(|slot| {
            let is_next = |tried: &Position| tried.slot == **slot;
            !tried.iter().any(is_next)
        }) {
            let request = Request {
                key: Some(key),
                tried: &tried,
                ..counted(now)
            };
            let (position, _) = pool.acquire(request).unwrap();
            assert_eq!(position.slot, *next, "key {n} after {tried:?}");
            pool.ended(position, CallEnd::Dropped, now);
            tried.push(position);
        }
    }
}

#[test]
fn an_instance_on_trial_gets_calls_of_its_own_keys_only() {
    let now = Instant::now();
    let mut pool = filled(balanced(Balance::Rendezvous), &[1; 10]);
    let keys: Vec<u64> = (0..200).map(|n| keyed(n).key.unwrap()).collect();
    let (own, others): (Vec<u64>, Vec<u64>) =
        keys.iter().partition(|key| draws(&mut pool, **key)[0] == 0);
    eject(&mut pool, 0, now);
    let due = now + Duration::from_secs(6);
    let mut call = |key: u64| {
        let request = Request {
            key: Some(key),
            ..counted(due)
        };
        let (position, instance) = pool.acquire(request).unwrap();
        pool.ended(position, CallEnd::Succeeded(ms(0)), due);
        number(&instance)
    };
    assert!(others.iter().all(|key| call(*key) != 0));
    assert!(own.len() > 5 && own.iter().all(|key| call(*key) == 0));
}

#[test]
fn a_call_that_met_an_instance_before_is_not_its_trial() {
    for balance in BALANCES {
        let now = Instant::now();
        let mut pool = filled(balanced(balance), &[1; 10]);
        let tried = [position(&pool, 0)];
        eject(&mut pool, 0, now);
        let due = now + Duration::from_secs(6);
        let again = Request {
            tried: &tried,
            ..counted(due)
        };
        let (_, instance) = pool.acquire(again).unwrap();
        assert_ne!(number(&instance), 0, "{balance:?}");
        let (_, instance) = pool.acquire(counted(due)).unwrap();
        assert_eq!(number(&instance), 0, "{balance:?}");
    }
}

#[test]
fn keys_follow_the_id_and_the_weight_of_an_instance() {
    let key = Bytes::from_static(b"0");
    let rest = [1, 2, 3];
    let owners = |pool: &mut Pool| -> Vec<_> {
        let owner = |n| pool.pick(keyed(n)).unwrap().id.clone();
        (0..500).map(owner).collect()
    };
    let mut changed = filled(balanced(Balance::Rendezvous), &rest);
    // The same, another weight, another id, both, and the first one again.
    for (id, weight) in [("0", 1), ("0", 4), ("new", 4), ("newer", 2), ("0", 1)] {
        changed.update(&key, Some(&instance(id, weight)));
        let mut fresh = Pool::new(balanced(Balance::Rendezvous), 1);
        fresh.update(&key, Some(&instance(id, weight)));
        for (n, weight) in rest.iter().enumerate().skip(1) {
            put(&mut fresh, (*instance(&n.to_string(), *weight)).clone());
        }
        assert!(owners(&mut changed) == owners(&mut fresh), "{id} {weight}");
    }
}

proptest! {
    /// After each call that begins, its instance has at most 1.25 times its share of all calls, rounded up.
    #[test]
    fn the_bound_of_the_load_holds(
        weights in proptest::collection::vec(1u32..5, 1..12),
        keys in proptest::collection::vec(0usize..4, 1..300),
    ) {
        let now = Instant::now();
        let mut pool = filled(balanced(Balance::Rendezvous), &weights);
        let total: u32 = weights.iter().sum();
        let mut open = Vec::new();
        let mut loads = vec![0u32; weights.len()];
        for (n, key) in keys.into_iter().enumerate() {
            let request = Request { key: keyed(key).key, ..counted(now) };
            let (position, instance) = pool.acquire(request).unwrap();
            let chosen = number(&instance);
            open.push((position, chosen));
            loads[chosen] += 1;
            let share = f64::from(weights[chosen]) / f64::from(total);
            let bound = (1.25 * open.len() as f64 * share).ceil() as u32;
            prop_assert!(loads[chosen] <= bound, "{loads:?} by {weights:?}");
            if n % 3 == 0 {
                let (position, ended) = open.swap_remove(n % open.len());
                loads[ended] -= 1;
                pool.ended(position, CallEnd::Succeeded(ms(1)), now);
            }
        }
    }
}

//! Keys, and the bound of the calls in flight.

use proptest::prelude::*;

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

//! What the balances `Weighted` and `RoundRobin` promise, for whole instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Pool, Request};
use super::instance;
use crate::discovery::balance::balance::Balance;
use crate::discovery::balance::settings::BalanceSettings;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

fn pool(balance: Balance) -> Pool {
    let settings = BalanceSettings {
        balance,
        ..BalanceSettings::default()
    };
    Pool::new(settings, 1)
}

fn pick(pool: &mut Pool) -> Option<Arc<Instance>> {
    pool.pick(Request::default())
}

fn set(schedule: &mut Pool, id: &str, weight: u32) {
    let key = Bytes::copy_from_slice(id.as_bytes());
    schedule.update(&key, Some(&instance(id, weight)));
}

fn remove(schedule: &mut Pool, id: &str) {
    schedule.update(&Bytes::copy_from_slice(id.as_bytes()), None);
}

fn filled(balance: Balance, weights: &[(&str, u32)]) -> Pool {
    let mut schedule = pool(balance);
    for (id, weight) in weights {
        set(&mut schedule, id, *weight);
    }
    schedule
}

fn picks(schedule: &mut Pool, count: usize) -> String {
    (0..count)
        .map(|_| pick(schedule).unwrap().id.clone())
        .collect()
}

fn counts(picks: &str) -> BTreeMap<char, usize> {
    picks.chars().fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

#[test]
fn round_robin_ignores_weights() {
    let weights = [("a", 1), ("b", 100), ("z", 0), ("c", 1)];
    let mut schedule = filled(Balance::RoundRobin, &weights);
    assert_eq!(picks(&mut schedule, 9), "abcabcabc");
    set(&mut schedule, "d", 1);
    assert_eq!(picks(&mut schedule, 8), "abcdabcd");
    remove(&mut schedule, "b");
    assert_eq!(picks(&mut schedule, 6), "acdacd");
}

#[test]
fn a_round_keeps_its_order_wherever_new_instances_are_kept() {
    let mut schedule = filled(Balance::RoundRobin, &[("a", 1), ("b", 1), ("c", 1)]);
    assert_eq!(picks(&mut schedule, 3), "abc");
    // The new one has the slot of the first.
    remove(&mut schedule, "a");
    set(&mut schedule, "d", 1);
    assert_eq!(picks(&mut schedule, 9), "bcdbcdbcd");
}

#[test]
fn weighted_picks_are_exact_and_interleaved() {
    let weights = [("a", 5), ("b", 1), ("z", 0), ("c", 1)];
    let mut schedule = filled(Balance::Weighted, &weights);
    for _ in 0..10 {
        let picked = picks(&mut schedule, 7);
        assert_eq!(
            counts(&picked),
            BTreeMap::from([('a', 5), ('b', 1), ('c', 1)])
        );
        assert!(!picked.contains("aaaaa"), "{picked}");
    }
    let picked = picks(&mut schedule, 70);
    assert!(!picked.contains("aaaaa"), "{picked}");
}

#[test]
fn weighted_picks_with_equal_weights_go_round() {
    let weights = [("a", 3), ("b", 3), ("c", 3), ("d", 3)];
    let mut schedule = filled(Balance::Weighted, &weights);
    let round = picks(&mut schedule, 4);
    assert_eq!(counts(&round).len(), 4, "{round}");
    assert_eq!(picks(&mut schedule, 8), format!("{round}{round}"));
}

#[test]
fn weighted_counts_are_exact_for_the_largest_weights() {
    let weights = [("a", u32::MAX), ("b", u32::MAX), ("c", u32::MAX)];
    let mut schedule = filled(Balance::Weighted, &weights);
    let expected = BTreeMap::from([('a', 1000), ('b', 1000), ('c', 1000)]);
    assert_eq!(counts(&picks(&mut schedule, 3000)), expected);
}

#[test]
fn an_update_keeps_the_position_of_the_instance() {
    let weights = [("a", 1), ("b", 1), ("c", 2)];
    let mut schedule = filled(Balance::Weighted, &weights);
    let mut picked = String::new();
    for n in 0..12 {
        for (id, weight) in weights {
            let key = Bytes::copy_from_slice(id.as_bytes());
            let updated = (*instance(id, weight)).clone().meta("n", n.to_string());
            schedule.update(&key, Some(&Arc::new(updated)));
        }
        let next = pick(&mut schedule).unwrap();
        assert_eq!(next.meta["n"], n.to_string(), "the newest is picked");
        picked += &next.id;
    }
    let expected = BTreeMap::from([('a', 3), ('b', 3), ('c', 6)]);
    assert_eq!(counts(&picked), expected);
}

#[test]
fn the_removal_of_a_heavy_instance_does_not_skew_the_others() {
    let weights = [("a", 1000), ("b", 1), ("c", 1)];
    let mut schedule = filled(Balance::Weighted, &weights);
    picks(&mut schedule, 500);
    remove(&mut schedule, "a");
    let counts = counts(&picks(&mut schedule, 20));
    assert_eq!(counts, BTreeMap::from([('b', 10), ('c', 10)]));
}

#[test]
fn a_changed_weight_applies_to_the_next_picks() {
    let mut schedule = filled(Balance::Weighted, &[("a", 1), ("b", 1)]);
    picks(&mut schedule, 100);
    set(&mut schedule, "a", u32::MAX);
    assert_eq!(
        counts(&picks(&mut schedule, 100)),
        BTreeMap::from([('a', 100)])
    );
    set(&mut schedule, "a", 1);
    let counts = counts(&picks(&mut schedule, 100));
    assert!(counts[&'a'].abs_diff(counts[&'b']) <= 1, "{counts:?}");
}

#[test]
fn nothing_is_picked_without_pickable_instances() {
    for balance in [Balance::RoundRobin, Balance::Weighted] {
        let mut schedule = filled(balance, &[("zero", 0)]);
        for status in [Status::Starting, Status::Draining, Status::OutOfService] {
            let instance = Arc::new(Instance::new("web", status).status(status));
            schedule.update(&Bytes::from(status.to_string()), Some(&instance));
        }
        assert_eq!(pick(&mut schedule), None);
        set(&mut schedule, "a", 1);
        assert_eq!(picks(&mut schedule, 2), "aa");
        set(&mut schedule, "a", 0);
        assert_eq!(pick(&mut schedule), None);
    }
}

proptest! {
    /// Between two changes each instance gets its share, to within one call of each of the others.
    #[test]
    fn each_instance_is_picked_in_proportion_to_its_weight(
        weights in proptest::collection::vec(0u32..6, 1..8),
        changes in proptest::collection::vec((0usize..8, 0u32..6), 0..20),
    ) {
        let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut now = BTreeMap::new();
        let mut schedule = pool(Balance::Weighted);
        let first = weights.iter().copied().enumerate();
        for (n, weight) in first.chain(changes) {
            set(&mut schedule, ids[n], weight);
            now.insert(ids[n], weight);
            let total: u32 = now.values().sum();
            if total == 0 {
                prop_assert_eq!(pick(&mut schedule), None);
                continue;
            }
            let rounds = 3;
            let counts = counts(&picks(&mut schedule, (rounds * total) as usize));
            for (id, weight) in &now {
                let got = counts.get(&id.chars().next().unwrap()).copied().unwrap_or(0);
                let share = (rounds * weight) as usize;
                prop_assert!(got.abs_diff(share) <= 1 + now.len(), "{counts:?} of {now:?}");
                prop_assert!(*weight > 0 || got == 0);
            }
        }
    }
}

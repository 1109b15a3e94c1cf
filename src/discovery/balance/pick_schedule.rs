//! Decides which instance gets the next call: the one with the earliest deadline. Pure.
//!
//! Each pick moves virtual time to the deadline of the instance that is picked, and its next deadline
//! is one stride later: the inverse of its weight. A pick and a change take logarithmic time in the
//! number of instances, and no change touches another instance.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::balance::Balance;
use crate::discovery::instance::Instance;

/// The stride of weight 1. Virtual time has 128 bits, and so does not overflow.
const STRIDE: u128 = 1 << 64;

/// The fractions of multiples of the golden ratio, of which this is one in 64 bits, are spread evenly
/// for any number of them.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The order of picks among the instances of one view.
#[derive(Debug)]
pub(super) struct PickSchedule {
    balance: Balance,
    /// The deadlines, including outdated ones of instances that left or have another one now.
    deadlines: BinaryHeap<Reverse<Deadline>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_key: HashMap<Bytes, usize>,
    now: u128,
    /// Counts the deadlines. Of two equal deadlines the one with the lower number comes first.
    given: u64,
    joined: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: u128,
    number: u64,
    slot: usize,
}

#[derive(Debug)]
struct Slot {
    /// `None` when the slot is free.
    instance: Option<Arc<Instance>>,
    stride: u128,
    /// The current deadline.
    at: u128,
    number: u64,
}

impl PickSchedule {
    pub(super) fn new(balance: Balance) -> Self {
        PickSchedule {
            balance,
            deadlines: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            now: 0,
            given: 0,
            joined: 0,
        }
    }

    /// The next instance, or `None` when none accepts calls.
    pub(super) fn pick(&mut self) -> Option<Arc<Instance>> {
        loop {
            let mut first = self.deadlines.peek_mut()?;
            let Deadline { at, number, slot } = first.0;
            let valid = self.slots.get_mut(slot);
            let Some(slot) = valid.filter(|slot| slot.number == number) else {
                // The instance was removed or changed after this entry was made.
                PeekMut::pop(first);
                continue;
            };
            self.now = at;
            self.given += 1;
            // Stride scheduling: an instance of twice the weight is due twice as often.
            slot.at = at + slot.stride;
            slot.number = self.given;
            // Dropping `first` restores the order of the heap.
            first.0.at = slot.at;
            first.0.number = slot.number;
            return slot.instance.clone();
        }
    }

    /// Sets the instance of a key, or removes it.
    pub(super) fn update(&mut self, key: &Bytes, instance: Option<&Arc<Instance>>) {
        let instance = instance.filter(|instance| instance.is_pickable());
        match (self.by_key.get(key).copied(), instance) {
            (None, None) => {}
            (None, Some(instance)) => self.join(key, instance),
            (Some(slot), None) => self.leave(key, slot),
            (Some(slot), Some(instance)) => self.change(slot, instance),
        }
    }

    fn stride(&self, instance: &Instance) -> u128 {
        match self.balance {
            Balance::RoundRobin => STRIDE,
            Balance::Weighted => STRIDE / u128::from(instance.weight.max(1)),
        }
    }

    fn join(&mut self, key: &Bytes, instance: &Arc<Instance>) {
        let stride = self.stride(instance);
        let wait = match self.balance {
            // A new instance is picked after all others of the round.
            Balance::RoundRobin => stride,
            // Spread over the stride, so that instances that join together are not picked together.
            Balance::Weighted => (stride * u128::from(self.joined.wrapping_mul(GOLDEN))) >> 64,
        };
        self.joined = self.joined.wrapping_add(1);
        let joined = Slot {
            instance: Some(Arc::clone(instance)),
            stride,
            at: 0,
            number: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.slots.len(),
        };
        match self.slots.get_mut(slot) {
            Some(free) => *free = joined,
            None => self.slots.push(joined),
        }
        self.by_key.insert(key.clone(), slot);
        self.set_deadline(slot, self.now + wait);
    }

    fn leave(&mut self, key: &Bytes, slot: usize) {
        self.by_key.remove(key);
        if let Some(left) = self.slots.get_mut(slot) {
            left.instance = None;
            // Numbers begin with 1, so the entry in the heap is invalid now.
            left.number = 0;
        }
        self.free.push(slot);
        self.drop_invalid();
    }

    fn change(&mut self, slot: usize, instance: &Arc<Instance>) {
        let stride = self.stride(instance);
        let now = self.now;
        let Some(changed) = self.slots.get_mut(slot) else {
            return;
        };
        changed.instance = Some(Arc::clone(instance));
        // The deadline depends on the weight only.
        if changed.stride == stride {
            return;
        }
        // What is left to wait keeps its part of the stride, which is at most 1. The product of two
        // strides may take 129 bits.
        let left = changed.at.saturating_sub(now).min(changed.stride) >> 1;
        let left = (left * stride / changed.stride) << 1;
        changed.stride = stride;
        self.set_deadline(slot, now + left);
        self.drop_invalid();
    }

    fn set_deadline(&mut self, slot: usize, at: u128) {
        self.given += 1;
        if let Some(set) = self.slots.get_mut(slot) {
            set.at = at;
            set.number = self.given;
        }
        let number = self.given;
        self.deadlines.push(Reverse(Deadline { at, number, slot }));
    }

    /// Keeps the heap within twice the number of instances.
    fn drop_invalid(&mut self) {
        // Removed only when they are the majority, so the cost of an update is constant on average.
        if self.deadlines.len() > 2 * self.by_key.len() + 64 {
            let slots = &self.slots;
            self.deadlines.retain(|Reverse(deadline)| {
                let slot = slots.get(deadline.slot);
                slot.is_some_and(|slot| slot.number == deadline.number)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::discovery::Status;

    fn instance(id: &str, weight: u32) -> Arc<Instance> {
        Arc::new(Instance::new("web", "a:1").id(id).weight(weight))
    }

    fn set(schedule: &mut PickSchedule, id: &str, weight: u32) {
        let key = Bytes::copy_from_slice(id.as_bytes());
        schedule.update(&key, Some(&instance(id, weight)));
    }

    fn remove(schedule: &mut PickSchedule, id: &str) {
        schedule.update(&Bytes::copy_from_slice(id.as_bytes()), None);
    }

    fn schedule(balance: Balance, weights: &[(&str, u32)]) -> PickSchedule {
        let mut schedule = PickSchedule::new(balance);
        for (id, weight) in weights {
            set(&mut schedule, id, *weight);
        }
        schedule
    }

    fn picks(schedule: &mut PickSchedule, count: usize) -> String {
        (0..count)
            .map(|_| schedule.pick().unwrap().id.clone())
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
        let mut schedule = schedule(Balance::RoundRobin, &weights);
        assert_eq!(picks(&mut schedule, 9), "abcabcabc");
        set(&mut schedule, "d", 1);
        assert_eq!(picks(&mut schedule, 8), "abcdabcd");
        remove(&mut schedule, "b");
        assert_eq!(picks(&mut schedule, 6), "acdacd");
    }

    #[test]
    fn weighted_picks_are_exact_and_interleaved() {
        let weights = [("a", 5), ("b", 1), ("z", 0), ("c", 1)];
        let mut schedule = schedule(Balance::Weighted, &weights);
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
        let mut schedule = schedule(Balance::Weighted, &weights);
        let round = picks(&mut schedule, 4);
        assert_eq!(counts(&round).len(), 4, "{round}");
        assert_eq!(picks(&mut schedule, 8), format!("{round}{round}"));
    }

    #[test]
    fn weighted_counts_are_exact_for_the_largest_weights() {
        let weights = [("a", u32::MAX), ("b", u32::MAX), ("c", u32::MAX)];
        let mut schedule = schedule(Balance::Weighted, &weights);
        let expected = BTreeMap::from([('a', 1000), ('b', 1000), ('c', 1000)]);
        assert_eq!(counts(&picks(&mut schedule, 3000)), expected);
    }

    #[test]
    fn an_update_keeps_the_position_of_the_instance() {
        let weights = [("a", 1), ("b", 1), ("c", 2)];
        let mut schedule = schedule(Balance::Weighted, &weights);
        let mut picked = String::new();
        for n in 0..12 {
            for (id, weight) in weights {
                let key = Bytes::copy_from_slice(id.as_bytes());
                let updated = (*instance(id, weight)).clone().meta("n", n.to_string());
                schedule.update(&key, Some(&Arc::new(updated)));
            }
            let next = schedule.pick().unwrap();
            assert_eq!(next.meta["n"], n.to_string(), "the newest is picked");
            picked += &next.id;
        }
        let expected = BTreeMap::from([('a', 3), ('b', 3), ('c', 6)]);
        assert_eq!(counts(&picked), expected);
    }

    #[test]
    fn the_removal_of_a_heavy_instance_does_not_skew_the_others() {
        let weights = [("a", 1000), ("b", 1), ("c", 1)];
        let mut schedule = schedule(Balance::Weighted, &weights);
        picks(&mut schedule, 500);
        remove(&mut schedule, "a");
        let counts = counts(&picks(&mut schedule, 20));
        assert_eq!(counts, BTreeMap::from([('b', 10), ('c', 10)]));
    }

    #[test]
    fn a_changed_weight_applies_to_the_next_picks() {
        let mut schedule = schedule(Balance::Weighted, &[("a", 1), ("b", 1)]);
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
            let mut schedule = schedule(balance, &[("zero", 0)]);
            for status in [Status::Starting, Status::Draining, Status::OutOfService] {
                let instance = Arc::new(Instance::new("web", status).status(status));
                schedule.update(&Bytes::from(status.to_string()), Some(&instance));
            }
            assert_eq!(schedule.pick(), None);
            set(&mut schedule, "a", 1);
            assert_eq!(picks(&mut schedule, 2), "aa");
            set(&mut schedule, "a", 0);
            assert_eq!(schedule.pick(), None);
        }
    }

    #[test]
    fn the_heap_stays_within_twice_the_instances() {
        let mut schedule = schedule(Balance::Weighted, &[("a", 1), ("b", 1)]);
        for n in 0..10_000 {
            set(&mut schedule, "a", 1 + n % 7);
            set(&mut schedule, "c", 1);
            remove(&mut schedule, "c");
            assert!(schedule.deadlines.len() <= 2 * 3 + 64 + 2);
        }
        assert!(schedule.slots.len() <= 3);
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
            let mut schedule = PickSchedule::new(Balance::Weighted);
            let first = weights.iter().copied().enumerate();
            for (n, weight) in first.chain(changes) {
                set(&mut schedule, ids[n], weight);
                now.insert(ids[n], weight);
                let total: u32 = now.values().sum();
                if total == 0 {
                    prop_assert_eq!(schedule.pick(), None);
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
}

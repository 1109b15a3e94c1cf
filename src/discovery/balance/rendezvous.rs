//! Rendezvous hashing in two steps: chooses an instance for a key by weight. Pure.
//!
//! In rendezvous hashing each instance has a score that depends on the key, and the best one wins. To score
//! all instances takes linear time. Here the instances are in 256 groups by the hash of their ids; the best
//! group is found first, by the weight of all its instances, and then the best instance of that group. When
//! an instance of weight w leaves, keys of a share of at most 2 w move: its own, and those that its group
//! loses with its weight.

use super::stable_hash::{fraction, mix};

/// The instances that keys are distributed to.
#[derive(Debug, Default)]
pub(super) struct Rendezvous {
    /// The candidates of the first step, in the order of the numbers of their groups.
    heads: Vec<Candidate>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    number: u8,
    weight: u64,
    /// The candidates of the second step, and their slots, in the order of the hashes.
    members: Vec<Candidate>,
    slots: Vec<(u32, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    seed: u64,
    /// The inverse of the weight.
    scale: f64,
}

impl Candidate {
    fn new(seed: u64, weight: u64) -> Self {
        let scale = 1.0 / weight.max(1) as f64;
        Candidate { seed, scale }
    }
}

/// The candidate with the lowest score, which is an exponentially distributed time: with the weight as rate,
/// each is the first with a probability in proportion to its weight.
fn best(candidates: &[Candidate], key: u64) -> Option<usize> {
    let (mut best, mut lowest) = (None, f64::INFINITY);
    for (n, candidate) in candidates.iter().enumerate() {
        let random = fraction(mix(key ^ candidate.seed));
        // The logarithm is at least this, and costs more than all the rest.
        if random * candidate.scale < lowest {
            // The subtraction is exact: a fraction has 53 bits.
            let score = -(1.0 - random).ln() * candidate.scale;
            if score < lowest {
                (best, lowest) = (Some(n), score);
            }
        }
    }
    best
}

fn group_number(id: u64) -> u8 {
    (id >> 56) as u8
}

fn group_seed(number: u8) -> u64 {
    mix(u64::from(number) + 1)
}

impl Rendezvous {
    /// Sets the weight of a slot, whose id has the hash `id`; 0 removes it.
    pub(super) fn set(&mut self, slot: usize, id: u64, weight: u32) {
        let number = group_number(id);
        let search = self
            .groups
            .binary_search_by_key(&number, |group| group.number);
        let at = match search {
            Ok(at) => at,
            Err(at) => {
                let (members, slots) = (Vec::new(), Vec::new());
                let group = Group {
                    number,
                    weight: 0,
                    members,
                    slots,
                };
                self.groups.insert(at, group);
                self.heads.insert(at, Candidate::new(group_seed(number), 1));
                at
            }
        };
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        group.set(slot, id, weight);
        if group.slots.is_empty() {
            self.groups.remove(at);
            self.heads.remove(at);
        } else if let Some(head) = self.heads.get_mut(at) {
            *head = Candidate::new(group_seed(number), group.weight);
        }
    }

    /// The slot for a key with this hash, or `None` when there is none.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let group = self.groups.get(best(&self.heads, key)?)?;
        let member = match group.slots.len() {
            1 => 0,
            _ => best(&group.members, key)?,
        };
        group.slots.get(member).map(|(_, slot)| *slot)
    }
}

impl Group {
    fn set(&mut self, slot: usize, id: u64, weight: u32) {
        if let Some(at) = self.slots.iter().position(|(_, other)| *other == slot) {
            let (before, _) = self.slots.remove(at);
            self.members.remove(at);
            self.weight -= u64::from(before);
        }
        if weight > 0 {
            // The order is the same in all programs.
            let at = self.members.partition_point(|member| member.seed < id);
            self.slots.insert(at, (weight, slot));
            self.members
                .insert(at, Candidate::new(id, u64::from(weight)));
            self.weight += u64::from(weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stable_hash::stable_hash;
    use super::*;

    fn id(n: usize) -> u64 {
        stable_hash(format!("10.0.{}.{}:8080", n / 250, n % 250).as_bytes())
    }

    fn table(instances: usize, weight: impl Fn(usize) -> u32) -> Rendezvous {
        let mut table = Rendezvous::default();
        for n in 0..instances {
            table.set(n, id(n), weight(n));
        }
        table
    }

    fn keys(count: usize) -> impl Iterator<Item = u64> {
        (0..count).map(|n| stable_hash(format!("user-{n}").as_bytes()))
    }

    fn counts(table: &Rendezvous, instances: usize, keys: impl Iterator<Item = u64>) -> Vec<usize> {
        let mut counts = vec![0; instances];
        for key in keys {
            counts[table.find(key).unwrap()] += 1;
        }
        counts
    }

    /// The choice by its definition: the group with the earliest time, and then the instance with the earliest.
    fn defined(instances: &[(u64, u32)], key: u64) -> Option<usize> {
        let time = |seed: u64, weight: f64| {
            let random = (mix(key ^ seed) >> 11) as f64 / 2f64.powi(53);
            -(1.0 - random).ln() * (1.0 / weight)
        };
        let group = |id: u64| id / 2u64.pow(56);
        let weight_of = |number: u64| -> u32 {
            let of_group = instances.iter().filter(|(id, _)| group(*id) == number);
            of_group.map(|(_, weight)| weight).sum()
        };
        let groups = (0..256).filter(|number| weight_of(*number) > 0);
        let first = groups.min_by(|a, b| {
            let time = |number: u64| time(mix(number + 1), f64::from(weight_of(number)));
            time(*a).total_cmp(&time(*b))
        })?;
        let members = (0..instances.len()).filter(|n| {
            let (id, weight) = instances[*n];
            group(id) == first && weight > 0
        });
        members.min_by(|a, b| {
            let time = |n: usize| time(instances[n].0, f64::from(instances[n].1));
            time(*a).total_cmp(&time(*b))
        })
    }

    proptest! {
        /// It must never change: programs of different versions share keys.
        #[test]
        fn a_key_has_the_instance_of_the_definition(
            weights in proptest::collection::vec(0u32..4, 1..40),
            groups in 1u64..256,
            keys in proptest::collection::vec(any::<u64>(), 20),
        ) {
            // Some groups have several instances.
            let id = |n: usize| id(n) % 2u64.pow(56) + (id(n) >> 56) % groups * 2u64.pow(56);
            let instances: Vec<_> = (weights.iter().enumerate())
                .map(|(n, weight)| (id(n), *weight))
                .collect();
            let mut table = Rendezvous::default();
            for (slot, (id, weight)) in instances.iter().enumerate() {
                table.set(slot, *id, *weight);
            }
            for key in keys {
                prop_assert_eq!(table.find(key), defined(&instances, key));
            }
        }
    }

    #[test]
    fn of_instances_with_one_id_the_last_one_gets_the_keys() {
        let mut table = table(20, |_| 1);
        let key = keys(1000).find(|key| table.find(*key) == Some(7)).unwrap();
        for slot in 20..23 {
            table.set(slot, id(7), 1);
            assert_eq!(table.find(key), Some(slot));
        }
        for (leaving, found) in [(21, 22), (22, 20), (20, 7)] {
            table.set(leaving, id(7), 0);
            assert_eq!(table.find(key), Some(found));
        }
    }

    #[test]
    fn the_members_of_a_group_are_in_the_order_of_their_hashes() {
        let mut table = table(5000, |_| 1);
        for n in (0..5000).step_by(3) {
            table.set(n, id(n), 2);
        }
        for group in &table.groups {
            assert!(group.members.len() > 2);
            assert!(group.members.is_sorted_by_key(|member| member.seed));
        }
    }

    #[test]
    fn an_empty_table_has_no_instance_for_a_key() {
        let mut table = table(3, |_| 1);
        assert!(table.find(7).is_some());
        for n in 0..3 {
            table.set(n, id(n), 0);
        }
        assert_eq!(table.find(7), None);
        assert!(table.groups.is_empty() && table.heads.is_empty());
    }

    #[test]
    fn keys_are_distributed_by_weight() {
        for instances in [1, 2, 5, 100, 1000] {
            let weight = |n: usize| 1 + n as u32 % 3;
            let table = table(instances, weight);
            let total: u32 = (0..instances).map(weight).sum();
            let keys_each = 300;
            let all = total as usize * keys_each;
            for (n, count) in counts(&table, instances, keys(all)).into_iter().enumerate() {
                let expected = f64::from(weight(n)) * keys_each as f64;
                // Six standard deviations.
                let tolerance = 6.0 * expected.sqrt();
                let off = (count as f64 - expected).abs();
                assert!(
                    off < tolerance,
                    "{n} of {instances}: {count}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn under_2_percent_of_keys_move_when_any_one_of_100_leaves_or_joins() {
        let mut table = table(100, |_| 1);
        let keys: Vec<u64> = keys(10_000).collect();
        let before: Vec<_> = keys.iter().map(|key| table.find(*key)).collect();
        for n in 0..100 {
            table.set(n, id(n), 0);
            let moved = keys.iter().zip(&before).filter(|(key, was)| {
                let now = table.find(**key);
                assert_ne!(now, Some(n));
                now != **was
            });
            let moved = moved.count();
            assert!(moved < keys.len() / 50, "{moved} of {} for {n}", keys.len());
            // An instance that joins again gets its keys back.
            table.set(n, id(n), 1);
        }
        let after: Vec<_> = keys.iter().map(|key| table.find(*key)).collect();
        assert!(before == after);
    }

    #[test]
    fn the_order_of_joins_does_not_matter() {
        let forward = table(500, |n| 1 + n as u32 % 4);
        let mut backward = Rendezvous::default();
        for n in (0..500).rev() {
            backward.set(n, id(n), 9);
            backward.set(n, id(n), 1 + n as u32 % 4);
        }
        for key in keys(5_000) {
            assert_eq!(forward.find(key), backward.find(key));
        }
    }
}

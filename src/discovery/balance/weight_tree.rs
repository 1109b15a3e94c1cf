//! Picks a slot at random in proportion to its weight, in logarithmic time. Pure.

/// The weights of slots as a Fenwick tree: each node has the sum of a range of weights.
#[derive(Debug, Default)]
pub(super) struct WeightTree {
    weights: Vec<u32>,
    /// `sums[n - 1]` is the sum of the last `n & n.wrapping_neg()` weights before `n`.
    sums: Vec<u64>,
    total: u64,
}

impl WeightTree {
    /// Sets the weight of a slot; a slot of weight 0 is never picked.
    pub(super) fn set(&mut self, slot: usize, weight: u32) {
        if slot >= self.weights.len() {
            if weight == 0 {
                return;
            }
            self.grow(slot + 1);
        }
        let Some(current) = self.weights.get_mut(slot) else {
            return;
        };
        let before = std::mem::replace(current, weight);
        self.total = self.total - u64::from(before) + u64::from(weight);
        let mut node = slot + 1;
        while let Some(sum) = self.sums.get_mut(node - 1) {
            *sum = *sum - u64::from(before) + u64::from(weight);
            node += node & node.wrapping_neg();
        }
    }

    /// Makes the tree again with twice the slots, so that a slot costs constant time on average.
    fn grow(&mut self, slots: usize) {
        self.weights.resize(slots.next_power_of_two(), 0);
        self.sums = self
            .weights
            .iter()
            .map(|weight| u64::from(*weight))
            .collect();
        for node in 1..=self.sums.len() {
            let sum = self.sums.get(node - 1).copied().unwrap_or(0);
            let parent = node + (node & node.wrapping_neg());
            if let Some(above) = self.sums.get_mut(parent - 1) {
                *above += sum;
            }
        }
    }

    /// The slot at `at` of the sum of all weights, and the sum of the weights before it.
    fn find(&self, at: u64) -> (usize, u64) {
        let (mut slot, mut before) = (0, 0);
        let mut step = self.sums.len();
        while step > 0 {
            match self.sums.get(slot + step - 1) {
                Some(sum) if before + sum <= at => {
                    before += sum;
                    slot += step;
                }
                _ => {}
            }
            step /= 2;
        }
        (slot, before)
    }

    /// A slot by weight; `random` is in 0..1. `None` when all weights are 0.
    pub(super) fn sample(&self, random: f64) -> Option<usize> {
        (self.total > 0).then(|| self.find(below(self.total, random)).0)
    }

    /// Two different slots, the second by weight among the others; the second is `None` when there is one.
    pub(super) fn sample_two(&self, random: [f64; 2]) -> Option<(usize, Option<usize>)> {
        if self.total == 0 {
            return None;
        }
        let (first, before) = self.find(below(self.total, random[0]));
        let weight = u64::from(self.weights.get(first).copied().unwrap_or(0));
        let others = self.total - weight;
        if others == 0 {
            return Some((first, None));
        }
        let at = below(others, random[1]);
        // The first slot is skipped.
        let at = if at < before { at } else { at + weight };
        Some((first, Some(self.find(at).0)))
    }
}

/// An integer below `limit`, which is not 0.
fn below(limit: u64, random: f64) -> u64 {
    ((limit as f64 * random) as u64).min(limit - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_picked_without_weight() {
        let mut tree = WeightTree::default();
        assert_eq!((tree.sample(0.5), tree.sample_two([0.5; 2])), (None, None));
        tree.set(3, 0);
        assert!(tree.weights.is_empty());
        tree.set(3, u32::MAX);
        assert_eq!(tree.sample(0.999), Some(3));
        assert_eq!(tree.sample_two([0.5; 2]), Some((3, None)));
        tree.set(3, 0);
        assert_eq!(tree.sample(0.5), None);
    }

    #[test]
    fn the_largest_number_is_the_last_slot() {
        let mut tree = WeightTree::default();
        for (slot, weight) in [(0, 3), (1, 4), (2, 0)] {
            tree.set(slot, weight);
        }
        assert_eq!(tree.sample(1.0), Some(1));
        assert_eq!(tree.sample_two([0.0, 1.0]), Some((0, Some(1))));
        assert_eq!(tree.sample_two([1.0, 1.0]), Some((1, Some(0))));
    }

    proptest! {
        /// Each slot has exactly its weight of all positions, after any changes.
        #[test]
        fn the_share_of_a_slot_is_its_weight(
            changes in proptest::collection::vec((0usize..20, 0u32..6), 1..60),
        ) {
            let (mut tree, mut weights) = (WeightTree::default(), [0u32; 20]);
            for (slot, weight) in changes {
                tree.set(slot, weight);
                weights[slot] = weight;
            }
            let mut found = [0; 20];
            for at in 0..tree.total {
                let (slot, before) = tree.find(at);
                found[slot] += 1;
                let sum: u32 = weights[..slot].iter().sum();
                prop_assert_eq!(before, u64::from(sum));
            }
            prop_assert_eq!(found, weights);
        }

        #[test]
        fn two_slots_differ_and_the_second_is_by_weight_among_the_others(
            weights in proptest::collection::vec(0u32..5, 2..10),
            first in 0.0..1.0,
        ) {
            let mut tree = WeightTree::default();
            for (slot, weight) in weights.iter().enumerate() {
                tree.set(slot, *weight);
            }
            let total: u32 = weights.iter().sum();
            let Some(one) = tree.sample(first) else {
                prop_assert_eq!(total, 0);
                return Ok(());
            };
            let others = total - weights[one];
            let mut found = vec![0; weights.len()];
            for n in 0..others {
                let random = (f64::from(n) + 0.5) / f64::from(others);
                let (again, second) = tree.sample_two([first, random]).unwrap();
                prop_assert_eq!(again, one);
                found[second.unwrap()] += 1;
            }
            found[one] = weights[one];
            prop_assert_eq!(found, weights);
        }
    }
}

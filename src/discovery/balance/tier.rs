//! The slots that are picked from, in the structure that the balance needs. Pure.

use super::balance::Balance;
use super::pick_schedule::PickSchedule;
use super::rendezvous::Rendezvous;
use super::weight_tree::WeightTree;

/// The instances of the own zone, or those of all others; without a zone there is one tier.
#[derive(Debug)]
pub(super) struct Tier {
    order: Order,
    /// The sum of the weights of all slots, including those that are ejected.
    all_weight: u64,
    /// The sum of the weights of the slots in use.
    weight: u64,
}

#[derive(Debug)]
pub(super) enum Order {
    InTurn(PickSchedule),
    ByWeight(WeightTree),
    /// A key chooses among all slots, including those that are not in use.
    ByKey(WeightTree, Rendezvous),
}

impl Tier {
    pub(super) fn new(balance: Balance) -> Self {
        let order = match balance {
            Balance::RoundRobin | Balance::Weighted => Order::InTurn(PickSchedule::new(balance)),
            Balance::Random | Balance::LeastInFlight | Balance::PeakEwma => {
                Order::ByWeight(WeightTree::default())
            }
            Balance::Rendezvous => Order::ByKey(WeightTree::default(), Rendezvous::default()),
        };
        Tier {
            order,
            all_weight: 0,
            weight: 0,
        }
    }

    pub(super) fn order(&mut self) -> &mut Order {
        &mut self.order
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The weight of the slots that are ejected.
    pub(super) fn ejected_weight(&self) -> u64 {
        self.all_weight - self.weight
    }

    /// Changes the weight of a slot, whether it is in use or not.
    pub(super) fn set_member(&mut self, before: u32, after: u32) {
        self.all_weight = self.all_weight + u64::from(after) - u64::from(before);
    }

    /// Changes the weight of a slot in use from `before` to `after`; 0 is that of a slot not in use.
    pub(super) fn set(&mut self, slot: usize, before: u32, after: u32) {
        self.weight = self.weight + u64::from(after) - u64::from(before);
        match &mut self.order {
            Order::InTurn(schedule) => schedule.set(slot, after),
            Order::ByWeight(tree) | Order::ByKey(tree, _) => tree.set(slot, after),
        }
    }

    /// Sets the weight by which keys choose a slot, whose id has the hash `id`.
    pub(super) fn set_key_weight(&mut self, slot: usize, id: u64, weight: u32) {
        if let Order::ByKey(_, table) = &mut self.order {
            table.set(slot, id, weight);
        }
    }
}

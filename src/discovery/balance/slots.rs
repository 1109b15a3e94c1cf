//! Numbers for the instances of a view. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::discovery::instance::Instance;

/// The instances by number. A number is used again after its instance left.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_key: HashMap<Bytes, usize>,
}

/// An instance and how it is picked.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None` when the slot is free.
    pub(super) instance: Option<Arc<Instance>>,
    /// How many instances the slot had before.
    pub(super) generation: u32,
    pub(super) weight: u32,
    /// The weight in its tier: 0 while it is ejected.
    pub(super) used_weight: u32,
    /// The number of its tier.
    pub(super) tier: u8,
}

/// One instance of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) slot: usize,
    pub(super) generation: u32,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The slots including free ones.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn of_key(&self, key: &Bytes) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)
    }

    pub(super) fn position(&self, slot: usize) -> Position {
        let generation = self.slots.get(slot).map_or(0, |one| one.generation);
        Position { slot, generation }
    }

    /// Whether the instance is still there.
    pub(super) fn is_current(&self, position: Position) -> bool {
        let slot = self.slots.get(position.slot);
        slot.is_some_and(|slot| slot.generation == position.generation && slot.instance.is_some())
    }

    /// A slot for an instance that joins. Its weight is still 0.
    pub(super) fn join(&mut self, key: &Bytes, instance: &Arc<Instance>, tier: u8) -> usize {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(Slot::default());
        }
        if let Some(joined) = self.slots.get_mut(slot) {
            joined.instance = Some(Arc::clone(instance));
            joined.tier = tier;
        }
        self.by_key.insert(key.clone(), slot);
        slot
    }

    pub(super) fn leave(&mut self, key: &Bytes) {
        let Some(slot) = self.by_key.remove(key) else {
            return;
        };
        if let Some(left) = self.slots.get_mut(slot) {
            let generation = left.generation.wrapping_add(1);
            *left = Slot {
                generation,
                ..Slot::default()
            };
        }
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_an_instance_that_left_is_not_that_of_the_next_one_in_its_slot() {
        let key = |n: u8| Bytes::from(vec![n]);
        let instance = Arc::new(Instance::new("web", "a:1"));
        let mut slots = Slots::default();
        let mut before = Vec::new();
        for n in 0..5 {
            assert_eq!(slots.join(&key(n), &instance, 0), 0);
            assert!(slots.is_current(slots.position(0)));
            assert!(before.iter().all(|position| !slots.is_current(*position)));
            before.push(slots.position(0));
            slots.leave(&key(n));
            assert!(!slots.is_current(slots.position(0)), "the slot is free");
        }
    }
}

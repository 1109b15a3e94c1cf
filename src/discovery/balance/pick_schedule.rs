//! Decides which instance gets the next call: the one with the earliest deadline. Pure.
//!
//! Each pick moves virtual time to the deadline of the instance that is picked, and its next deadline
//! is one stride later: the inverse of its weight. A pick and a change take logarithmic time in the
//! number of instances, and no change touches another instance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::balance::Balance;
use super::stable_hash::GOLDEN;

/// The stride of weight 1. Virtual time has 128 bits, and so does not overflow.
const STRIDE: u128 = 1 << 64;

/// The order of picks among slots, which are numbers of instances.
#[derive(Debug)]
pub(super) struct PickSchedule {
    by_weight: bool,
    /// The deadlines, including outdated ones of slots that left or have another one now.
    deadlines: BinaryHeap<Reverse<Deadline>>,
    entries: Vec<Entry>,
    /// The number of slots that are picked.
    len: usize,
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

#[derive(Clone, Debug, Default)]
struct Entry {
    /// 0 when the slot is not picked.
    stride: u128,
    /// The current deadline.
    at: u128,
    number: u64,
}

impl PickSchedule {
    /// Creates a schedule for [`Balance::Weighted`], or else for [`Balance::RoundRobin`].
    pub(super) fn new(balance: Balance) -> Self {
        PickSchedule {
            by_weight: balance == Balance::Weighted,
            deadlines: BinaryHeap::new(),
            entries: Vec::new(),
            len: 0,
            now: 0,
            given: 0,
            joined: 0,
        }
    }

    /// The next slot, or `None` when there is none.
    pub(super) fn pick(&mut self) -> Option<usize> {
        loop {
            let mut first = self.deadlines.peek_mut()?;
            let Deadline { at, number, slot } = first.0;
            let valid = self.entries.get_mut(slot);
            let Some(entry) = valid.filter(|entry| entry.number == number) else {
                // The slot was removed or changed after this deadline was given.
                PeekMut::pop(first);
                continue;
            };
            self.now = at;
            self.given += 1;
            // Stride scheduling: an instance of twice the weight is due twice as often.
            entry.at = at + entry.stride;
            entry.number = self.given;
            // Dropping `first` restores the order of the heap.
            first.0.at = entry.at;
            first.0.number = entry.number;
            return Some(slot);
        }
    }

    /// Sets the weight of a slot; 0 removes it.
    pub(super) fn set(&mut self, slot: usize, weight: u32) {
        let present = self.entries.get(slot).is_some_and(|entry| entry.stride > 0);
        match (present, weight) {
            (false, 0) => {}
            (false, _) => self.join(slot, weight),
            (true, 0) => self.leave(slot),
            (true, _) => self.change(slot, weight),
        }
    }

    fn stride(&self, weight: u32) -> u128 {
        if self.by_weight {
            STRIDE / u128::from(weight.max(1))
        } else {
            STRIDE
        }
    }

    fn join(&mut self, slot: usize, weight: u32) {
        let stride = self.stride(weight);
        let wait = if self.by_weight {
            // Spread over the stride, so that instances that join together are not picked together.
            (stride * u128::from(self.joined.wrapping_mul(GOLDEN))) >> 64
        } else {
            // A new instance is picked after all others of the round.
            stride
        };
        self.joined = self.joined.wrapping_add(1);
        if slot >= self.entries.len() {
            self.entries.resize(slot + 1, Entry::default());
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.stride = stride;
        }
        self.len += 1;
        self.set_deadline(slot, self.now + wait);
    }

    fn leave(&mut self, slot: usize) {
        if let Some(left) = self.entries.get_mut(slot) {
            // Numbers begin with 1, so the deadline in the heap is invalid now.
            *left = Entry::default();
        }
        self.len -= 1;
        self.drop_invalid();
    }

    fn change(&mut self, slot: usize, weight: u32) {
        let stride = self.stride(weight);
        let now = self.now;
        let Some(changed) = self.entries.get_mut(slot) else {
            return;
        };
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
        if let Some(set) = self.entries.get_mut(slot) {
            set.at = at;
            set.number = self.given;
        }
        let number = self.given;
        self.deadlines.push(Reverse(Deadline { at, number, slot }));
    }

    /// Keeps the heap within twice the number of slots.
    fn drop_invalid(&mut self) {
        // Removed only when they are the majority, so the cost of an update is constant on average.
        if self.deadlines.len() > 2 * self.len + 64 {
            let entries = &self.entries;
            self.deadlines.retain(|Reverse(deadline)| {
                let entry = entries.get(deadline.slot);
                entry.is_some_and(|entry| entry.number == deadline.number)
            });
        }
    }
}

#[cfg(test)]
mod tests;

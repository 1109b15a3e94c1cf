//! Orders the registrations of one registrar that use the same key. Pure.
//!
//! An instance that is registered again while its previous registration is still leaving waits for
//! that. Otherwise one would delete what the other puts, and etcd refuses a transaction that puts and
//! deletes one key.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

/// The numbers of the registrations that use each key.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// In the order in which they joined.
    queues: HashMap<Bytes, VecDeque<u64>>,
    /// The registrations that are not the first in some of their queues, and in how many.
    waiting: BTreeMap<u64, usize>,
}

impl KeyQueue {
    pub(super) fn join(&mut self, key: Bytes, number: u64) {
        let queue = self.queues.entry(key).or_default();
        if !queue.is_empty() {
            *self.waiting.entry(number).or_default() += 1;
        }
        queue.push_back(number);
    }

    /// Whether a registration waits for another one of the same key.
    pub(super) fn waits(&self, number: u64) -> bool {
        self.waiting.contains_key(&number)
    }

    /// The newest registration of a key.
    pub(super) fn last(&self, key: &Bytes) -> Option<u64> {
        self.queues.get(key)?.back().copied()
    }

    /// Removes a registration. Returns the one that is first in the queue then.
    pub(super) fn leave(&mut self, key: &Bytes, number: u64) -> Option<u64> {
        let queue = self.queues.get_mut(key)?;
        let was_first = queue.front() == Some(&number);
        queue.retain(|queued| *queued != number);
        let first = queue.front().copied();
        if first.is_none() {
            self.queues.remove(key);
        }
        // The one that was waiting in this queue: the registration itself, or the next one.
        let waited = if was_first { first } else { Some(number) };
        if let Some(waited) = waited
            && let Some(queues) = self.waiting.get_mut(&waited)
        {
            *queues -= 1;
            if *queues == 0 {
                self.waiting.remove(&waited);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_of_one_key_wait_for_each_other_and_those_of_other_keys_do_not() {
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        let mut key_queue = KeyQueue::default();
        for (key, number) in [(&a, 1), (&a, 2), (&a, 3), (&b, 4)] {
            key_queue.join(key.clone(), number);
        }
        let waiting =
            |key_queue: &KeyQueue| (1..=4).filter(|n| key_queue.waits(*n)).collect::<Vec<_>>();
        assert_eq!(waiting(&key_queue), [2, 3]);
        assert_eq!(key_queue.last(&a), Some(3));
        assert_eq!(key_queue.leave(&a, 2), Some(1));
        assert_eq!(waiting(&key_queue), [3]);
        assert_eq!(key_queue.leave(&a, 1), Some(3));
        assert!(waiting(&key_queue).is_empty());
        assert_eq!(key_queue.leave(&a, 3), None);
        assert_eq!((key_queue.last(&a), key_queue.queues.len()), (None, 1));
    }
}

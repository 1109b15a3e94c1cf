//! Whose turn it is, among the claims of one registrar to one key: an instance that is registered
//! again while its last registration is still leaving waits for that. Else the one would delete what
//! the other puts, and etcd refuses a transaction that does both.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

/// The claims to each key, by their numbers, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<Bytes, VecDeque<u64>>);

impl Turns {
    pub(super) fn join(&mut self, key: Bytes, number: u64) {
        self.0.entry(key).or_default().push_back(number);
    }

    pub(super) fn is_first(&self, key: &Bytes, number: u64) -> bool {
        self.0.get(key).and_then(VecDeque::front) == Some(&number)
    }

    /// The newest claim to a key.
    pub(super) fn last(&self, key: &Bytes) -> Option<u64> {
        self.0.get(key)?.back().copied()
    }

    /// Forgets a claim. Returns the one whose turn it is then.
    pub(super) fn leave(&mut self, key: &Bytes, number: u64) -> Option<u64> {
        let queue = self.0.get_mut(key)?;
        queue.retain(|waiting| *waiting != number);
        let first = queue.front().copied();
        if first.is_none() {
            self.0.remove(key);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_to_one_key_take_turns_and_others_do_not_wait() {
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        let mut turns = Turns::default();
        for (key, number) in [(&a, 1), (&a, 2), (&a, 3), (&b, 4)] {
            turns.join(key.clone(), number);
        }
        assert!(turns.is_first(&a, 1) && turns.is_first(&b, 4) && !turns.is_first(&a, 2));
        assert_eq!(turns.last(&a), Some(3));
        assert_eq!(turns.leave(&a, 2), Some(1));
        assert_eq!(turns.leave(&a, 1), Some(3));
        assert_eq!(turns.leave(&a, 3), None);
        assert_eq!((turns.last(&a), turns.0.len()), (None, 1));
    }
}

//! The instances that one client uses, of a service with very many. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::stable_hash::{mix, stable_hash};
use crate::discovery::instance::Instance;

/// What a change of the service changes in the subset.
pub(super) type SubsetEdit = (Bytes, Option<Arc<Instance>>);

/// The `size` instances with the lowest scores; the score is a hash of the client and the id of the instance
/// (as in the random subsetting of gRPC, proposal A68).
///
/// A client keeps its subset: one that leaves is replaced by one other, and one that joins replaces at most
/// one. The subsets of different clients are independent.
#[derive(Debug)]
pub(super) struct Subset {
    size: usize,
    client: u64,
    ranks: BTreeMap<(u64, Bytes), Arc<Instance>>,
    scores: BTreeMap<Bytes, u64>,
    /// The highest rank in the subset, once it is full.
    last: Option<(u64, Bytes)>,
}

impl Subset {
    pub(super) fn new(size: usize, client: &str) -> Self {
        Subset {
            size,
            client: stable_hash(client.as_bytes()),
            ranks: BTreeMap::new(),
            scores: BTreeMap::new(),
            last: None,
        }
    }

    fn is_inside(&self, rank: &(u64, Bytes)) -> bool {
        self.last.as_ref().is_none_or(|last| rank <= last)
    }

    /// Sets or removes an instance of the service, and passes on what changes in the subset.
    pub(super) fn update(
        &mut self,
        key: &Bytes,
        instance: Option<&Arc<Instance>>,
        mut edit: impl FnMut(SubsetEdit),
    ) {
        let score = instance.map(|instance| mix(self.client ^ stable_hash(instance.id.as_bytes())));
        // Another id under the same key has another rank.
        if let Some(before) = self.scores.get(key).copied()
            && Some(before) != score
        {
            self.remove((before, key.clone()), &mut edit);
        }
        if let (Some(score), Some(instance)) = (score, instance) {
            self.set((score, key.clone()), Arc::clone(instance), &mut edit);
        }
    }

    fn remove(&mut self, rank: (u64, Bytes), edit: &mut impl FnMut(SubsetEdit)) {
        let was_inside = self.is_inside(&rank);
        self.ranks.remove(&rank);
        self.scores.remove(&rank.1);
        if !was_inside {
            return;
        }
        edit((rank.1, None));
        if let Some(last) = self.last.take() {
            // The next one moves up; without one the subset is not full.
            let after = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            if let Some((next, instance)) = self.ranks.range(after).next() {
                self.last = Some(next.clone());
                edit((next.1.clone(), Some(Arc::clone(instance))));
            }
        }
    }

    fn set(
        &mut self,
        rank: (u64, Bytes),
        instance: Arc<Instance>,
        edit: &mut impl FnMut(SubsetEdit),
    ) {
        let is_new = self
            .ranks
            .insert(rank.clone(), Arc::clone(&instance))
            .is_none();
        self.scores.insert(rank.1.clone(), rank.0);
        let is_inside = self.is_inside(&rank);
        if is_new && is_inside {
            self.make_room(edit);
        }
        if is_inside {
            edit((rank.1, Some(instance)));
        }
    }

    /// Finds the last rank of the subset after one rank was added inside it.
    fn make_room(&mut self, edit: &mut impl FnMut(SubsetEdit)) {
        if let Some(last) = self.last.take() {
            let before = self.ranks.range(..last.clone()).next_back();
            self.last = before.map(|(rank, _)| rank.clone());
            edit((last.1, None));
        } else if self.ranks.len() >= self.size {
            self.last = self.ranks.last_key_value().map(|(rank, _)| rank.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn instance(id: &str) -> Arc<Instance> {
        Arc::new(Instance::new("web", "a:1").id(id))
    }

    /// The ids in the subset, as the edits tell.
    fn apply(shown: &mut BTreeSet<Bytes>, subset: &mut Subset, id: &str, present: bool) -> usize {
        let key = Bytes::copy_from_slice(id.as_bytes());
        let instance = present.then(|| instance(id));
        let mut edits = 0;
        subset.update(&key, instance.as_ref(), |(key, instance)| {
            edits += 1;
            match instance {
                Some(_) => shown.insert(key),
                None => shown.remove(&key),
            };
        });
        edits
    }

    proptest! {
        /// It is always the `size` lowest scores, and a change costs two edits at most.
        #[test]
        fn the_subset_has_the_lowest_scores(
            size in 1usize..6,
            changes in proptest::collection::vec((0u8..20, any::<bool>()), 1..100),
        ) {
            let mut subset = Subset::new(size, "client-1");
            let (mut shown, mut all) = (BTreeSet::new(), BTreeSet::new());
            for (n, present) in changes {
                let id = format!("i{n}");
                let edits = apply(&mut shown, &mut subset, &id, present);
                prop_assert!(edits <= 2);
                if present { all.insert(id) } else { all.remove(&id) };
                let mut ranks: Vec<_> = all
                    .iter()
                    .map(|id| (mix(subset.client ^ stable_hash(id.as_bytes())), id.clone()))
                    .collect();
                ranks.sort();
                let lowest: BTreeSet<Bytes> =
                    ranks.into_iter().take(size).map(|(_, id)| id.into()).collect();
                prop_assert_eq!(&shown, &lowest);
                prop_assert_eq!(subset.scores.len(), subset.ranks.len());
            }
        }
    }

    #[test]
    fn clients_spread_over_all_instances() {
        let mut users = vec![0; 100];
        for client in 0..500 {
            let mut subset = Subset::new(10, &format!("client-{client}"));
            let mut shown = BTreeSet::new();
            for n in 0..100 {
                apply(&mut shown, &mut subset, &n.to_string(), true);
            }
            assert_eq!(shown.len(), 10);
            for key in shown {
                let n: usize = String::from_utf8_lossy(&key).parse().unwrap();
                users[n] += 1;
            }
        }
        // 50 are expected, with a standard deviation of 7.
        assert!(
            users.iter().all(|count| (20..90).contains(count)),
            "{users:?}"
        );
    }
}

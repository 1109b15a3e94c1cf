//! The instances of a view, changed one by one. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::discovery::instance::Instance;

/// A key and its new instance, or `None` if the instance was removed.
pub(crate) type InstanceEdit = (Bytes, Option<Arc<Instance>>);

/// The instances in the order of their keys. A snapshot of them is made on request.
///
/// A change takes logarithmic time in the number of instances. The first snapshot after a change copies
/// one pointer for each instance.
#[derive(Debug, Default)]
pub(super) struct InstanceList {
    by_key: BTreeMap<Bytes, Arc<Instance>>,
    snapshot: Option<Arc<[Arc<Instance>]>>,
}

impl InstanceList {
    pub(super) fn edit(&mut self, (key, instance): InstanceEdit) {
        // Made again at the next request, and not for each change.
        self.snapshot = None;
        match instance {
            Some(instance) => self.by_key.insert(key, instance),
            None => self.by_key.remove(&key),
        };
    }

    /// The instances, in the order of their keys. It is the same allocation until something changes.
    pub(super) fn snapshot(&mut self) -> Arc<[Arc<Instance>]> {
        let by_key = &self.by_key;
        let made = self
            .snapshot
            .get_or_insert_with(|| by_key.values().cloned().collect());
        Arc::clone(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(list: &mut InstanceList, id: &str, weight: u32) {
        let instance = Instance::new("web", "a:1").id(id).weight(weight);
        list.edit((id.to_owned().into(), Some(Arc::new(instance))));
    }

    #[test]
    fn a_snapshot_is_immutable_and_made_once_per_change() {
        let mut list = InstanceList::default();
        assert!(list.snapshot().is_empty());
        put(&mut list, "b", 1);
        put(&mut list, "a", 0);
        let before = list.snapshot();
        assert_eq!(
            before.iter().map(|one| one.id.as_str()).collect::<String>(),
            "ab"
        );
        assert!(Arc::ptr_eq(&before, &list.snapshot()));
        list.edit(("a".into(), None));
        assert_eq!((before.len(), list.snapshot().len()), (2, 1));
        assert!(Arc::ptr_eq(&before[1], &list.snapshot()[0]));
    }
}

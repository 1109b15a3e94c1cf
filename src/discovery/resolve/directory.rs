//! The instances of one view, and the changes that follow from each event. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::change::{Cause, Change};
use super::removal_cause::{LeaseQuery, RemovalCauses};
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::types::{KeyValue, LeaseId, Revision};

/// One event of a watch.
#[derive(Clone, Debug)]
pub(crate) enum KeyEvent {
    /// A key was put.
    Put(KeyValue),
    /// A key was deleted. Its value before is not needed: the directory has it.
    Delete(Bytes),
}

/// A change, and the instances that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangeRecord {
    pub(crate) change: Change,
    /// The previous instance for each one in the `updated` of a [`Change::Reset`].
    pub(crate) before: Vec<Arc<Instance>>,
}

impl From<Change> for ChangeRecord {
    fn from(change: Change) -> Self {
        let before = Vec::new();
        ChangeRecord { change, before }
    }
}

/// The result of an input.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct DirectoryUpdate {
    /// The changes to report, in this order.
    pub(crate) changes: Vec<Change>,
    /// The previous instance for each one in the `updated` of a [`Change::Reset`].
    pub(crate) before: Vec<Arc<Instance>>,
    /// The queries to send, each of which [`Directory::lease_status`] answers.
    pub(crate) queries: Vec<LeaseQuery>,
    /// The instances whose keys were deleted, and whose removal is reported when its cause is known.
    pub(crate) unexplained: Vec<Arc<Instance>>,
}

#[cfg(test)]
impl DirectoryUpdate {
    /// The changes, each with the instances that it replaces. There is at most one reset.
    pub(crate) fn records(self) -> impl Iterator<Item = ChangeRecord> {
        let mut before = Some(self.before);
        self.changes.into_iter().map(move |change| match change {
            Change::Reset { .. } => ChangeRecord {
                change,
                before: before.take().unwrap_or_default(),
            },
            change => change.into(),
        })
    }
}

/// The instances under a key range.
#[derive(Debug)]
pub(crate) struct Directory {
    format: Format,
    entries: BTreeMap<Bytes, Entry>,
    /// The keys whose values are not instances, with the reported reason.
    bad: BTreeMap<Bytes, String>,
    causes: RemovalCauses,
    /// `None` before the first list: unknown is different from empty.
    revision: Option<Revision>,
    stale: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    instance: Arc<Instance>,
    lease: Option<LeaseId>,
}

impl Directory {
    /// Creates a directory without a list.
    pub(crate) fn new(format: Format) -> Self {
        Directory {
            format,
            entries: BTreeMap::new(),
            bad: BTreeMap::new(),
            causes: RemovalCauses::default(),
            revision: None,
            stale: None,
        }
    }

    /// Applies a complete list at `revision`: the first one, or one after events were lost.
    ///
    /// The first list results in a [`Change::Reset`] that adds all instances.
    pub(crate) fn reset(
        &mut self,
        list: impl IntoIterator<Item = KeyValue>,
        revision: Revision,
    ) -> DirectoryUpdate {
        self.revision = Some(revision);
        let mut before = std::mem::take(&mut self.entries);
        let mut bad_before = std::mem::take(&mut self.bad);
        let mut update = DirectoryUpdate::default();
        let (mut added, mut updated, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let mut bad = Vec::new();
        let mut entries = Vec::new();
        for kv in list {
            // A key that is present again is reported as removed first, with an unknown cause.
            update.changes.extend(self.causes.take_waiting(&kv.key));
            let (key, lease) = (kv.key.clone(), kv.lease());
            let old = before.remove(&key).map(|entry| entry.instance);
            let read = self.format.decode_shown(&key, &kv.value);
            if let (Some(old), Ok(None) | Err(_)) = (&old, &read) {
                removed.push((old.clone(), Cause::Replaced));
            }
            let read = match read {
                Ok(Some(read)) => read,
                // A key of the format that is not an instance.
                Ok(None) => continue,
                Err(reason) => {
                    let reason = reason.to_string();
                    // A malformed value is reported once, not with every list.
                    if bad_before.remove(&key).as_ref() != Some(&reason) {
                        let (key, reason) = (key.clone(), reason.clone());
                        bad.push(Change::Bad { key, reason });
                    }
                    self.bad.insert(key, reason);
                    continue;
                }
            };
            let instance = match old {
                // The same allocation, so that readers can compare pointers.
                Some(old) if *old == read => old,
                // Another address under the same id is another process, and not an update.
                Some(old) if old.addr == read.addr => {
                    let read = Arc::new(read);
                    update.before.push(old);
                    updated.push(read.clone());
                    read
                }
                old => {
                    let read = Arc::new(read);
                    removed.extend(old.map(|old| (old, Cause::Replaced)));
                    added.push(read.clone());
                    read
                }
            };
            entries.push((key, Entry { instance, lease }));
        }
        // At once, so that the nodes of the tree are full: a list is sorted, and one insertion after another would
        // leave half of each empty.
        self.entries = entries.into_iter().collect();
        for entry in before.into_values() {
            removed.push((entry.instance, Cause::Resync));
        }
        if !(added.is_empty() && updated.is_empty() && removed.is_empty()) {
            update.changes.push(Change::Reset {
                added,
                updated,
                removed,
            });
        }
        update.changes.extend(bad);
        update
    }

    /// Applies events in the order of their revisions, up to `revision`. Without events, `revision` is
    /// that of a progress notification.
    ///
    /// Events before the first list are ignored.
    pub(crate) fn apply(
        &mut self,
        events: impl IntoIterator<Item = KeyEvent>,
        revision: Revision,
    ) -> DirectoryUpdate {
        let mut update = DirectoryUpdate::default();
        // Events before the first list are part of that list.
        if self.revision.is_none() {
            return update;
        }
        self.revision = self.revision.max(Some(revision));
        for event in events {
            match event {
                KeyEvent::Put(kv) => self.put(kv, &mut update),
                KeyEvent::Delete(key) => self.delete(key, &mut update),
            }
        }
        update
    }

    /// Records that nothing changed up to `revision`.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.map(|known| known.max(revision));
    }

    /// Applies the answer to a [`LeaseQuery`]: whether the lease has time left, or `None` when the
    /// answer is unknown. It may return another query of the same lease.
    pub(crate) fn lease_status(&mut self, lease: LeaseId, alive: Option<bool>) -> DirectoryUpdate {
        let (changes, again) = self.causes.lease_status(lease, alive);
        DirectoryUpdate {
            changes,
            queries: again.into_iter().collect(),
            ..DirectoryUpdate::default()
        }
    }

    /// Records that the watch is down since `since`. Returns a change only once until it is
    /// [up](Directory::up) again.
    pub(crate) fn down(&mut self, since: Instant) -> Option<Change> {
        if self.stale.is_some() {
            return None;
        }
        self.stale = Some(since);
        Some(Change::Stale { since })
    }

    /// Records that the watch is up, and that all missed events were applied.
    pub(crate) fn up(&mut self) -> Option<Change> {
        self.stale.take().map(|_| Change::Live)
    }

    /// The time since which the directory may be outdated.
    #[cfg(test)]
    pub(crate) fn stale_since(&self) -> Option<Instant> {
        self.stale
    }

    /// The revision up to which everything is known; `None` before the first list.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The revision up to which every removal was reported; `None` before the first list.
    pub(crate) fn reported(&self) -> Option<Revision> {
        let before = |revision: Revision| Revision::new(revision.get().saturating_sub(1));
        let explained = self.causes.first_unexplained().map(before);
        match (self.revision, explained) {
            (Some(known), Some(explained)) => Some(known.min(explained)),
            (known, _) => known,
        }
    }

    /// The lease of one of the instances.
    pub(crate) fn any_lease(&self) -> Option<LeaseId> {
        // Most instances have a lease, so this ends early; without leases it must not read all.
        let entries = self.entries.values().take(16);
        entries.filter_map(|entry| entry.lease).next()
    }

    /// The keys whose values are not instances, as changes.
    pub(crate) fn bad_values(&self) -> impl Iterator<Item = Change> {
        self.bad.iter().map(|(key, reason)| Change::Bad {
            key: key.clone(),
            reason: reason.clone(),
        })
    }

    #[cfg(test)]
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.entries
            .values()
            .map(|entry| entry.instance.clone())
            .collect()
    }

    /// The keys of the instances.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.keys()
    }

    /// The changes for a new reader of this directory alone. They include instances whose removal waits for its cause, because
    /// the removal is reported later.
    #[cfg(test)]
    pub(crate) fn first_changes(&self) -> Vec<Change> {
        let here = self.entries.values().map(|entry| &entry.instance);
        // An instance whose removal has no cause yet is added first, so that its removal can
        // follow.
        let here = here.chain(self.causes.waiting());
        let added: Vec<_> = here.cloned().collect();
        let (updated, removed) = (Vec::new(), Vec::new());
        let reset = (!added.is_empty()).then_some(Change::Reset {
            added,
            updated,
            removed,
        });
        let bad = self.bad_values();
        let stale = self.stale.map(|since| Change::Stale { since });
        reset.into_iter().chain(bad).chain(stale).collect()
    }

    /// The keys whose values are not instances, each with the reason.
    #[cfg(test)]
    pub(crate) fn bad(&self) -> impl Iterator<Item = (&Bytes, &str)> {
        self.bad.iter().map(|(key, reason)| (key, reason.as_str()))
    }

    /// Whether no removal waits for its cause.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.causes.is_empty()
    }

    fn put(&mut self, kv: KeyValue, update: &mut DirectoryUpdate) {
        let (key, lease) = (kv.key.clone(), kv.lease());
        let changes = &mut update.changes;
        changes.extend(self.causes.take_waiting(&key));
        let read = self.format.decode_shown(&key, &kv.value);
        if let Ok(None) | Err(_) = read
            && let Some(old) = self.entries.remove(&key)
        {
            changes.push(replaced(old.instance));
        }
        let read = match read {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.bad.remove(&key);
                return;
            }
            Err(reason) => {
                let reason = reason.to_string();
                self.bad.insert(key.clone(), reason.clone());
                changes.push(Change::Bad { key, reason });
                return;
            }
        };
        self.bad.remove(&key);
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.instance.addr == read.addr
        {
            // The instance may have moved to another lease, which is not a change.
            entry.lease = lease;
            if *entry.instance == read {
                return;
            }
            let instance = Arc::new(read);
            let before = std::mem::replace(&mut entry.instance, instance.clone());
            changes.push(Change::Updated { instance, before });
            return;
        }
        let instance = Arc::new(read);
        let entry = Entry {
            instance: instance.clone(),
            lease,
        };
        let old = self.entries.insert(key, entry);
        changes.extend(old.map(|entry| replaced(entry.instance)));
        changes.push(Change::Added(instance));
    }

    fn delete(&mut self, key: Bytes, update: &mut DirectoryUpdate) {
        self.bad.remove(&key);
        let Some(Entry { instance, lease }) = self.entries.remove(&key) else {
            return;
        };
        // A draining instance leaves by itself. Without a lease, there is no query.
        match lease.filter(|_| instance.status != Status::Draining) {
            Some(lease) => {
                update.unexplained.push(instance.clone());
                let at = self.revision.unwrap_or_default();
                let query = self.causes.deleted(key, instance, lease, at);
                update.queries.extend(query);
            }
            None => update.changes.push(Change::Removed {
                instance,
                cause: Cause::Left,
            }),
        }
    }
}

fn replaced(instance: Arc<Instance>) -> Change {
    let cause = Cause::Replaced;
    Change::Removed { instance, cause }
}

#[cfg(test)]
mod tests;

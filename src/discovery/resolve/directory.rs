//! The pure state of one view: which instances there are, and what each event changes about that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::change::{Cause, Change};
use super::instance_list::InstanceEdit;
use super::removal_cause::{RemovalCauses, UnexplainedRemoval};
use crate::discovery::codec::Codec;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::types::{KeyValue, LeaseId, Revision};

/// One event of a watch.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// A key was put.
    Put(KeyValue),
    /// A key was deleted. Its value before is not needed: the directory has it.
    Delete(Bytes),
}

/// A change, and what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangeRecord {
    pub(crate) change: Change,
    /// What was there before each of a [`Change::Reset`]'s `updated`.
    pub(crate) before: Vec<Arc<Instance>>,
}

impl From<Change> for ChangeRecord {
    fn from(change: Change) -> Self {
        let before = Vec::new();
        ChangeRecord { change, before }
    }
}

/// What an input led to.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Step {
    /// What to tell those who look, in this order.
    pub(crate) changes: Vec<Change>,
    /// What was there before each of a [`Change::Reset`]'s `updated`.
    pub(crate) before: Vec<Arc<Instance>>,
    /// The leases to ask etcd about, each for one [`Directory::verdict`].
    pub(crate) suspects: Vec<UnexplainedRemoval>,
}

impl Step {
    /// What to tell, each with what it replaces. A step has one reset at most.
    pub(crate) fn told(self) -> impl Iterator<Item = ChangeRecord> {
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

/// The instances under a key range, as far as they are known.
#[derive(Debug)]
pub(crate) struct Directory {
    codec: Codec,
    prefix: String,
    entries: BTreeMap<Bytes, Entry>,
    /// What cannot be read, with the reason that was told.
    bad: BTreeMap<Bytes, String>,
    causes: RemovalCauses,
    /// `None` before the first list: nothing is known yet, which is not the same as nothing is there.
    revision: Option<Revision>,
    stale: Option<Instant>,
    /// What changed since it was taken last.
    edits: Vec<InstanceEdit>,
}

#[derive(Debug)]
struct Entry {
    instance: Arc<Instance>,
    lease: Option<LeaseId>,
}

impl Directory {
    /// Knows nothing yet. `prefix` is the one the instances are registered under, not a service's.
    pub(crate) fn new(codec: Codec, prefix: impl Into<String>) -> Self {
        Directory {
            codec,
            prefix: prefix.into(),
            entries: BTreeMap::new(),
            bad: BTreeMap::new(),
            causes: RemovalCauses::default(),
            revision: None,
            stale: None,
            edits: Vec::new(),
        }
    }

    /// Everything there is at `revision`: the first list, or one after history was lost.
    ///
    /// The first list is a [`Change::Reset`] that adds everything.
    pub(crate) fn reset(
        &mut self,
        list: impl IntoIterator<Item = KeyValue>,
        revision: Revision,
    ) -> Step {
        self.revision = Some(revision);
        let mut before = std::mem::take(&mut self.entries);
        let mut bad_before = std::mem::take(&mut self.bad);
        let mut step = Step::default();
        let (mut added, mut updated, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let mut bad = Vec::new();
        for kv in list {
            step.changes.extend(self.causes.overtaken(&kv.key));
            let (key, lease) = (kv.key.clone(), kv.lease());
            let old = before.remove(&key).map(|entry| entry.instance);
            let read = match self.codec.decode(&self.prefix, &key, &kv.value) {
                Ok(read) => read,
                Err(reason) => {
                    let reason = reason.to_string();
                    if let Some(old) = old {
                        self.edits.push((key.clone(), None));
                        removed.push((old, Cause::Replaced));
                    }
                    if bad_before.remove(&key).as_ref() != Some(&reason) {
                        let (key, reason) = (key.clone(), reason.clone());
                        bad.push(Change::Bad { key, reason });
                    }
                    self.bad.insert(key, reason);
                    continue;
                }
            };
            let instance = match old {
                Some(old) if *old == read => old,
                Some(old) if old.addr == read.addr => {
                    let read = Arc::new(read);
                    step.before.push(old);
                    updated.push(read.clone());
                    self.edits.push((key.clone(), Some(read.clone())));
                    read
                }
                old => {
                    let read = Arc::new(read);
                    removed.extend(old.map(|old| (old, Cause::Replaced)));
                    added.push(read.clone());
                    self.edits.push((key.clone(), Some(read.clone())));
                    read
                }
            };
            self.entries.insert(key, Entry { instance, lease });
        }
        for (key, entry) in before {
            self.edits.push((key, None));
            removed.push((entry.instance, Cause::Resync));
        }
        if !(added.is_empty() && updated.is_empty() && removed.is_empty()) {
            step.changes.push(Change::Reset {
                added,
                updated,
                removed,
            });
        }
        step.changes.extend(bad);
        step
    }

    /// Events, in the order of their revisions, up to `revision` (that of a progress notification
    /// when there are no events).
    ///
    /// Events that come before the first list are a mistake of the caller and change nothing.
    pub(crate) fn apply(
        &mut self,
        edits: impl IntoIterator<Item = Edit>,
        revision: Revision,
    ) -> Step {
        let mut step = Step::default();
        if self.revision.is_none() {
            return step;
        }
        self.revision = self.revision.max(Some(revision));
        for edit in edits {
            match edit {
                Edit::Put(kv) => self.put(kv, &mut step),
                Edit::Delete(key) => self.delete(key, &mut step),
            }
        }
        step
    }

    /// Nothing changed up to `revision`.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.map(|known| known.max(revision));
    }

    /// The answer to a [`UnexplainedRemoval`]: whether the lease lives (has time left), or `None` when nobody
    /// could say. It may ask about the same lease again.
    pub(crate) fn verdict(&mut self, lease: LeaseId, alive: Option<bool>) -> Step {
        let (changes, again) = self.causes.verdict(lease, alive);
        Step {
            changes,
            suspects: again.into_iter().collect(),
            ..Step::default()
        }
    }

    /// The watch is down since `since`: told once, until it is [up](Directory::up) again.
    pub(crate) fn down(&mut self, since: Instant) -> Option<Change> {
        if self.stale.is_some() {
            return None;
        }
        self.stale = Some(since);
        Some(Change::Stale { since })
    }

    /// The watch is up, and everything that was missed has been fed.
    pub(crate) fn up(&mut self) -> Option<Change> {
        self.stale.take().map(|_| Change::Live)
    }

    /// Since when the view may be behind.
    pub(crate) fn stale_since(&self) -> Option<Instant> {
        self.stale
    }

    /// Up to where everything is known; `None` before the first list.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// What changed about the instances since this was called last.
    pub(crate) fn take_edits(&mut self) -> Vec<InstanceEdit> {
        std::mem::take(&mut self.edits)
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

    /// What to tell somebody who knows nothing yet. An instance that is gone is still told as one that
    /// is there while its removal waits for its cause: that is told later.
    pub(crate) fn first_changes(&self) -> Vec<Change> {
        let here = self.entries.values().map(|entry| &entry.instance);
        let here = here.chain(self.causes.waiting());
        let added: Vec<_> = here.cloned().collect();
        let (updated, removed) = (Vec::new(), Vec::new());
        let reset = (!added.is_empty()).then_some(Change::Reset {
            added,
            updated,
            removed,
        });
        let bad = self.bad.iter().map(|(key, reason)| Change::Bad {
            key: key.clone(),
            reason: reason.clone(),
        });
        let stale = self.stale.map(|since| Change::Stale { since });
        reset.into_iter().chain(bad).chain(stale).collect()
    }

    /// The keys that cannot be read, each with the reason.
    #[cfg(test)]
    pub(crate) fn bad(&self) -> impl Iterator<Item = (&Bytes, &str)> {
        self.bad.iter().map(|(key, reason)| (key, reason.as_str()))
    }

    /// Whether no removal waits for its cause.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.causes.is_empty()
    }

    fn put(&mut self, kv: KeyValue, step: &mut Step) {
        let (key, lease) = (kv.key.clone(), kv.lease());
        let changes = &mut step.changes;
        changes.extend(self.causes.overtaken(&key));
        let read = match self.codec.decode(&self.prefix, &key, &kv.value) {
            Ok(read) => read,
            Err(reason) => {
                if let Some(old) = self.entries.remove(&key) {
                    self.edits.push((key.clone(), None));
                    changes.push(replaced(old.instance));
                }
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
            // The same instance may have moved to another lease, which changes nothing about it.
            entry.lease = lease;
            if *entry.instance == read {
                return;
            }
            let instance = Arc::new(read);
            let before = std::mem::replace(&mut entry.instance, instance.clone());
            self.edits.push((key, Some(instance.clone())));
            changes.push(Change::Updated { instance, before });
            return;
        }
        let instance = Arc::new(read);
        let entry = Entry {
            instance: instance.clone(),
            lease,
        };
        self.edits.push((key.clone(), Some(instance.clone())));
        let old = self.entries.insert(key, entry);
        changes.extend(old.map(|entry| replaced(entry.instance)));
        changes.push(Change::Added(instance));
    }

    fn delete(&mut self, key: Bytes, step: &mut Step) {
        self.bad.remove(&key);
        let Some(Entry { instance, lease }) = self.entries.remove(&key) else {
            return;
        };
        self.edits.push((key.clone(), None));
        match lease.filter(|_| instance.status != Status::Draining) {
            Some(lease) => step
                .suspects
                .extend(self.causes.deleted(key, instance, lease)),
            None => step.changes.push(Change::Removed {
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

//! Changes that wait for a slow reader, reduced to one for each instance. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::change::{Cause, Change};
use super::directory::ChangeRecord;
use crate::discovery::instance::Instance;

/// The changes that a reader has not received yet. Its size is bounded by the number of instances,
/// however often they change.
#[derive(Debug, Default)]
pub(super) struct ChangeBacklog {
    /// The next changes, which are not reduced any further.
    next: VecDeque<Change>,
    /// The instances that changed, by id, and the order of their first changes.
    instances: HashMap<String, Pending>,
    order: VecDeque<String>,
    /// The keys whose values are not instances, with the newest reason.
    bad: BTreeMap<Bytes, String>,
    /// Whether the view was live for the reader, and since when it is stale now.
    health: Option<Health>,
}

/// The change of one instance since the reader last received one.
#[derive(Debug)]
struct Pending {
    /// The instance of the last change that the reader received.
    before: Option<Arc<Instance>>,
    /// The instance now.
    now: Option<Arc<Instance>>,
    /// The cause of its last removal.
    removed: Option<Cause>,
}

#[derive(Clone, Copy, Debug)]
struct Health {
    was_live: bool,
    stale: Option<Instant>,
}

impl ChangeBacklog {
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
            && self.order.is_empty()
            && self.bad.is_empty()
            && self.health.is_none()
    }

    /// The number of stored entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.next.len() + self.order.len().max(self.instances.len())
    }

    /// Adds a change after all others.
    pub(super) fn push(&mut self, record: ChangeRecord) {
        match record.change {
            Change::Added(instance) => self.present(None, instance),
            Change::Updated { instance, before } => self.present(Some(before), instance),
            Change::Removed { instance, cause } => self.gone(instance, cause),
            Change::Reset {
                added,
                updated,
                removed,
            } => {
                // Removals first: a reset may remove an id and add it with another address.
                for (instance, cause) in removed {
                    self.gone(instance, cause);
                }
                for instance in added {
                    self.present(None, instance);
                }
                for (instance, before) in updated.into_iter().zip(record.before) {
                    self.present(Some(before), instance);
                }
            }
            Change::Bad { key, reason } => drop(self.bad.insert(key, reason)),
            Change::Stale { since } => self.health(Some(since)),
            Change::Live => self.health(None),
        }
    }

    /// Adds a change that is not reduced, before all changes that are pushed later.
    pub(super) fn push_whole(&mut self, change: Change) {
        self.next.push_back(change);
    }

    /// Takes the next change.
    pub(super) fn pop(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.next.pop_front() {
                return Some(change);
            }
            let Some(id) = self.order.pop_front() else {
                return self.pop_rest();
            };
            // The instance was removed again before the reader received it.
            let Some(pending) = self.instances.remove(&id) else {
                continue;
            };
            self.next.extend(pending.changes());
        }
    }

    /// Puts back the change that was just taken.
    pub(super) fn put_back(&mut self, change: Change) {
        self.next.push_front(change);
    }

    fn pop_rest(&mut self) -> Option<Change> {
        if let Some((key, reason)) = self.bad.pop_first() {
            return Some(Change::Bad { key, reason });
        }
        let Health { was_live, stale } = self.health.take()?;
        match stale {
            Some(since) => Some(Change::Stale { since }),
            None if !was_live => Some(Change::Live),
            None => None,
        }
    }

    fn present(&mut self, before: Option<Arc<Instance>>, instance: Arc<Instance>) {
        let pending = self.pending(&instance.id, before);
        pending.now = Some(instance);
    }

    fn gone(&mut self, instance: Arc<Instance>, cause: Cause) {
        let id = instance.id.clone();
        let pending = self.pending(&id, Some(instance));
        pending.now = None;
        pending.removed = Some(cause);
        // The reader never received it.
        if pending.before.is_none() {
            self.instances.remove(&id);
            self.compact_order();
        }
    }

    fn pending(&mut self, id: &str, before: Option<Arc<Instance>>) -> &mut Pending {
        if !self.instances.contains_key(id) {
            self.order.push_back(id.to_owned());
        }
        self.instances
            .entry(id.to_owned())
            .or_insert_with(|| Pending {
                before,
                now: None,
                removed: None,
            })
    }

    /// Removes outdated ids from the order, once they are the majority.
    fn compact_order(&mut self) {
        // Ids of removed instances stay in the order until they are the majority.
        if self.order.len() > 2 * self.instances.len() + 16 {
            let instances = &self.instances;
            let mut kept = std::collections::HashSet::new();
            self.order
                .retain(|id| instances.contains_key(id) && kept.insert(id.clone()));
        }
    }

    fn health(&mut self, stale: Option<Instant>) {
        // A view is stale before `Live`, and live before `Stale`.
        let was_live = self
            .health
            .map_or(stale.is_some(), |health| health.was_live);
        self.health = Some(Health { was_live, stale });
    }
}

impl Pending {
    fn changes(self) -> impl Iterator<Item = Change> {
        let (removed, present) = match (self.before, self.now) {
            (None, now) => (None, now.map(Change::Added)),
            (Some(instance), None) => (Some((instance, self.removed)), None),
            (Some(before), Some(now)) if self.removed.is_some() => {
                (Some((before, self.removed)), Some(Change::Added(now)))
            }
            // It changed and changed back.
            (Some(before), Some(now)) if before == now => (None, None),
            (Some(before), Some(instance)) => (None, Some(Change::Updated { instance, before })),
        };
        let removed = removed.map(|(instance, cause)| Change::Removed {
            instance,
            cause: cause.unwrap_or(Cause::Unknown),
        });
        removed.into_iter().chain(present)
    }
}

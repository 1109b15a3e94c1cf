//! A model of etcd, as far as the generated histories need one.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Change, Event, Guard, Keys, Kv};

/// One store, with all its changes.
#[derive(Debug)]
pub(super) struct World {
    pub(super) revision: i64,
    pub(super) kvs: BTreeMap<String, Kv>,
    /// The changes since the last [`take`](World::take).
    fresh: Vec<Event>,
}

impl World {
    pub(super) fn new() -> Self {
        World {
            revision: 1,
            kvs: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    /// The changes that nobody took, with their previous values.
    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn list(&self, keys: &Keys) -> Vec<Kv> {
        let inside = self.kvs.values().filter(|kv| keys.contains(&kv.key));
        inside.cloned().collect()
    }

    /// Executes a request, and returns the answer.
    pub(super) fn execute(&mut self, call: &Call) -> Answer {
        let mut answer = Answer::default();
        match call {
            Call::Range { keys, .. } => answer.kvs = self.list(keys),
            Call::Put { .. } => drop(self.write(&call.changes(), 0)),
            Call::Delete { key } => {
                answer.kvs = self.kvs.get(key).cloned().into_iter().collect();
                answer.deleted = self.write(&call.changes(), 0);
            }
            Call::Txn { when, then } => {
                answer.succeeded = when.iter().all(|guard| self.holds(guard));
                if answer.succeeded {
                    self.write(then, 0);
                } else {
                    let guarded = when.iter().filter_map(|guard| self.kvs.get(&guard.key));
                    answer.kvs = guarded.cloned().collect();
                }
            }
        }
        answer.revision = self.revision;
        answer
    }

    fn holds(&self, guard: &Guard) -> bool {
        let field = |kv: &Kv| if guard.create { kv.create } else { kv.modified };
        self.kvs.get(&guard.key).map_or(0, field) == guard.revision
    }

    /// Makes the changes in one revision, and returns how many keys were deleted.
    pub(super) fn write(&mut self, changes: &[Change], lease: i64) -> u64 {
        let at = self.revision + 1;
        let mut deleted = 0;
        for change in changes {
            let prev = self.kvs.get(&change.key).cloned();
            let kv = match &change.value {
                None if prev.is_none() => continue,
                None => {
                    self.kvs.remove(&change.key);
                    deleted += 1;
                    Kv {
                        key: change.key.clone(),
                        modified: at,
                        ..Kv::default()
                    }
                }
                Some(value) => Kv {
                    key: change.key.clone(),
                    value: value.clone(),
                    create: prev.as_ref().map_or(at, |kv| kv.create),
                    modified: at,
                    version: prev.as_ref().map_or(1, |kv| kv.version + 1),
                    lease,
                },
            };
            if change.value.is_some() {
                self.kvs.insert(kv.key.clone(), kv.clone());
            }
            let del = change.value.is_none();
            self.fresh.push(Event { del, kv, prev });
            self.revision = at;
        }
        deleted
    }

    pub(super) fn put(&mut self, key: &str, value: &str, lease: i64) -> i64 {
        let change = Change {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        self.write(&[change], lease);
        self.revision
    }

    pub(super) fn delete(&mut self, key: &str) {
        let change = Change {
            key: key.to_owned(),
            value: None,
        };
        self.write(&[change], 0);
    }
}

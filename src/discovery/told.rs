//! What the reader of a view was told, and what it must be told to know what the view knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};

use super::change::{Cause, Change};
use super::instance::Instance;

/// Fills a queue that is bounded. When there is no room, everything from there on becomes one
/// `Reset`, as soon as half of the queue is read.
#[derive(Debug)]
pub(super) struct Told {
    queue: Sender<Change>,
    /// The instances that a reader has who applied everything in the queue, by their ids.
    instances: BTreeMap<String, Arc<Instance>>,
    stale: Option<Instant>,
    behind: bool,
}

impl Told {
    pub(super) fn new(queue: Sender<Change>) -> Self {
        Told {
            queue,
            instances: BTreeMap::new(),
            stale: None,
            behind: false,
        }
    }

    /// Whether the reader is to [catch up](Told::catch_up).
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    pub(super) fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            if self.behind {
                return;
            }
            // The reset of a reader that was behind told of it already.
            if let Change::Removed { instance, .. } = &change
                && self.instances.get(&instance.id) != Some(instance)
            {
                continue;
            }
            match self.queue.try_send(change.clone()) {
                Ok(()) => self.note(&change),
                Err(TrySendError::Full(_)) => self.behind = true,
                // Nobody reads.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Tells a reader that is behind how things are now, if it has read half of what was queued.
    pub(super) fn catch_up(&mut self, now: &[Arc<Instance>], stale: Option<Instant>) {
        let room = self.queue.capacity().unwrap_or(usize::MAX) / 2;
        if !self.behind || self.queue.len() > room {
            return;
        }
        self.behind = false;
        let health = match stale {
            since if since == self.stale => None,
            Some(since) => Some(Change::Stale { since }),
            None => Some(Change::Live),
        };
        self.tell(self.difference(now).into_iter().chain(health));
    }

    fn note(&mut self, change: &Change) {
        for gone in change.gone() {
            self.instances.remove(&gone.id);
        }
        for present in change.present() {
            let id = present.id.clone();
            self.instances.insert(id, Arc::clone(present));
        }
        match change {
            Change::Stale { since } => self.stale = Some(*since),
            Change::Live => self.stale = None,
            _ => {}
        }
    }

    /// What leads from what was told to `now`.
    fn difference(&self, now: &[Arc<Instance>]) -> Option<Change> {
        let (mut added, mut updated, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let mut gone = self.instances.clone();
        for instance in now {
            match gone.remove(&instance.id) {
                None => added.push(Arc::clone(instance)),
                Some(old) if old == *instance => {}
                Some(old) if old.addr == instance.addr => updated.push(Arc::clone(instance)),
                Some(old) => {
                    removed.push((old, Cause::Replaced));
                    added.push(Arc::clone(instance));
                }
            }
        }
        removed.extend(gone.into_values().map(|old| (old, Cause::Resync)));
        let some = !(added.is_empty() && updated.is_empty() && removed.is_empty());
        some.then_some(Change::Reset {
            added,
            updated,
            removed,
        })
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use proptest::prelude::*;

    use super::*;
    use crate::discovery::codec::Codec;
    use crate::discovery::directory::{Directory, Edit, Step};
    use crate::types::{KeyValue, LeaseId, Revision};

    #[derive(Clone, Debug)]
    enum Input {
        /// Several keys at one revision: which, and the address they have then, if any.
        Events(Vec<(u8, Option<u8>)>),
        Verdict(i64, Option<bool>),
        Relist(Vec<(u8, u8)>),
        Health(bool),
        Read(usize),
    }

    fn input() -> impl Strategy<Value = Input> {
        let edits = prop::collection::vec((0..5u8, prop::option::weighted(0.6, 0..3u8)), 1..5);
        let list = prop::collection::vec((0..5u8, 0..3u8), 0..5);
        prop_oneof![
            6 => edits.prop_map(Input::Events),
            3 => (1..3i64, any::<Option<bool>>()).prop_map(|(l, alive)| Input::Verdict(l, alive)),
            1 => list.prop_map(Input::Relist),
            2 => any::<bool>().prop_map(Input::Health),
            4 => (1..6usize).prop_map(Input::Read),
        ]
    }

    fn kv(key: u8, addr: u8, at: i64) -> KeyValue {
        KeyValue {
            key: format!("/services/web/{key}").into(),
            // The last property changes with every revision, the address only at times.
            value: format!(
                r#"{{"id":"{key}","addr":"h:{}","version":"{at}"}}"#,
                addr + 1
            )
            .into(),
            lease: i64::from(key % 2) + 1,
            mod_revision: at,
            ..KeyValue::default()
        }
    }

    /// A reader that takes every change literally.
    #[derive(Default)]
    struct Reader {
        known: BTreeMap<String, Arc<Instance>>,
        stale: bool,
    }

    impl Reader {
        fn apply(&mut self, change: &Change) {
            for gone in change.gone() {
                let old = self.known.remove(&gone.id);
                assert_eq!(old.as_ref(), Some(gone), "removed as it was: {change:?}");
            }
            for present in change.present() {
                let old = self.known.insert(present.id.clone(), Arc::clone(present));
                let is_new = match change {
                    Change::Added(_) => true,
                    Change::Reset { added, .. } => added.contains(present),
                    _ => false,
                };
                assert_eq!(old.is_none(), is_new, "{change:?}");
                assert_ne!(old.as_ref(), Some(present), "no news: {change:?}");
            }
            match change {
                Change::Stale { .. } => self.stale = true,
                Change::Live => assert!(std::mem::take(&mut self.stale), "live twice"),
                _ => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn whoever_applies_every_change_has_the_instances_however_slow_the_reader(
            inputs in prop::collection::vec(input(), 1..60),
        ) {
            let (sender, receiver) = bounded(6);
            let mut told = Told::new(sender);
            let mut directory = Directory::new(Codec::Native, "/services/");
            let mut reader = Reader::default();
            let mut asked = Vec::new();
            let mut at = 1;
            let done = |step: Step, told: &mut Told, asked: &mut Vec<LeaseId>| {
                asked.extend(step.suspects.iter().map(|suspect| suspect.lease));
                told.tell(step.changes);
            };
            done(directory.reset([], Revision::new(at)), &mut told, &mut asked);
            for input in inputs {
                at += 1;
                match input {
                    Input::Events(edits) => {
                        let edits: BTreeMap<_, _> = edits.into_iter().collect();
                        let edits = edits.into_iter().map(|(key, addr)| match addr {
                            Some(addr) => Edit::Put(kv(key, addr, at)),
                            None => Edit::Delete(kv(key, 0, at).key.clone()),
                        });
                        let step = directory.apply(edits, Revision::new(at));
                        done(step, &mut told, &mut asked);
                    }
                    Input::Verdict(lease, alive) => {
                        let lease = LeaseId::new(lease).unwrap();
                        if let Some(n) = asked.iter().position(|of| *of == lease) {
                            asked.remove(n);
                            let step = directory.verdict(lease, alive);
                            done(step, &mut told, &mut asked);
                        }
                    }
                    Input::Relist(list) => {
                        let list: BTreeMap<_, _> = list.into_iter().collect();
                        let list = list.into_iter().map(|(key, addr)| kv(key, addr, at));
                        let step = directory.reset(list, Revision::new(at));
                        done(step, &mut told, &mut asked);
                    }
                    Input::Health(true) => told.tell(directory.up()),
                    Input::Health(false) => told.tell(directory.down(Instant::now())),
                    Input::Read(count) => {
                        receiver.try_iter().take(count).for_each(|c| reader.apply(&c));
                    }
                }
                told.catch_up(&directory.instances(), directory.stale_since());
            }
            while let Some(lease) = asked.pop() {
                receiver.try_iter().for_each(|change| reader.apply(&change));
                told.catch_up(&directory.instances(), directory.stale_since());
                let step = directory.verdict(lease, Some(true));
                done(step, &mut told, &mut asked);
            }
            for _ in 0..3 {
                receiver.try_iter().for_each(|change| reader.apply(&change));
                told.catch_up(&directory.instances(), directory.stale_since());
            }
            let known: Vec<_> = reader.known.into_values().collect();
            prop_assert_eq!(&known[..], &*directory.instances());
            prop_assert_eq!(reader.stale, directory.stale_since().is_some());
        }
    }
}

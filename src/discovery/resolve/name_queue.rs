//! The bounded queue of the changes of a catalog: the names of its services, reduced to the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, Sender, bounded};

/// The number of changes that fit into the channel.
const CAPACITY: usize = 64;

/// A change of the services of a [`ServiceCatalog`](crate::ServiceCatalog).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogChange {
    /// A service has its first instance. At the beginning, it is reported for each service.
    Added(Arc<str>),
    /// The last instance of a service is gone.
    Removed(Arc<str>),
    /// The value of a key is not an instance. Other instances are unaffected.
    Bad {
        /// The key.
        key: Bytes,
        /// The reason, without the value.
        reason: String,
    },
}

/// The channel of the changes. The first request of a reader creates it.
#[derive(Debug, Default)]
pub(super) struct NameChannel(OnceLock<(Sender<CatalogChange>, Receiver<CatalogChange>)>);

impl NameChannel {
    /// Returns the channel, and whether this request created it.
    pub(super) fn request(&self) -> (&Receiver<CatalogChange>, bool) {
        let mut is_first = false;
        let (_, receiver) = self.0.get_or_init(|| {
            is_first = true;
            bounded(CAPACITY)
        });
        (receiver, is_first)
    }
}

/// The sending side. A slow reader receives the difference between the names that it knows and the present
/// ones, so the queue is never larger than the number of names.
#[derive(Debug, Default)]
pub(super) struct NameQueue {
    channel: Arc<NameChannel>,
    sender: Option<Sender<CatalogChange>>,
    reported: BTreeSet<Arc<str>>,
    changed: BTreeSet<Arc<str>>,
    bad: BTreeMap<Bytes, String>,
}

impl NameQueue {
    pub(super) fn channel(&self) -> Arc<NameChannel> {
        Arc::clone(&self.channel)
    }

    /// Records that a name was added or removed.
    pub(super) fn changed(&mut self, name: Arc<str>) {
        if self.sender.is_some() {
            self.changed.insert(name);
        }
    }

    /// Records a value that is not an instance.
    pub(super) fn bad(&mut self, key: Bytes, reason: String) {
        if self.sender.is_some() {
            self.bad.insert(key, reason);
        }
    }

    /// Moves changes into the channel while it has room. `bad` are the values that are not instances, for a
    /// new reader.
    pub(super) fn flush(
        &mut self,
        names: &BTreeSet<Arc<str>>,
        bad: impl FnOnce() -> BTreeMap<Bytes, String>,
    ) {
        if let (None, Some((sender, _))) = (&self.sender, self.channel.0.get()) {
            self.sender = Some(sender.clone());
            self.changed = names.clone();
            self.bad = bad();
        }
        let Some(sender) = &self.sender else { return };
        while let Some(name) = self.changed.first().cloned() {
            let change = match (self.reported.contains(&name), names.contains(&name)) {
                (false, true) => Some(CatalogChange::Added(name.clone())),
                (true, false) => Some(CatalogChange::Removed(name.clone())),
                _ => None,
            };
            if let Some(change) = change {
                let is_added = matches!(change, CatalogChange::Added(_));
                if sender.try_send(change).is_err() {
                    return;
                }
                match is_added {
                    true => self.reported.insert(name.clone()),
                    false => self.reported.remove(&name),
                };
            }
            self.changed.remove(&name);
        }
        while let Some((key, reason)) = self.bad.pop_first() {
            let change = CatalogChange::Bad {
                key: key.clone(),
                reason: reason.clone(),
            };
            if sender.try_send(change).is_err() {
                self.bad.insert(key, reason);
                return;
            }
        }
    }

    /// Whether changes wait for room in the channel.
    pub(super) fn is_full(&self) -> bool {
        !(self.changed.is_empty() && self.bad.is_empty())
    }

    /// Registers the wait for room in the channel, if it is needed.
    pub(super) fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        if let (true, Some(sender)) = (self.is_full(), &self.sender) {
            select.send(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: impl IntoIterator<Item = usize>) -> BTreeSet<Arc<str>> {
        let names = names.into_iter();
        names.map(|n| format!("s{n:04}").into()).collect()
    }

    #[test]
    fn a_slow_reader_receives_the_difference_of_the_names() {
        let mut queue = NameQueue::default();
        let mut present = names(0..200);
        present.iter().for_each(|name| queue.changed(name.clone()));
        queue.flush(&present, BTreeMap::new);
        assert!(!queue.is_full(), "nobody reads");
        let channel = queue.channel();
        let receiver = channel.request().0;
        queue.flush(&present, || BTreeMap::from([("k".into(), "bad".into())]));
        assert!(queue.is_full());
        // Each name goes and comes back again and again, and some stay away.
        for round in 0..100 {
            for name in names(0..200) {
                match round % 2 == 0 {
                    true => present.remove(&name),
                    false => present.insert(name.clone()),
                };
                queue.changed(name);
                queue.flush(&present, BTreeMap::new);
            }
        }
        for name in names(150..200) {
            present.remove(&name);
            queue.changed(name);
        }
        let (mut known, mut bad, mut received) = (BTreeSet::new(), 0, 0);
        loop {
            queue.flush(&present, BTreeMap::new);
            for change in receiver.try_iter() {
                received += 1;
                match change {
                    CatalogChange::Added(name) => assert!(known.insert(name)),
                    CatalogChange::Removed(name) => assert!(known.remove(&name)),
                    CatalogChange::Bad { .. } => bad += 1,
                }
            }
            if !queue.is_full() && receiver.is_empty() {
                break;
            }
        }
        assert_eq!((known, bad), (present, 1));
        assert!(received <= 400, "{received}");
    }
}

//! What happens to the instances of a service, as those who look are told.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::discovery::instance::Instance;

/// One thing that happened to a service, or to the view of it.
///
/// Whoever applies every change in order has the instances that the view has, with one delay: an
/// instance leaves the view at once, but its [`Removed`](Change::Removed) may come a moment later,
/// when it is known why.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use etcd_blocking::{Change, Instance};
///
/// fn follow(known: &mut BTreeMap<String, Arc<Instance>>, change: &Change) {
///     for instance in change.gone() {
///         known.remove(&instance.id);
///     }
///     for instance in change.present() {
///         known.insert(instance.id.clone(), instance.clone());
///     }
/// }
///
/// let mut known = BTreeMap::new();
/// let api = Arc::new(Instance::new("api", "10.0.0.5:8080"));
/// follow(&mut known, &Change::Added(api.clone()));
/// assert_eq!(known["10.0.0.5:8080"], api);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There is a new instance.
    Added(Arc<Instance>),
    /// An instance says something new about itself; its id and address are as before.
    Updated {
        /// As it is now.
        instance: Arc<Instance>,
        /// As it was.
        before: Arc<Instance>,
    },
    /// An instance is gone.
    Removed {
        /// As it was last seen.
        instance: Arc<Instance>,
        /// Why it is gone.
        cause: Cause,
    },
    /// The view made sure of everything anew, such as after it could not watch for a time: this is
    /// the difference, exactly. Where there is none, there is no such change. A reader that is slow gets
    /// it as changes of single instances.
    Reset {
        /// What was not there before.
        added: Vec<Arc<Instance>>,
        /// What says something new about itself, as it is now.
        updated: Vec<Arc<Instance>>,
        /// What is gone: [`Cause::Replaced`] when `added` has another address for the same id,
        /// [`Cause::Resync`] otherwise.
        removed: Vec<(Arc<Instance>, Cause)>,
    },
    /// The view cannot follow now: it shows what it knew last until [`Change::Live`].
    /// [`ServiceView::last_error`](crate::ServiceView::last_error) says why.
    Stale {
        /// Since when it may be behind.
        since: Instant,
    },
    /// The view follows again, and is up to date.
    Live,
    /// A key holds something that cannot be read as an instance; all others are unaffected.
    ///
    /// When it was an instance before, that one is [removed](Change::Removed), as
    /// [`Cause::Replaced`].
    Bad {
        /// The key.
        key: Bytes,
        /// What is wrong with its value, without showing it.
        reason: String,
    },
}

impl Change {
    /// The instances that this change adds, or gives a new state to.
    pub fn present(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let (one, added, updated): (_, &[_], &[_]) = match self {
            Change::Added(instance) | Change::Updated { instance, .. } => {
                (Some(instance), &[], &[])
            }
            Change::Reset { added, updated, .. } => (None, added, updated),
            _ => (None, &[], &[]),
        };
        one.into_iter().chain(added).chain(updated)
    }

    /// The instances that this change takes away. Apply them before [`present`](Change::present):
    /// in a reset the same id may be in both.
    pub fn gone(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.causes().map(|(instance, _)| instance)
    }

    /// The instances that this change takes away, each with its cause.
    pub fn causes(&self) -> impl Iterator<Item = (&Arc<Instance>, Cause)> {
        let (one, many): (_, &[_]) = match self {
            Change::Removed { instance, cause } => (Some((instance, *cause)), &[]),
            Change::Reset { removed, .. } => (None, removed),
            _ => (None, &[]),
        };
        let many = many.iter().map(|(instance, cause)| (instance, *cause));
        one.into_iter().chain(many)
    }
}

/// Why an instance is gone.
///
/// A client may want to end its calls to an instance that [expired](Cause::Expired), and let those
/// to one that [left](Cause::Left) finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its key was deleted while its lease lived on, or after it had said that it is
    /// [draining](crate::Status::Draining), or without having a lease: it went on purpose, or an
    /// operator took it out.
    Left,
    /// Its lease ended, and took the key along: it crashed, hung, lost the network, or its lease was
    /// revoked without a word before.
    Expired,
    /// Something else has its key: another address under the same id, or a value that cannot be
    /// read.
    Replaced,
    /// It vanished while the view could not watch.
    Resync,
    /// It could not be found out in time.
    Unknown,
}

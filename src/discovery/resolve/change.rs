//! The changes of a service that a view reports.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::discovery::instance::Instance;

/// A change of a service, or of the view of it.
///
/// A reader that applies every change in order has the instances of the snapshot. An instance is removed
/// from both when the cause is known, and when [`Protection`](crate::Protection) no longer holds it;
/// [`pick`](crate::ServiceView::pick) avoids it from the time at which its key is gone.
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
    /// An instance was added.
    Added(Arc<Instance>),
    /// Properties of an instance changed; its id and address are the same. A status of
    /// [`Suspect`](crate::Status::Suspect) is set by the view.
    Updated {
        /// The instance now.
        instance: Arc<Instance>,
        /// The instance before the change.
        before: Arc<Instance>,
    },
    /// An instance was removed.
    Removed {
        /// The instance as it was last known.
        instance: Arc<Instance>,
        /// The reason why it was removed.
        cause: Cause,
    },
    /// The view listed the service again, such as after it could not watch for a time. The change is the
    /// exact difference; without a difference there is none. A slow reader receives it as changes of
    /// single instances.
    Reset {
        /// The new instances.
        added: Vec<Arc<Instance>>,
        /// The instances whose properties changed, as they are now.
        updated: Vec<Arc<Instance>>,
        /// The removed instances: [`Cause::Replaced`] when `added` has another address for the same
        /// id, [`Cause::Resync`] otherwise.
        removed: Vec<(Arc<Instance>, Cause)>,
    },
    /// The view cannot follow etcd, and keeps its last list until [`Change::Live`].
    /// [`ServiceView::last_error`](crate::ServiceView::last_error) returns the reason.
    Stale {
        /// The time since which the view may be outdated.
        since: Instant,
    },
    /// The view follows etcd again, and is up to date.
    Live,
    /// The value of a key is not an instance. Other instances are unaffected.
    ///
    /// When it was an instance before, that one is [removed](Change::Removed), as
    /// [`Cause::Replaced`].
    Bad {
        /// The key.
        key: Bytes,
        /// The reason, without the value.
        reason: String,
    },
}

impl Change {
    /// Returns the instances that this change adds or updates.
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

    /// Returns the instances that this change removes.
    ///
    /// Apply them before those of [`present`](Change::present): in a reset the same id may be in both.
    pub fn gone(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.causes().map(|(instance, _)| instance)
    }

    /// Returns the instances that this change removes, each with its cause.
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

/// The reason why an instance was removed.
///
/// A client may cancel its calls to an instance that [expired](Cause::Expired), and finish those to one
/// that [left](Cause::Left).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its key was deleted while its lease lived, after it was
    /// [draining](crate::Status::Draining), or without a lease: it left on purpose, or an operator
    /// removed it.
    Left,
    /// Its key was deleted because its lease ended: it crashed, hung or lost the network, or its lease
    /// was revoked.
    Expired,
    /// Its key has another value: another address under the same id, or a value that is not an
    /// instance.
    Replaced,
    /// It was removed while the view could not watch.
    Resync,
    /// The cause could not be determined in time.
    Unknown,
}

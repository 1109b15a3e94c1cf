//! The request for a watch.

use crate::error::{Error, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::WatchCreateRequest;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_create_request::FilterType;
use crate::rpc::namespace::Namespace;
use crate::types::Revision;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// Requests the changes of one key or of a range of keys.
///
/// A key converts into a `Watch` of that key, and a [`KeyRange`] into a watch of that range:
/// `client.watch("config")?`.
///
/// ```no_run
/// use etcd_blocking::{Client, Revision, Watch};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let watcher = client.watch(Watch::prefix("svc/").start_revision(Revision::new(42)).prev_kv())?;
/// for response in &watcher {
///     for event in response?.events() {
///         println!("{:?} {}", event.kind(), event.kv().key_lossy());
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request does nothing until it is given to a client"]
pub struct Watch {
    pub(super) range: KeyRange,
    namespaced: Option<Box<NamespacedRange>>,
    pub(super) start: Revision,
    /// The revision up to which the caller has read the store, or `NONE`.
    pub(super) known: Revision,
    /// The epoch of the store that `known` was read from.
    pub(super) epoch: Option<u64>,
    pub(super) prev_kv: bool,
    pub(super) progress: bool,
    no_put: bool,
    no_delete: bool,
}

/// The namespace of a watch, and its range with the prefix of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamespacedRange {
    namespace: Namespace,
    outer: KeyRange,
}

impl Watch {
    /// Watches exactly this key.
    pub fn key(key: impl IntoBytes) -> Self {
        Watch::range(KeyRange::key(key))
    }

    /// Watches every key with this prefix. An empty prefix stands for all keys.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Watch::range(KeyRange::prefix(prefix))
    }

    /// Watches every key that is equal to this one or greater.
    pub fn from_key(key: impl IntoBytes) -> Self {
        Watch::range(KeyRange::from_key(key))
    }

    /// Watches a range of keys.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        Watch {
            range: range.into(),
            namespaced: None,
            start: Revision::NONE,
            known: Revision::NONE,
            epoch: None,
            prev_kv: false,
            progress: false,
            no_put: false,
            no_delete: false,
        }
    }

    /// Begins with the changes of this revision, which may be in the past (if it is not compacted) or
    /// in the future.
    ///
    /// Without it, or with [`Revision::NONE`], the watch delivers everything that is written after
    /// [`Client::watch`](crate::Client::watch) returned. To continue after a read, start at
    /// `response.header().revision.next()`.
    pub fn start_revision(mut self, revision: Revision) -> Self {
        self.start = revision;
        self
    }

    /// Adds to each event the key and value before the change, in
    /// [`Event::prev_kv`](crate::Event::prev_kv).
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }

    /// Delivers progress as well: responses without events, which state that everything up to their
    /// revision was delivered. The server sends one when a watch had no events for an interval, by
    /// default 10 minutes (`--watch-progress-notify-interval`).
    pub fn progress_notify(mut self) -> Self {
        self.progress = true;
        self
    }

    /// Filters out puts.
    pub fn no_put(mut self) -> Self {
        self.no_put = true;
        self
    }

    /// Filters out deletions.
    pub fn no_delete(mut self) -> Self {
        self.no_delete = true;
        self
    }

    /// The keys it watches.
    pub fn keys(&self) -> &KeyRange {
        &self.range
    }

    /// Begins after this revision, which the caller has seen in a read or write of its own.
    ///
    /// The watch starts at the next revision. A store that has not reached `known` has lost data, and
    /// the watch ends with [`Rewound`](crate::ErrorKind::Rewound). With
    /// [`start_revision`](Watch::start_revision), which may be in the future, it would wait.
    pub fn after(mut self, known: Revision) -> Self {
        self.start = known.next();
        self.known = known;
        self
    }

    /// Sets the epoch of the store that `known` was read from. A store that has replaced it ends the
    /// watch with [`Rewound`](crate::ErrorKind::Rewound), whatever its revision is.
    pub(crate) fn of_epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Moves the watch into a namespace: keys are sent with its prefix and delivered without it. An
    /// invalid watch is left unchanged; [`check`](Watch::check) refuses it.
    pub(crate) fn within(mut self, namespace: &Namespace) -> Self {
        if self.range.problem().is_none() {
            self.namespaced = Some(Box::new(NamespacedRange {
                outer: namespace.outer(&self.range),
                namespace: namespace.clone(),
            }));
        }
        self
    }

    /// The range as it is sent to the server.
    pub(super) fn outer(&self) -> &KeyRange {
        let namespaced = self.namespaced.as_ref();
        namespaced.map_or(&self.range, |namespaced| &namespaced.outer)
    }

    pub(super) fn namespace(&self) -> Option<&Namespace> {
        self.namespaced.as_ref().map(|inside| &inside.namespace)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(problem) = self.range.problem() {
            return Err(Error::invalid(problem));
        }
        if self.start.get() < 0 {
            return Err(Error::invalid(
                "the start revision is negative: use a positive one, or Revision::NONE for the present",
            ));
        }
        if self.no_put && self.no_delete {
            return Err(Error::invalid(
                "a watch with no_put and no_delete has no events: set at most one of them",
            ));
        }
        Ok(())
    }

    /// The message that creates the watch with `next` as its first revision.
    pub(super) fn create(&self, next: i64, fragment: bool) -> WatchCreateRequest {
        let mut filters = Vec::new();
        if self.no_put {
            filters.push(FilterType::Noput.into());
        }
        if self.no_delete {
            filters.push(FilterType::Nodelete.into());
        }
        WatchCreateRequest {
            key: self.outer().start().clone(),
            range_end: self.outer().range_end().clone(),
            start_revision: next,
            // Always set: progress advances the revision at which a watch without events resumes.
            progress_notify: true,
            filters,
            prev_kv: self.prev_kv,
            watch_id: 0,
            fragment,
        }
    }
}

impl<T: Into<KeyRange>> From<T> for Watch {
    fn from(range: T) -> Self {
        Watch::range(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_watches_are_refused() {
        assert!(Watch::key("").check().is_err());
        assert!(Watch::range(KeyRange::range("b", "a")).check().is_err());
        assert!(
            Watch::key("a")
                .start_revision(Revision::new(-1))
                .check()
                .is_err()
        );
        assert!(Watch::key("a").no_put().no_delete().check().is_err());
        assert!(Watch::key("a").no_put().check().is_ok());
        assert!(Watch::key("a").no_delete().check().is_ok());
        assert!(Watch::prefix("").check().is_ok());
        assert!(Watch::from("a").check().is_ok());
        assert!(Watch::from(KeyRange::all()).check().is_ok());
    }

    #[test]
    fn a_watch_in_a_namespace_sends_the_prefixed_keys() {
        let namespace = Namespace::new("app/".into()).unwrap();
        let create = Watch::prefix("").within(&namespace).create(1, false);
        assert_eq!(create.key, "app/\0");
        assert_eq!(create.range_end, "app0");
        let watch = Watch::key("a").within(&namespace);
        assert_eq!(
            (watch.create(1, false).key, watch.keys()),
            ("app/a".into(), &"a".into())
        );
        assert!(Watch::key("").within(&namespace).check().is_err());
    }

    #[test]
    fn a_create_request_has_progress_notify_and_no_watch_id() {
        let create = Watch::key("a").no_put().create(7, false);
        assert!(!create.fragment && create.progress_notify);
        assert_eq!((create.watch_id, create.start_revision), (0, 7));
        assert_eq!(create.filters, [0]);
    }
}

//! All services at one time. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_blocking::{Cause, Freshness, Instance, Revision, Status};

use super::timeline::Timeline;

/// All services of a prefix at one time.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Grows with each picture.
    pub(crate) version: u64,
    /// Whether the lists are up to date.
    pub(crate) freshness: Freshness,
    /// Why they are not, if etcd gave a reason.
    pub(crate) error: Option<String>,
    /// The services, by name. A service without instances stays for as long as its timeline has events.
    pub(crate) services: BTreeMap<Arc<str>, Arc<ServicePicture>>,
    /// Keys of the last hour whose values are not instances; the newest is last.
    pub(crate) bad: Arc<Vec<BadKey>>,
    /// The number of keys that were reported as such since the program began.
    pub(crate) bad_total: u64,
}

/// One service at one time.
#[derive(Clone, Debug)]
pub(crate) struct ServicePicture {
    /// The version of the picture in which it changed last.
    pub(crate) version: u64,
    pub(crate) name: Arc<str>,
    /// The instances, sorted by id.
    pub(crate) instances: Vec<Shown>,
    /// The revision of etcd up to which the list is complete.
    pub(crate) revision: Revision,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) counts: Counts,
}

/// An instance, and what its registration does not say.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) instance: Arc<Instance>,
    /// Since when it has its status; `None` if it had it when this program began.
    pub(crate) status_since: Option<SystemTime>,
}

/// What happened to a service since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) added: u64,
    pub(crate) updated: u64,
    pub(crate) left: u64,
    pub(crate) expired: u64,
    pub(crate) replaced: u64,
    pub(crate) resync: u64,
    pub(crate) unknown: u64,
}

/// A key whose value is not an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadKey {
    pub(crate) at: SystemTime,
    pub(crate) key: String,
    pub(crate) reason: String,
}

impl Picture {
    /// The picture before anything is known.
    pub(crate) fn unknown() -> Self {
        Picture {
            version: 0,
            freshness: Freshness::Unknown,
            error: None,
            services: BTreeMap::new(),
            bad: Arc::default(),
            bad_total: 0,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.freshness == Freshness::Live
    }

    /// For how long the lists may have been outdated: zero if they are live, `None` if etcd has never answered.
    pub(crate) fn age(&self) -> Option<Duration> {
        match self.freshness {
            Freshness::Live => Some(Duration::ZERO),
            Freshness::Stale { since } => Some(since.elapsed()),
            _ => None,
        }
    }

    /// The newest revision of its services.
    pub(crate) fn revision(&self) -> Revision {
        let revisions = self.services.values().map(|service| service.revision);
        revisions.max().unwrap_or_default()
    }
}

impl ServicePicture {
    /// The number of instances with a status.
    pub(crate) fn with_status(&self, status: Status) -> usize {
        let shown = self.instances.iter();
        shown
            .filter(|shown| shown.instance.status == status)
            .count()
    }
}

impl Counts {
    pub(super) fn removed(&mut self, cause: Cause) {
        let count = match cause {
            Cause::Left => &mut self.left,
            Cause::Expired => &mut self.expired,
            Cause::Replaced => &mut self.replaced,
            Cause::Resync => &mut self.resync,
            _ => &mut self.unknown,
        };
        *count += 1;
    }
}

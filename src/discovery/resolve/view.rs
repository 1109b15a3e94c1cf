//! The view of one service, which the worker keeps up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::catalog_link::CatalogLink;
use super::change::Change;
use super::change_queue::{ChangeChannel, ChangeQueue};
use super::freshness::{Freshness, Origin, SourceStates};
use super::service_list::ServiceList;
use super::source::{QUERY_TIMEOUT, Source};
use super::tcp_prober::{ProbeResults, TcpProber};
use super::view_start::{ViewSettings, ViewStart};
use super::view_state::{SharedPosition, SharedView};
use super::view_task::ViewTask;
use crate::client::Client;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_feed::OverrideFeed;
use crate::error::{Error, Operation, Result};
use crate::replica::mirror::Mirror;
use crate::runtime::Pending;
use crate::types::Revision;
use crate::worker::{PartHandle, Worker};

/// The instances of one service, kept up to date.
///
/// A view keeps its last list: while etcd is unreachable it returns the instances that it knew, and
/// since when they may be outdated; after etcd lost its data, the instances have 1 s to register again.
/// A view is created with its first list, so an empty list means that there are no instances, unless the view
/// was opened without etcd: [`freshness`](ServiceView::freshness) tells.
///
/// An instance whose registration expired is held for a time, because it may be alive: see
/// [`Protection`](crate::Protection).
///
/// A view ends only when it is dropped or the client is closed. Any error, such as an outage or a
/// withdrawn permission, makes it [stale](ServiceView::staleness) with a
/// [reason](ServiceView::last_error). It is live again once it can read.
///
/// All views of a client share one thread with its registrars. Dropping a view does not block.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Discovery};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let api = Discovery::new(&client).service("api")?;
/// api.wait_for(1, Duration::from_secs(10))?;
/// if let Some(instance) = api.pick() {
///     println!("calling {}", instance.addr);
/// }
/// for change in api.changes() {
///     println!("{change:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ServiceView {
    service: String,
    shared: Arc<SharedView>,
    changes: Arc<ChangeChannel>,
    mirrors: Vec<Arc<Mirror>>,
    refused_cache: Option<Error>,
    part: ViewPart,
    /// Held, so that the overrides are read while there is a view. A view of a catalog has none.
    #[expect(dead_code, reason = "its destructor ends the reads")]
    overrides: Option<Arc<OverrideFeed>>,
}

/// The part of the worker that serves a view.
#[derive(Debug)]
enum ViewPart {
    Own(PartHandle),
    Catalog(Arc<CatalogLink>),
}

impl ServiceView {
    pub(super) fn open(client: &Client, settings: ViewSettings, service: &str) -> Result<Self> {
        ServiceView::try_open(client, settings, service)
            .map_err(|error| error.operation(Operation::about("discover", service)))
    }

    fn try_open(client: &Client, settings: ViewSettings, service: &str) -> Result<Self> {
        let worker = Worker::of(client)?;
        let prober = client.attached(|| Ok(TcpProber::new()))?;
        let opened = ViewStart::new(client, &settings, service)?;
        let queries = client.with_timeout(QUERY_TIMEOUT);
        let ranges = settings.formats.iter().map(|format| format.range(service));
        let mirrors: Result<Vec<Mirror>> = match opened.origin {
            Origin::Etcd => {
                let pending: Vec<_> = ranges.map(|range| client.submit_mirror(range)).collect();
                pending.into_iter().map(Pending::wait).collect()
            }
            _ => ranges.map(|range| client.mirror_unlisted(range)).collect(),
        };
        let mirrors = mirrors?.into_iter().zip(settings.formats);
        let sources: Vec<Source> = mirrors
            .map(|(mirror, format)| {
                let mirror = Arc::new(mirror);
                Source::new(queries.clone(), mirror, format, settings.audit_every)
            })
            .collect();
        let mirrors = sources.iter().map(Source::mirror).cloned().collect();
        let now = Instant::now();
        let states = SourceStates::new(opened.origin, sources.len(), now);
        let position = Arc::new(SharedPosition::new(states.clone()));
        let shared = Arc::new(SharedView::new(settings.balancer, position));
        let (queue, changes) = ChangeQueue::new();
        let mut task = ViewTask {
            service: service.to_owned(),
            list: ServiceList::new(
                sources.len(),
                settings.protection,
                Arc::clone(shared.balancer().filter()),
            ),
            overrides: settings.overrides.reader(Some(service)),
            sources,
            states,
            is_stale_reported: false,
            shared: Arc::clone(&shared),
            queue,
            prober,
            probed: Arc::new(ProbeResults::default()),
            cache: opened.cache,
            telemetry: Arc::clone(client.telemetry()),
        };
        // The view is returned with its first list.
        task.open(opened.seeds, now);
        let part = worker.serve(Box::new(task));
        Ok(ServiceView {
            service: service.to_owned(),
            shared,
            changes,
            mirrors,
            refused_cache: opened.refused,
            part: ViewPart::Own(part),
            overrides: Some(settings.overrides),
        })
    }

    /// Creates a view of one service of a catalog.
    pub(super) fn of_catalog(
        service: &str,
        shared: Arc<SharedView>,
        changes: Arc<ChangeChannel>,
        mirrors: Vec<Arc<Mirror>>,
        catalog: Arc<CatalogLink>,
    ) -> Self {
        ServiceView {
            service: service.to_owned(),
            shared,
            changes,
            mirrors,
            refused_cache: None,
            part: ViewPart::Catalog(catalog),
            overrides: None,
        }
    }

    fn wake(&self) {
        match &self.part {
            ViewPart::Own(part) => part.wake(),
            ViewPart::Catalog(catalog) => catalog.wake(&self.service),
        }
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Returns all instances, sorted by id. It does not block, and sends no request.
    pub fn snapshot(&self) -> Arc<[Arc<Instance>]> {
        self.shared.snapshot()
    }

    /// Returns the revision up to which the snapshot is complete.
    ///
    /// It advances when the service changes, and during [`wait_revision`](ServiceView::wait_revision).
    pub fn revision(&self) -> Revision {
        self.shared.position().revision()
    }

    /// Returns the channel of changes. The first change is a [`Change::Reset`] with all instances.
    ///
    /// Reading is optional; a view whose changes are never requested stores none. The channel is
    /// bounded: further changes are reduced to the newest one of each instance, with the cause of its
    /// removal. The channel ends with the view; see [`ended`](ServiceView::ended).
    pub fn changes(&self) -> &Receiver<Change> {
        let (changes, is_first) = self.changes.request();
        if is_first {
            self.wake();
        }
        changes
    }

    /// Returns for how long the view may have been outdated, or `None` while it is live.
    pub fn staleness(&self) -> Option<Duration> {
        let since = self.shared.position().stale_since();
        since.map(|since| since.elapsed())
    }

    /// Returns where the instances come from, and whether they are up to date. It does not block.
    pub fn freshness(&self) -> Freshness {
        self.shared.position().freshness(Instant::now())
    }

    /// Returns why the view is [stale](ServiceView::staleness), or `None` while it is live. It does not
    /// block.
    ///
    /// Before etcd has answered, it is the reason why a [cache file](crate::Discovery::cache_dir) was
    /// refused, if it was.
    pub fn last_error(&self) -> Option<Error> {
        let refused = self.refused_cache.as_ref();
        let refused = refused.filter(|_| !self.freshness().is_authoritative());
        let stale = || self.mirrors.iter().find_map(|mirror| mirror.last_error());
        refused.cloned().or_else(stale)
    }

    /// Returns why the view ended, or `None` while it has not: it ends when the client is closed.
    pub fn ended(&self) -> Option<Error> {
        self.shared.position().end_reason()
    }

    pub(in crate::discovery) fn balancer(&self) -> &Balancer {
        self.shared.balancer()
    }

    /// Blocks until at least `n` instances can be picked, and returns the snapshot.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) after `timeout`; [`Closed`](crate::ErrorKind::Closed) or another kind
    /// when the view has ended.
    pub fn wait_for(&self, n: usize, timeout: Duration) -> Result<Arc<[Arc<Instance>]>> {
        self.shared.wait_for(&self.service, n, timeout)
    }

    /// Blocks until the view [follows](Freshness::Live) etcd, and returns the snapshot.
    ///
    /// It is for views that were opened without etcd.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](ServiceView::wait_for).
    pub fn wait_live(&self, timeout: Duration) -> Result<Arc<[Arc<Instance>]>> {
        self.shared.position().wait(
            &self.service,
            timeout,
            |position| position.sources.stale_since().is_none(),
            |position| {
                let freshness = position.sources.freshness(Instant::now());
                format!("the view does not follow etcd after {timeout:?}: {freshness:?}")
            },
        )?;
        Ok(self.snapshot())
    }

    /// Blocks until the snapshot is complete up to `revision`, and returns it.
    ///
    /// With the [revision](crate::Registration::revision) of a registration it waits until that instance
    /// is in the snapshot. The service need not change at `revision`.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](ServiceView::wait_for).
    pub fn wait_revision(
        &self,
        revision: Revision,
        timeout: Duration,
    ) -> Result<Arc<[Arc<Instance>]>> {
        let begun = Instant::now();
        let left = || timeout.saturating_sub(begun.elapsed());
        // Revisions of a store that was lost since may be higher.
        let epoch = self
            .mirrors
            .first()
            .map_or(0, |mirror| mirror.store_epoch());
        if !self.shared.position().has_reached(epoch, revision) {
            let mut mirrors = self.mirrors.iter();
            if mirrors.all(|mirror| mirror.wait_queued(revision, left()).is_ok()) {
                self.wake();
            }
        }
        self.shared.position().wait(
            &self.service,
            left(),
            |position| position.has_reached(epoch, revision),
            |position| {
                let reached = position.revision;
                format!("the view is at revision {reached} and not {revision} after {timeout:?}")
            },
        )?;
        Ok(self.snapshot())
    }
}

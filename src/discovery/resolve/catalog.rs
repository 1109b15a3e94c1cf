//! All services below a prefix, with one watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::catalog_link::{CatalogLink, CatalogState, MakeBalancer};
use super::catalog_task::CatalogTask;
use super::freshness::{Freshness, Origin, SourceStates};
use super::name_queue::{CatalogChange, NameChannel, NameQueue};
use super::source::{QUERY_TIMEOUT, Source};
use super::tcp_prober::TcpProber;
use super::view::ServiceView;
use super::view_start::ViewSettings;
use super::view_state::SharedPosition;
use crate::client::Client;
use crate::discovery::instance::check_name;
use crate::error::{Error, Operation, Result};
use crate::replica::mirror::Mirror;
use crate::runtime::Pending;
use crate::worker::Worker;

/// All services below a prefix, kept up to date by one watch for each format.
///
/// A catalog has the names of the services that have instances, and a [`ServiceView`] for each name that
/// is asked for. It costs etcd the same as one view, however many services there are. It reads every
/// instance below the prefix, so a program that needs few of many services should open views of those.
///
/// A catalog keeps its last list as a view does, and ends as a view does. Dropping it does not block, and
/// does not end its views.
///
/// ```no_run
/// use etcd_blocking::{CatalogChange, Client, Discovery};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let catalog = Discovery::new(&client).services()?;
/// for name in catalog.names() {
///     println!("{name}: {} instances", catalog.service(&name)?.snapshot().len());
/// }
/// for change in catalog.changes() {
///     if let CatalogChange::Added(name) = change {
///         println!("there is a service {name} now");
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ServiceCatalog {
    link: Arc<CatalogLink>,
    changes: Arc<NameChannel>,
    mirrors: Vec<Arc<Mirror>>,
}

impl ServiceCatalog {
    pub(super) fn open(
        client: &Client,
        settings: ViewSettings,
        make_balancer: MakeBalancer,
    ) -> Result<Self> {
        ServiceCatalog::try_open(client, settings, make_balancer)
            .map_err(|error| error.operation(Operation::new("discover services")))
    }

    fn try_open(
        client: &Client,
        settings: ViewSettings,
        make_balancer: MakeBalancer,
    ) -> Result<Self> {
        let worker = Worker::of(client)?;
        let prober = client.attached(|| Ok(TcpProber::new()))?;
        let queries = client.with_timeout(QUERY_TIMEOUT);
        let origin = match settings.allow_empty {
            true => Origin::Nothing,
            false => Origin::Etcd,
        };
        let ranges = settings.formats.iter().map(|format| format.all());
        let mirrors: Result<Vec<Mirror>> = match origin {
            Origin::Etcd => {
                let pending: Vec<_> = ranges.map(|range| client.submit_mirror(range)).collect();
                pending.into_iter().map(Pending::wait).collect()
            }
            _ => ranges.map(|range| client.mirror_unlisted(range)).collect(),
        };
        let sources = mirrors?.into_iter().zip(settings.formats);
        let sources: Vec<Source> = sources
            .map(|(mirror, format)| {
                let mirror = Arc::new(mirror);
                Source::new(queries.clone(), mirror, format, settings.audit_every)
            })
            .collect();
        let mirrors: Vec<_> = sources.iter().map(Source::mirror).cloned().collect();
        let now = Instant::now();
        let states = SourceStates::new(origin, sources.len(), now);
        let position = Arc::new(SharedPosition::new(states.clone()));
        let state = Arc::new(CatalogState::new(make_balancer, position));
        let names = NameQueue::default();
        let changes = names.channel();
        let telemetry = Arc::clone(client.telemetry());
        let mut task = CatalogTask::new(
            (sources, states),
            Arc::clone(&state),
            settings.overrides.reader(None),
            settings.protection,
            names,
            (prober, telemetry),
        );
        task.open(now);
        let part = worker.serve(Box::new(task));
        Ok(ServiceCatalog {
            link: Arc::new(CatalogLink::new(state, part, settings.overrides)),
            changes,
            mirrors,
        })
    }

    /// Returns the names of the services that have instances, sorted. It does not block, and sends no
    /// request.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.link.state().names()
    }

    /// Opens a view of a service. It does not block, sends no request, and needs no watch of its own.
    ///
    /// The service need not have instances. The view works as one of
    /// [`Discovery::service`](crate::Discovery::service), except that values which are not instances are
    /// reported by [`changes`](ServiceCatalog::changes) of the catalog only. All views of one service
    /// [pick](ServiceView::pick) in turn. The view stays when the catalog is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid service name.
    pub fn service(&self, name: &str) -> Result<ServiceView> {
        check_name("service", name)
            .map_err(|error| error.operation(Operation::about("discover", name)))?;
        let (shared, changes) = self.link.open(name);
        let (mirrors, link) = (self.mirrors.clone(), Arc::clone(&self.link));
        Ok(ServiceView::of_catalog(
            name, shared, changes, mirrors, link,
        ))
    }

    /// Returns the channel of changes. It begins with a [`CatalogChange::Added`] for each service.
    ///
    /// Reading is optional. The channel is bounded: further changes are reduced to the difference between the
    /// names that the reader knows and the present ones. The channel ends with the catalog and its views.
    pub fn changes(&self) -> &Receiver<CatalogChange> {
        let (changes, is_first) = self.changes.request();
        if is_first {
            self.link.wake_part();
        }
        changes
    }

    /// Returns where the instances come from, and whether they are up to date. It does not block.
    pub fn freshness(&self) -> Freshness {
        self.link.state().position().freshness(Instant::now())
    }

    /// Returns for how long the catalog may have been outdated, or `None` while it is live.
    pub fn staleness(&self) -> Option<Duration> {
        let since = self.link.state().position().stale_since();
        since.map(|since| since.elapsed())
    }

    /// Returns why the catalog is [stale](ServiceCatalog::staleness), or `None` while it is live. It does
    /// not block.
    pub fn last_error(&self) -> Option<Error> {
        self.mirrors.iter().find_map(|mirror| mirror.last_error())
    }

    /// Returns why the catalog ended, or `None` while it has not: it ends when the client is closed.
    pub fn ended(&self) -> Option<Error> {
        self.link.state().position().end_reason()
    }
}

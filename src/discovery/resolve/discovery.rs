//! Opens views of services.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::catalog::ServiceCatalog;
use super::protection::Protection;
use super::view::ServiceView;
use super::view_start::ViewSettings;
use crate::client::Client;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::balance::settings::BalanceSettings;
use crate::discovery::codec::{Codec, Format};
use crate::discovery::instance::{Instance, check_name};
use crate::discovery::overrides::override_feed::OverrideFeed;
use crate::error::{Operation, Result};

/// Finds the instances of services: opens a [`ServiceView`] for a service.
///
/// ```no_run
/// use etcd_blocking::{Balance, Client, Discovery, codec};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// // The format of the common Go programs, picked by round-robin.
/// let discovery = Discovery::new(&client).codec(codec::Plain).balance(Balance::RoundRobin);
/// let web = discovery.service("web")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Discovery {
    client: Client,
    format: Format,
    /// The formats that are read besides `format`.
    others: Vec<Format>,
    balance: BalanceSettings,
    /// The overrides below the prefix of `format`, which its views share.
    overrides: Arc<Mutex<Weak<OverrideFeed>>>,
    protection: Protection,
    cache_dir: Option<Arc<Path>>,
    fallback: Vec<Instance>,
    allow_empty: bool,
    audit_every: Option<Duration>,
}

/// The mean time between two audits of a view.
const AUDIT: Duration = Duration::from_secs(300);

/// The shortest time between two audits, so that they do not load etcd.
const MIN_AUDIT: Duration = Duration::from_millis(100);

/// The longest time between two audits: a year, so that the time of the next one exists.
const MAX_AUDIT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Discovery {
    /// Creates a discovery with [`codec::Native`](crate::codec::Native), its default prefix, and
    /// [`Balance::Weighted`](crate::Balance::Weighted).
    pub fn new(client: &Client) -> Self {
        Discovery {
            client: client.clone(),
            format: Format::default(),
            others: Vec::new(),
            balance: BalanceSettings::default(),
            overrides: Arc::default(),
            protection: Protection::default(),
            cache_dir: None,
            fallback: Vec::new(),
            allow_empty: false,
            audit_every: Some(AUDIT),
        }
    }

    /// Sets the format of keys and values, which must be one in which the registrar writes. The prefix is
    /// the codec's own from then on.
    pub fn codec(mut self, codec: impl Codec + 'static) -> Self {
        self.format = Format::new(codec);
        self.overrides = Arc::default();
        self.others.clear();
        self
    }

    /// Adds a format that is read besides the others, such as while instances move from one to another.
    ///
    /// Instances are merged by their address: an instance of a format is shown if no format before it has
    /// an instance with the same address. It is removed when the key of its last format is gone. A view has
    /// one watch for each format.
    ///
    /// ```no_run
    /// use etcd_blocking::{Client, Discovery, codec};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect("http://127.0.0.1:2379")?;
    /// let web = Discovery::new(&client)
    ///     .codec(codec::Native)
    ///     .add_codec(codec::Plain)
    ///     .prefix("/old/")
    ///     .service("web")?;
    /// # Ok(()) }
    /// ```
    pub fn add_codec(mut self, codec: impl Codec + 'static) -> Self {
        self.others.push(Format::new(codec));
        self
    }

    /// Sets the beginning of all keys, instead of the prefix of the codec that was named last. It must be
    /// that of the registrar.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        let last = self.others.last_mut().unwrap_or(&mut self.format);
        *last = last.clone().prefix(prefix.as_ref());
        // Those of another prefix are others.
        self.overrides = Arc::default();
        self
    }

    /// Sets how long instances are held that expired, and not left. The default is
    /// [`Protection::default`].
    pub fn protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    pub(in crate::discovery) fn client(&self) -> &Client {
        &self.client
    }

    pub(in crate::discovery) fn first_format(&self) -> &Format {
        &self.format
    }

    /// The settings of the balancers of its views.
    pub(in crate::discovery) fn balance_settings(&mut self) -> &mut BalanceSettings {
        &mut self.balance
    }

    /// Sets a directory in which each view keeps a file with its last list, for a start without etcd.
    ///
    /// A view with such a file is opened at once and without etcd. It shows the file's instances, as
    /// [`Freshness::Disk`](crate::Freshness::Disk), until etcd answers; then it reports the exact difference
    /// as one [`Change::Reset`](crate::Change::Reset). A view without a file is opened as if there were no
    /// directory.
    ///
    /// A file is written at most once a second, and only with a list that etcd returned and that holds no
    /// [suspects](crate::Status::Suspect). A write that fails is repeated after a random wait, which is
    /// between 1 second and 5 minutes and doubles. [`Metrics`](crate::metrics::Metrics) count each failure.
    ///
    /// The directory is created if it is missing when a view is opened. On Unix, only this user can read it
    /// and its files. A file that is damaged, belongs to another view, or may be written by other users is
    /// refused: `Metrics` count it, and [`ServiceView::last_error`] has the reason until etcd answers.
    /// Different clusters need different directories.
    pub fn cache_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.cache_dir = Some(dir.as_ref().into());
        self
    }

    /// Sets the instances that a view shows until etcd answers, if it has no
    /// [cache file](Discovery::cache_dir). Instances of other services are ignored.
    ///
    /// A view with such instances is opened at once and without etcd, as
    /// [`Freshness::Fallback`](crate::Freshness::Fallback).
    pub fn fallback(mut self, instances: impl IntoIterator<Item = Instance>) -> Self {
        self.fallback = instances.into_iter().collect();
        self
    }

    /// Lets a view be opened at once and without etcd, even if it has nothing to show.
    ///
    /// It is [`Freshness::Unknown`](crate::Freshness::Unknown) until etcd answers.
    pub fn allow_empty(mut self) -> Self {
        self.allow_empty = true;
        self
    }

    /// Sets the mean time between two audits of a view. The default is 5 minutes; zero disables them.
    ///
    /// An audit is one small request for each format. It compares the number of keys and the newest
    /// modification with those of the view. If they differ, the watch lost an event: the view lists its
    /// service again and reports the difference, and
    /// [`ViewMetrics::repairs`](crate::metrics::ViewMetrics::repairs) counts it. The time between two audits
    /// is random, from a half to three halves of `time`, and at least 50 ms.
    pub fn audit_every(mut self, time: Duration) -> Self {
        self.audit_every = (!time.is_zero()).then(|| time.clamp(MIN_AUDIT, MAX_AUDIT));
        self
    }

    /// Opens a view of a service, and blocks until its first list has been read.
    ///
    /// It does not block if the view has something to show without etcd: a
    /// [cache file](Discovery::cache_dir) or a [fallback](Discovery::fallback), or if it
    /// [may be empty](Discovery::allow_empty). It then follows etcd as soon as that answers; see
    /// [`ServiceView::freshness`].
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Discovery};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let api = Discovery::new(&client).service("api")?;
    /// for instance in api.snapshot().iter() {
    ///     println!("{} at {}", instance.id, instance.addr);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid service name or fallback or a
    /// subset of no instance; as [`Client::mirror`] when the list has to be read and cannot be.
    pub fn service(&self, name: &str) -> Result<ServiceView> {
        let about = || Operation::about("discover", name);
        check_name("service", name)
            .and_then(|()| self.balance.check())
            .map_err(|error| error.operation(about()))?;
        let fallback = self.fallback.iter().filter(|one| one.service == name);
        for instance in fallback.clone() {
            instance.check().map_err(|error| error.operation(about()))?;
        }
        let fallback = fallback.cloned().map(Arc::new).collect();
        let settings = self
            .settings(fallback)
            .map_err(|error| error.operation(about()))?;
        ServiceView::open(&self.client, settings, name)
    }

    /// Opens a catalog of all services below the prefix, and blocks until its first list has been read.
    ///
    /// It has one watch for each format, however many services there are. The
    /// [cache](Discovery::cache_dir) and the [fallback](Discovery::fallback) do not apply to it; if it
    /// [may be empty](Discovery::allow_empty), it is opened at once and without etcd. Each format needs a
    /// prefix below which there is nothing else.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Discovery};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let catalog = Discovery::new(&client).services()?;
    /// println!("{:?}", catalog.names());
    /// let api = catalog.service("api")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a subset of no instance; as
    /// [`Client::mirror`] when the list has to be read and cannot be.
    pub fn services(&self) -> Result<ServiceCatalog> {
        let checked = self.balance.check();
        checked.map_err(|error| error.operation(Operation::new("discover services")))?;
        let balance = self.balance.clone();
        let make_balancer = Box::new(move || Balancer::new(balance.clone()));
        let settings = self.settings(Vec::new());
        let settings =
            settings.map_err(|error| error.operation(Operation::new("discover services")))?;
        ServiceCatalog::open(&self.client, settings, make_balancer)
    }

    /// The overrides of its views. The first view begins to read them.
    fn overrides(&self) -> Result<Arc<OverrideFeed>> {
        let mut shared = self.overrides.lock();
        if let Some(feed) = shared.upgrade() {
            return Ok(feed);
        }
        let feed = OverrideFeed::open(&self.client, self.format.beginning())?;
        *shared = Arc::downgrade(&feed);
        Ok(feed)
    }

    fn settings(&self, fallback: Vec<Arc<Instance>>) -> Result<ViewSettings> {
        let mut formats = vec![self.format.clone()];
        formats.extend(self.others.iter().cloned());
        Ok(ViewSettings {
            overrides: self.overrides()?,
            formats,
            balancer: Balancer::new(self.balance.clone()),
            protection: self.protection.clone(),
            cache_dir: self.cache_dir.clone(),
            fallback,
            allow_empty: self.allow_empty,
            audit_every: self.audit_every,
        })
    }
}

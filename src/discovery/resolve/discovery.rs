//! Opens views of services.

use super::view::ServiceView;
use crate::client::Client;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::balance::settings::BalanceSettings;
use crate::discovery::codec::{Codec, Format};
use crate::discovery::instance::check_name;
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
    balance: BalanceSettings,
}

impl Discovery {
    /// Creates a discovery with [`codec::Native`](crate::codec::Native), its default prefix, and
    /// [`Balance::Weighted`](crate::Balance::Weighted).
    pub fn new(client: &Client) -> Self {
        Discovery {
            client: client.clone(),
            format: Format::default(),
            balance: BalanceSettings::default(),
        }
    }

    /// Sets the format of keys and values, which must be one in which the registrar writes. The prefix is
    /// the codec's own from then on.
    pub fn codec(mut self, codec: impl Codec + 'static) -> Self {
        self.format = Format::new(codec);
        self
    }

    /// Sets the beginning of all keys, instead of the prefix of the codec that was set before. It must be
    /// that of the registrar.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.format = self.format.prefix(prefix.as_ref());
        self
    }

    /// The settings of the balancers of its views.
    pub(in crate::discovery) fn balance_settings(&mut self) -> &mut BalanceSettings {
        &mut self.balance
    }

    /// Opens a view of a service, and blocks until its first list has been read.
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
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid service name or a subset of
    /// no instance; as [`Client::mirror`] when the list cannot be read.
    pub fn service(&self, name: &str) -> Result<ServiceView> {
        check_name("service", name)
            .and_then(|()| self.balance.check())
            .map_err(|e| e.operation(Operation::about("discover", name)))?;
        ServiceView::open(
            &self.client,
            self.format.clone(),
            Balancer::new(self.balance.clone()),
            name,
        )
    }
}

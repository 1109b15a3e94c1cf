//! Finding services.

use super::balance::Balance;
use super::balancer::Balancer;
use super::view::ServiceView;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::discovery::instance::check_name;
use crate::error::{Operation, Result};

/// Finds the instances of services.
///
/// ```no_run
/// use etcd_blocking::{Balance, Client, Codec, Discovery};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// // What the usual Go programs register, served in turn.
/// let discovery = Discovery::new(&client).codec(Codec::Plain).balance(Balance::RoundRobin);
/// let web = discovery.service("web")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Discovery {
    client: Client,
    codec: Codec,
    prefix: Option<String>,
    balance: Balance,
}

impl Discovery {
    /// On this client, with the codec `Native` and its prefix, picking by weight.
    pub fn new(client: &Client) -> Self {
        Discovery {
            client: client.clone(),
            codec: Codec::default(),
            prefix: None,
            balance: Balance::default(),
        }
    }

    /// The shape of keys and values; the same as the registrar's.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// What the keys begin with, instead of the codec's own prefix; the same as the registrar's.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How [`ServiceView::pick`] picks.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// The instances of a service, kept up to date. Blocks until the first list is there.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a name that no service can have;
    /// as [`Client::mirror`] when the list cannot be read.
    pub fn service(&self, name: &str) -> Result<ServiceView> {
        check_name("service", name).map_err(|e| e.operation(Operation::about("discover", name)))?;
        let prefix = self
            .prefix
            .as_deref()
            .unwrap_or(self.codec.default_prefix());
        ServiceView::open(
            &self.client,
            self.codec,
            prefix,
            Balancer::new(self.balance),
            name,
        )
    }
}

//! The settings of a `Discovery` about the choice of instances.

use std::sync::Arc;

use super::balance::Balance;
use super::ejection::Ejection;
use super::filter::Filter;
use super::retry_budget::RetryBudget;
use crate::discovery::resolve::discovery::Discovery;

/// Settings of the choice of an instance.
impl Discovery {
    /// Sets how [`ServiceView::pick`](crate::ServiceView::pick) and the other methods that choose an instance
    /// distribute calls.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance_settings().balance = balance;
        self
    }

    /// Sets which instances are picked from.
    ///
    /// Instances that [expired and are held](crate::Protection) are picked only if no other instance passes the
    /// filter.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.balance_settings().filter = Arc::new(filter);
        self
    }

    /// Sets the own zone, whose instances are preferred.
    ///
    /// All calls stay in the zone while at least 72 % of its weight can be used. With less, the zone gets 1.4 times
    /// its usable part, and the other zones get the rest; so they get all calls when the zone has no instance.
    /// Instances that are [`OutOfService`](crate::Status::OutOfService), in
    /// [`Maintenance`](crate::Status::Maintenance) or [ejected](crate::balance::Ejection) cannot be used.
    ///
    /// ```no_run
    /// use etcd_blocking::{Client, Discovery};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let api = Discovery::new(&client).zone("eu-1a").service("api")?;
    /// # Ok(()) }
    /// ```
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.balance_settings().zone = Some(zone.into());
        self
    }

    /// Limits the instances that are picked from to `size`, chosen by a hash of `client` and their ids.
    ///
    /// It keeps the number of connections low where many clients call many instances. `client` is the name of this
    /// client, which differs from those of the others and stays the same over restarts, such as the name of the
    /// host. When an instance joins or leaves, at most one of the subset is exchanged. With a
    /// [`zone`](Discovery::zone), the subset has `size` instances of it and `size` of the others.
    ///
    /// ```no_run
    /// use etcd_blocking::{Client, Discovery};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let api = Discovery::new(&client).subset(20, "web-7").service("api")?;
    /// # Ok(()) }
    /// ```
    pub fn subset(mut self, size: usize, client: impl Into<String>) -> Self {
        self.balance_settings().subset = Some((size, client.into()));
        self
    }

    /// Sets when an instance that fails is not picked for a time.
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.balance_settings().ejection = ejection;
        self
    }

    /// Sets how often [`ServiceView::call`](crate::ServiceView::call) tries another instance.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.balance_settings().retry_budget = budget;
        self
    }
}

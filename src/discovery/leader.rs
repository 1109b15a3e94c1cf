//! The leader of a service: one of its instances.

use std::time::Duration;

use crate::concurrency::{Election, Leadership, Session};
use crate::discovery::codec::Format;
use crate::discovery::instance::check_name;
use crate::discovery::register::registration::Registration;
use crate::discovery::resolve::discovery::Discovery;
use crate::error::{Operation, Result};
use crate::rpc::kv::Get;

/// How long a leader that crashed keeps the others from leading.
const TTL: Duration = Duration::from_secs(15);

impl Registration {
    /// Campaigns for the leadership of the service, and blocks until this instance leads.
    ///
    /// At most one instance of a service leads at a time. The [`Leadership`] has a fencing token, and a
    /// channel that reports its loss. Dropping it resigns. A leader that crashes keeps the others from leading
    /// for 15 s at most. The election is independent of the registration: an instance that leaves etcd
    /// does not resign.
    ///
    /// The election is below the prefix of the registrar's first codec, such as `/services/.leader/api`. It is
    /// that of [`concurrency::Election`](crate::concurrency::Election) and of Go's package `concurrency`, with
    /// the id of the instance as the value.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Discovery, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect("http://127.0.0.1:2379")?;
    /// # let registrar = Registrar::builder(&client).start()?;
    /// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080"))?;
    /// let leadership = registration.lead()?; // blocks
    /// println!("leads with the token {}", leadership.fencing_token());
    /// assert_eq!(Discovery::new(&client).leader("api")?.as_deref(), Some("10.0.0.5:8080"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Election::campaign`]. After an error the instance is not a candidate.
    pub fn lead(&self) -> Result<Leadership> {
        let instance = self.instance();
        self.election(&instance.service)?
            .campaign(instance.id.as_str())
    }

    /// Campaigns as [`lead`](Registration::lead), and blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Election::campaign_timeout`].
    pub fn lead_timeout(&self, timeout: Duration) -> Result<Leadership> {
        let instance = self.instance();
        self.election(&instance.service)?
            .campaign_timeout(instance.id.as_str(), timeout)
    }

    fn election(&self, service: &str) -> Result<Election> {
        let session = Session::builder(self.client()).ttl(TTL).start()?;
        let name = self.first_format().leader(service);
        Ok(Election::new(&session, name))
    }
}

impl Discovery {
    /// Returns the id of the instance that [leads](Registration::lead) a service, or `None` if none does.
    ///
    /// It reads from etcd, and blocks for the client's timeout at most. The prefix is that of the first codec.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid service name; as
    /// [`Client::get`](crate::Client::get).
    pub fn leader(&self, service: &str) -> Result<Option<String>> {
        let about = || Operation::about("discover the leader of", service);
        check_name("service", service).map_err(|error| error.operation(about()))?;
        let name = Format::leader(self.first_format(), service);
        // Each candidate has a key; the oldest one leads.
        let oldest = Get::first_by_create(format!("{name}/"));
        let read = self.client().call(oldest);
        let read = read.map_err(|error| error.operation(about()))?;
        let leader = read.kvs().first();
        Ok(leader.map(|kv| String::from_utf8_lossy(kv.value()).into_owned()))
    }
}

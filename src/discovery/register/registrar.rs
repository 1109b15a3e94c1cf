//! The registrar of a process, and its builder.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use super::command::Command;
use super::on_conflict::OnConflict;
use super::registrar_link::RegistrarLink;
use super::registrar_task::RegistrarTask;
use super::registration::{Registration, Shared};
use super::size_check::SizeCheck;
use super::verdict::Verdict;
use crate::client::Client;
use crate::discovery::codec::{Codec, Format};
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::util::atomic::AtomicU64;
use crate::util::jitter;
use crate::worker::Worker;

/// The longest TTL of a lease in etcd (`MaxLeaseTTL`).
const LONGEST: Duration = Duration::from_secs(9_000_000_000);

/// The time for which [`OnConflict::WaitForExpiry`] waits after the end of the predecessor's lease. etcd
/// checks for expired leases every 500 ms, and revokes them in batches.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3);

/// Registers instances of services, and keeps them registered under one shared lease.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Instance, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let registrar = Registrar::builder(&client).ttl(Duration::from_secs(15)).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080").weight(10))?;
/// println!("visible from revision {:?} on", registration.revision());
/// # Ok(()) }
/// ```
///
/// # Dropping
///
/// Dropping the registrar ends no registration. Of the registrar and its registrations, the one that
/// is dropped last waits until all instances have left etcd, at most 1 s; then the lease is no longer
/// renewed. [`Client::close`] takes them out of etcd too.
#[derive(Debug)]
pub struct Registrar {
    formats: Vec<Format>,
    /// Distinguishes the values of this registrar from those of another process.
    incarnation: u64,
    on_conflict: OnConflict,
    numbers: AtomicU64,
    link: Arc<RegistrarLink>,
}

/// The settings of a [`Registrar`].
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `ttl` | 15 s | how long an instance stays in etcd after its process is gone |
/// | `codec` | `Native` | the format of keys and values |
/// | `add_codec` | none | further formats in which each instance is written |
/// | `prefix` | the codec's | the beginning of every key |
/// | `on_conflict` | `Replace` | what to do when another process holds the key |
///
/// ```no_run
/// # use etcd_blocking::{Client, OnConflict, Registrar, codec};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let registrar = Registrar::builder(&client)
///     .codec(codec::Native)
///     .prefix("team-a/services/")
///     .on_conflict(OnConflict::Fail)
///     .start()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it registers nothing until start()"]
pub struct RegistrarBuilder {
    client: Client,
    ttl: Duration,
    first_format: Format,
    more_formats: Vec<Format>,
    on_conflict: OnConflict,
}

impl Registrar {
    /// Returns the settings of a new registrar, which [`RegistrarBuilder::start`] starts.
    ///
    /// Its calls have the client's timeout, and its keys are under the client's namespace.
    pub fn builder(client: &Client) -> RegistrarBuilder {
        RegistrarBuilder {
            client: client.clone(),
            ttl: Duration::from_secs(15),
            first_format: Format::default(),
            more_formats: Vec::new(),
            on_conflict: OnConflict::default(),
        }
    }

    /// Registers an instance, and blocks until etcd has it.
    ///
    /// An instance that no [codec](RegistrarBuilder::codec) of the registrar can express, such as one that takes no
    /// calls in a format without a status, is [withdrawn](crate::State::Withdrawn) at first.
    ///
    /// Blocks for the client's timeout at most, and for twice that time when the lease is granted in
    /// the meantime. With [`OnConflict::WaitForExpiry`] it also waits for the lease of the process that
    /// holds the key.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// # let registrar = Registrar::builder(&client).start()?;
    /// let api = registrar.register(Instance::new("api", "10.0.0.5:8080").meta("zone", "a"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// After an error the instance is not registered; a write that was already sent is undone.
    ///
    /// At once:
    ///
    /// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid instance
    /// - [`TooLarge`](crate::ErrorKind::TooLarge) for an instance that exceeds the client's send limit
    ///   or the server's request limit
    /// - [`Conflict`](crate::ErrorKind::Conflict) with [`OnConflict::Fail`] when another process holds
    ///   the key
    /// - [`PermissionDenied`](crate::ErrorKind::PermissionDenied) and other refusals of etcd (the key
    ///   must be readable and writable), and [`Tls`](crate::ErrorKind::Tls)
    ///
    /// When the time is over:
    ///
    /// - [`Conflict`](crate::ErrorKind::Conflict) with [`OnConflict::WaitForExpiry`] when the other
    ///   process renewed its lease
    /// - the kind of the last error, such as [`Unavailable`](crate::ErrorKind::Unavailable), or
    ///   [`Timeout`](crate::ErrorKind::Timeout) if there was none
    pub fn register(&self, instance: Instance) -> Result<Registration> {
        let registration = self.announce(instance)?;
        self.wait(&registration)?;
        Ok(registration)
    }

    /// Waits until an instance is registered, for the client's timeout or until a predecessor's lease
    /// must have expired.
    pub(super) fn wait(&self, registration: &Registration) -> Result<()> {
        let (begun, client) = (Instant::now(), self.link.client());
        let waited = registration.wait_or_fail(client.timeout());
        let (Err(late), Some(holder)) = (&waited, registration.held_by()) else {
            return waited.map(drop);
        };
        let Ok(lease) = client.time_to_live(holder) else {
            return Err(late.clone());
        };
        let timeout = lease.remaining().unwrap_or_default() + EXPIRY_MARGIN;
        let waited = registration.wait_or_fail(timeout);
        let (Err(late), Some(holder)) = (&waited, registration.held_by()) else {
            return waited.map(drop);
        };
        let left = match client.time_to_live(holder).map(|lease| lease.remaining()) {
            Ok(Some(left)) => format!(" with {left:?} left"),
            _ => String::new(),
        };
        let id = &registration.instance().id;
        let reason = format!(
            "its key belongs to lease {holder} of another process{left}, which did not expire in the \
             time waited; if that process should continue, register another id, otherwise stop it, \
             revoke the lease, or use OnConflict::Replace"
        );
        Err(Error::new(ErrorKind::Conflict, reason)
            .operation(Operation::about("register", id))
            .tried(0, begun.elapsed())
            .caused_by(late.clone()))
    }

    /// Registers many instances together, and blocks until etcd has all of them.
    ///
    /// The instances share transactions. Blocks as [`register`](Registrar::register), for each of
    /// them in turn.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// # let registrar = Registrar::builder(&client).start()?;
    /// let instances = (8000..8100).map(|port| Instance::new("api", format!("10.0.0.5:{port}")));
    /// let registrations = registrar.register_all(instances)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register`](Registrar::register), for the first that fails. Then none of them is
    /// registered.
    pub fn register_all(
        &self,
        instances: impl IntoIterator<Item = Instance>,
    ) -> Result<Vec<Registration>> {
        let registrations: Vec<_> = instances
            .into_iter()
            .map(|instance| self.announce(instance))
            .collect::<Result<_>>()?;
        for registration in &registrations {
            self.wait(registration)?;
        }
        Ok(registrations)
    }

    /// Begins to register an instance, and returns at once.
    ///
    /// It is for a program that starts even when etcd is unreachable.
    /// [`Registration::wait_registered`] waits until the instance is registered.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// # let registrar = Registrar::builder(&client).start()?;
    /// let api = registrar.announce(Instance::new("api", "10.0.0.5:8080"))?;
    /// println!("{:?}", api.state());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid instance;
    /// [`TooLarge`](crate::ErrorKind::TooLarge) for an instance that exceeds the client's send limit;
    /// [`Closed`](crate::ErrorKind::Closed) on a closed client.
    pub fn announce(&self, instance: Instance) -> Result<Registration> {
        self.announce_with(instance, Verdict::Healthy)
    }

    /// Begins to register an instance as its health checks allow.
    pub(in crate::discovery) fn announce_with(
        &self,
        instance: Instance,
        verdict: Verdict,
    ) -> Result<Registration> {
        let about = Operation::about("register", &instance.id);
        instance
            .check()
            .map_err(|error| error.operation(about.clone()))?;
        let instance = Instance {
            since: instance.since.or_else(|| Some(unix_ms())),
            incarnation: self.incarnation,
            ..instance
        };
        let first = self.formats.first();
        let checked = first.map_or(Ok(()), |format| format.check_id(&instance));
        checked
            .and_then(|()| self.link.check_size(&instance))
            .map_err(|error| error.operation(about.clone()))?;
        let shared = Shared::new(Arc::new(instance), verdict);
        let number = self.numbers.fetch_add(1, Relaxed);
        let on_conflict = self.on_conflict;
        let add = Command::Add {
            number,
            shared: Arc::clone(&shared),
            on_conflict,
        };
        let link = Arc::clone(&self.link);
        link.send(add).map_err(|error| error.operation(about))?;
        Ok(Registration::new(number, shared, link))
    }

    /// Takes all instances of this registrar out of etcd, and blocks until that is done.
    ///
    /// Uses as few requests as possible, and blocks for the client's timeout at most. The registrar can
    /// register other instances afterwards.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Instance, Registrar};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let registrar = Registrar::builder(&client).start()?;
    /// let instances = (8000..8500).map(|port| Instance::new("api", format!("10.0.0.5:{port}")));
    /// let registrations = registrar.register_all(instances)?;
    /// registrar.leave_all()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Registration::leave`]; the text has the number of instances that did not leave. The
    /// worker continues to try.
    pub fn leave_all(&self) -> Result<()> {
        self.link.leave_all(self.link.client().timeout())
    }
}

impl RegistrarBuilder {
    /// Sets how long an instance stays in etcd after its process has ended. The default is 15 s.
    ///
    /// The range is 1 s to 9,000,000,000 s, and fractions of a second are rounded up. A server may
    /// grant more: the minimum is about 2 s with its default settings.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the format of keys and values, with its own prefix. The default is
    /// [`codec::Native`](crate::codec::Native).
    ///
    /// It must keep the ids of instances, or the ids must be the addresses.
    pub fn codec(mut self, codec: impl Codec + 'static) -> Self {
        self.first_format = Format::new(codec);
        self
    }

    /// Adds another format, with its own prefix. Each instance is written in all formats.
    ///
    /// All keys of an instance are attached to one lease. They are put, changed and deleted in one
    /// transaction, so that readers of all formats see the same at the same revision. Only a key that
    /// was lost alone is restored alone. When etcd refuses one of the keys, such as for a missing
    /// permission, none is written.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Registrar, codec};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// // For readers of this crate, and for Go programs that read addresses.
    /// let registrar = Registrar::builder(&client)
    ///     .codec(codec::Native)
    ///     .add_codec(codec::Plain)
    ///     .prefix("/go/")
    ///     .start()?;
    /// # Ok(()) }
    /// ```
    pub fn add_codec(mut self, codec: impl Codec + 'static) -> Self {
        self.more_formats.push(Format::new(codec));
        self
    }

    /// Sets the beginning of every key of the codec that was set or added last, instead of that codec's own
    /// prefix.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        let last = self.more_formats.last_mut();
        let last = last.unwrap_or(&mut self.first_format);
        *last = last.clone().prefix(prefix.as_ref());
        self
    }

    /// Sets what to do when another process holds the key of an instance. The default is
    /// [`OnConflict::Replace`].
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Starts the registrar. It does not wait for etcd.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a TTL outside its range;
    /// [`Closed`](crate::ErrorKind::Closed) on a closed client; [`Os`](crate::ErrorKind::Os) when no
    /// thread can be started.
    pub fn start(self) -> Result<Registrar> {
        if self.ttl < Duration::from_secs(1) {
            return Err(Error::invalid("the TTL of a registrar must be at least 1s"));
        }
        if self.ttl > LONGEST {
            return Err(Error::invalid(
                "the TTL of a registrar must be at most 9000000000s",
            ));
        }
        let worker = Worker::of(&self.client)?;
        let (commands, queue) = unbounded();
        let client = self.client.clone();
        let first = std::iter::once(self.first_format.clone());
        let formats: Vec<Format> = first.chain(self.more_formats.iter().cloned()).collect();
        let sizes = SizeCheck::new(&client, self.first_format, self.more_formats);
        let task = RegistrarTask::new(self.client, formats.clone(), self.ttl, queue)?;
        let part = worker.serve(Box::new(task));
        Ok(Registrar {
            formats,
            // 53 bits, so that programs whose JSON numbers are floats read it exactly.
            incarnation: (jitter::number() >> 11).max(1),
            on_conflict: self.on_conflict,
            numbers: AtomicU64::new(1),
            link: RegistrarLink::new(commands, part, client, sizes),
        })
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

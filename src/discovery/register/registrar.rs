//! What the owner of a process's registrations holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use super::leave_group::LeaveTicket;
use super::registrar_link::RegistrarLink;
use super::registrar_task::RegistrarTask;
use super::registration::{Registration, Shared};
use super::size_check::SizeCheck;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::worker::Worker;

/// etcd's own limit for the life of a lease.
const LONGEST: Duration = Duration::from_secs(9_000_000_000);

/// How much longer than the lease of a predecessor lives, [`OnConflict::WaitForExpiry`] waits for
/// it: etcd looks for leases that ended every half second, and revokes them one batch after the other.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3);

/// What to do when the key of an instance is taken by somebody else's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// Do not register: an error of the kind [`Conflict`](crate::ErrorKind::Conflict).
    Fail,
    /// Take it over: a process that was restarted does not wait for what its predecessor left
    /// behind. The predecessor, if it still runs, sees itself replaced and does not fight.
    #[default]
    Replace,
    /// Wait until it is gone. [`Registrar::register`] waits as long as the lease of the process that
    /// has it still lives, also when that is longer than the client's timeout. When that process
    /// renewed its lease meanwhile, the error is of the kind [`Conflict`](crate::ErrorKind::Conflict)
    /// and names the lease.
    WaitForExpiry,
}

/// Registers instances of services, and keeps them registered, all under one lease.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Instance, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let registrar = Registrar::builder(&client).ttl(Duration::from_secs(15)).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080").weight(10))?;
/// println!("visible to everybody from revision {:?} on", registration.revision());
/// # Ok(()) }
/// ```
///
/// Dropping it ends nothing while its registrations live. Of the registrar and its registrations, the
/// one that is dropped last waits until all of them have left, at most a second; then the lease is no
/// longer renewed. [`Client::close`] leaves first, too.
#[derive(Debug)]
pub struct Registrar {
    codec: Codec,
    on_conflict: OnConflict,
    numbers: AtomicU64,
    link: Arc<RegistrarLink>,
}

/// The settings of a [`Registrar`].
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `ttl` | 15 s | how long an instance stays in etcd after its process is gone |
/// | `codec` | `Native` | the shape of keys and values |
/// | `prefix` | the codec's | what the keys begin with |
/// | `on_conflict` | `Replace` | what to do when the key is taken |
#[derive(Clone, Debug)]
#[must_use = "it registers nothing until start()"]
pub struct RegistrarBuilder {
    client: Client,
    ttl: Duration,
    codec: Codec,
    prefix: Option<String>,
    on_conflict: OnConflict,
}

/// What the worker is told.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        number: u64,
        shared: Arc<Shared>,
        on_conflict: OnConflict,
    },
    /// The instance of this registration was changed.
    Update(u64),
    Leave(u64, LeaveTicket),
    LeaveAll(LeaveTicket),
}

impl Registrar {
    /// The settings of a new registrar on this client.
    #[expect(clippy::new_ret_no_self, reason = "there is none before start()")]
    pub fn builder(client: &Client) -> RegistrarBuilder {
        RegistrarBuilder {
            client: client.clone(),
            ttl: Duration::from_secs(15),
            codec: Codec::default(),
            prefix: None,
            on_conflict: OnConflict::default(),
        }
    }

    /// Registers an instance, and blocks until etcd has it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an instance that cannot be
    /// registered; [`TooLarge`](crate::ErrorKind::TooLarge) for one that the client does not send, or
    /// the server does not take; [`Conflict`](crate::ErrorKind::Conflict) by [`OnConflict::Fail`], and
    /// by [`OnConflict::WaitForExpiry`] when whoever has it goes on renewing its lease.
    /// What etcd refuses, such as with [`PermissionDenied`](crate::ErrorKind::PermissionDenied)
    /// (the key must be readable and writable), and [`Tls`](crate::ErrorKind::Tls), at once.
    /// After the client's timeout, and once more that long when the lease was granted meanwhile:
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or another kind by the last trouble on the way,
    /// or [`Timeout`](crate::ErrorKind::Timeout). Then it is not registered; a step that is under way
    /// is undone.
    pub fn register(&self, instance: Instance) -> Result<Registration> {
        let registration = self.announce(instance)?;
        self.wait(&registration)?;
        Ok(registration)
    }

    /// Waits until an instance is registered: for the client's timeout, or until a predecessor's
    /// lease must have ended.
    fn wait(&self, registration: &Registration) -> Result<()> {
        let (begun, client) = (Instant::now(), self.link.client());
        let waited = registration.wait_now(client.timeout());
        let (Err(late), Some(holder)) = (&waited, registration.held_by()) else {
            return waited.map(drop);
        };
        let Ok(lease) = client.time_to_live(holder) else {
            return Err(late.clone());
        };
        let patience = lease.remaining().unwrap_or_default() + EXPIRY_MARGIN;
        let waited = registration.wait_now(patience);
        let (Err(late), Some(holder)) = (&waited, registration.held_by()) else {
            return waited.map(drop);
        };
        let left = match client.time_to_live(holder).map(|lease| lease.remaining()) {
            Ok(Some(left)) => format!(" and has {left:?} left"),
            _ => String::new(),
        };
        let id = &registration.instance().id;
        let reason = format!(
            "lease {holder} of another process holds its key{left}, and was waited for; if that \
             process is to go on, register another id, otherwise stop it, revoke the lease, or use \
             OnConflict::Replace"
        );
        Err(Error::new(ErrorKind::Conflict, reason)
            .operation(Operation::about("register", id))
            .tried(0, begun.elapsed())
            .caused_by(late.clone()))
    }

    /// Registers many instances together, and blocks until etcd has them all.
    ///
    /// # Errors
    ///
    /// As [`register`](Registrar::register), for the first that fails; then none is registered.
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

    /// Begins to register an instance and returns at once: for a program that starts although etcd
    /// is away. [`Registration::wait_registered`] waits for it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an instance that cannot be
    /// registered; [`TooLarge`](crate::ErrorKind::TooLarge) for one that the client does not send.
    pub fn announce(&self, instance: Instance) -> Result<Registration> {
        let about = Operation::about("register", &instance.id);
        instance
            .check()
            .map_err(|error| error.operation(about.clone()))?;
        let instance = if instance.since.is_some() {
            instance
        } else {
            instance.registered_at(unix_ms())
        };
        if self.codec == Codec::Plain && instance.id != instance.addr {
            let reason = "the codec Plain has no place for an id: it is the address";
            return Err(Error::invalid(reason).operation(about));
        }
        self.link
            .check_size(&instance)
            .map_err(|error| error.operation(about.clone()))?;
        let shared = Shared::new(Arc::new(instance));
        let number = self.numbers.fetch_add(1, Relaxed);
        let on_conflict = self.on_conflict;
        let add = Command::Add {
            number,
            shared: Arc::clone(&shared),
            on_conflict,
        };
        let link = Arc::clone(&self.link);
        link.tell(add).map_err(|error| error.operation(about))?;
        Ok(Registration::new(number, shared, link))
    }

    /// Takes all its instances out of etcd, in as few requests as they fit in, and waits until that
    /// is done, at most for the client's timeout. The registrar can register others afterwards.
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
    /// As [`Registration::leave`], with how many did not leave; the worker goes on trying.
    pub fn leave_all(&self) -> Result<()> {
        self.link.leave_all(self.link.client().timeout())
    }
}

impl RegistrarBuilder {
    /// How long an instance stays in etcd after its process is gone: from 1 s, in whole seconds
    /// rounded up. A server may make it longer (the least is about 2 s with its default settings).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The shape of keys and values.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// What the keys begin with, instead of the codec's own prefix.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// What to do when the key of an instance is taken.
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Starts it. It does not wait for etcd.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a time to live below 1 s,
    /// [`Closed`](crate::ErrorKind::Closed) on a closed client, [`Os`](crate::ErrorKind::Os) when no
    /// thread can be started.
    pub fn start(self) -> Result<Registrar> {
        if self.ttl < Duration::from_secs(1) {
            return Err(Error::invalid(
                "the time to live of a registration is at least 1s",
            ));
        }
        if self.ttl > LONGEST {
            return Err(Error::invalid(
                "the time to live of a registration is at most 9000000000s",
            ));
        }
        let prefix = self
            .prefix
            .unwrap_or_else(|| self.codec.default_prefix().to_owned());
        let worker = Worker::of(&self.client)?;
        let (commands, queue) = unbounded();
        let client = self.client.clone();
        let sizes = SizeCheck::new(&client, self.codec, prefix.clone());
        let roster = RegistrarTask::new(self.client, self.codec, prefix, self.ttl, queue)?;
        worker.serve(Box::new(roster))?;
        Ok(Registrar {
            codec: self.codec,
            on_conflict: self.on_conflict,
            numbers: AtomicU64::new(1),
            link: RegistrarLink::new(commands, worker, client, sizes),
        })
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

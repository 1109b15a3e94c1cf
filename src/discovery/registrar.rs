//! What the owner of a process's registrations holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};

use super::codec::Codec;
use super::instance::Instance;
use super::registration::{Registration, Shared};
use super::roster::Roster;
use super::size_check::SizeCheck;
use super::worker::Worker;
use crate::client::Client;
use crate::error::{Error, Operation, Result};

/// etcd's own limit for the life of a lease.
const LONGEST: Duration = Duration::from_secs(9_000_000_000);

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
    /// Wait until it is gone.
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
/// let registrar = Registrar::new(&client).ttl(Duration::from_secs(15)).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080").weight(10))?;
/// println!("visible to everybody from revision {:?} on", registration.revision());
/// # Ok(()) }
/// ```
///
/// Dropping it ends nothing while its registrations live; with the last of them, its lease is no
/// longer renewed.
#[derive(Debug)]
pub struct Registrar {
    codec: Codec,
    on_conflict: OnConflict,
    timeout: Duration,
    commands: Sender<Command>,
    numbers: AtomicU64,
    sizes: Arc<SizeCheck>,
    answers: Arc<AtomicBool>,
    worker: Arc<Worker>,
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
    Update(u64, Arc<Instance>),
    Leave(u64, Sender<Result<()>>),
}

impl Registrar {
    /// The settings of a new registrar on this client.
    #[expect(clippy::new_ret_no_self, reason = "there is none before start()")]
    pub fn new(client: &Client) -> RegistrarBuilder {
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
    /// the server does not take; [`Conflict`](crate::ErrorKind::Conflict) by [`OnConflict::Fail`].
    /// What etcd refuses, such as with [`PermissionDenied`](crate::ErrorKind::PermissionDenied)
    /// (the key must be readable and writable), and [`Tls`](crate::ErrorKind::Tls), at once.
    /// After the client's timeout, and once more that long when the lease was granted meanwhile:
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or another kind by the last trouble on the way,
    /// or [`Timeout`](crate::ErrorKind::Timeout). Then nothing is registered, and nothing will be.
    pub fn register(&self, instance: Instance) -> Result<Registration> {
        let registration = self.announce(instance)?;
        registration.wait_now(self.timeout)?;
        Ok(registration)
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
            registration.wait_now(self.timeout)?;
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
        self.sizes
            .check(&instance)
            .map_err(|error| error.operation(about.clone()))?;
        let shared = Shared::new(Arc::new(instance));
        let number = self.numbers.fetch_add(1, Relaxed);
        let on_conflict = self.on_conflict;
        let add = Command::Add {
            number,
            shared: Arc::clone(&shared),
            on_conflict,
        };
        self.commands
            .send(add)
            .map_err(|_| Error::closed().operation(about))?;
        Ok(Registration {
            number,
            shared,
            commands: self.commands.clone(),
            answers: Arc::clone(&self.answers),
            sizes: Arc::clone(&self.sizes),
            _worker: Arc::clone(&self.worker),
            left: false,
        })
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
        let timeout = self.client.timeout();
        let sizes = Arc::new(SizeCheck::new(&self.client, self.codec, prefix.clone()));
        let answers = Arc::new(AtomicBool::new(true));
        let roster = Roster::new(
            self.client,
            self.codec,
            prefix,
            self.ttl,
            queue,
            Arc::clone(&answers),
        )?;
        worker.serve(Box::new(roster))?;
        Ok(Registrar {
            codec: self.codec,
            on_conflict: self.on_conflict,
            timeout,
            commands,
            numbers: AtomicU64::new(1),
            sizes,
            answers,
            worker,
        })
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

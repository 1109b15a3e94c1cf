//! The builder of a client.

mod from_config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::client::Client;
use crate::client::config::Config;
use crate::client::into_endpoints::IntoEndpoints;
use crate::error::{Error, Operation, Result};
use crate::grpc::connect::dns_srv::SrvLookup;
use crate::grpc::connect::endpoint::{Endpoint, Written, parse_all};
#[cfg(feature = "__tls")]
use crate::grpc::tls::{Connector, Tls};
use crate::grpc::{Identity, MessageLimits, Resolver, Timers, Tokens, TransportSettings};
use crate::runtime::{Capacity, DriveMode, clock};
use crate::util::secret::Secret;

/// The settings of a [`Client`], which [`connect`](ClientBuilder::connect) makes.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `discovery_srv` | no lookup | endpoints from DNS instead of a list |
/// | `timeout` | 5 s | the deadline of every call, retries included |
/// | `connect_timeout` | 3 s | one connection attempt, up to the server's first answer |
/// | `ping_interval` | 10 s | how long a server may be silent while a request waits |
/// | `ping_timeout` | 5 s | how long a server has to answer a ping |
/// | `receive_limit` | 64 MiB | the largest reply |
/// | `send_limit` | 2 MiB | the largest request |
/// | `max_txn_ops` | 128 | the most operations of a transaction |
/// | `tls` | the system's authorities | for `https` endpoints: a `Tls` |
/// | `watch_queue` | 4,096 responses, 8 MiB | the responses that wait for a slow reader of a watch |
/// | `user` | none | the user, with a password |
/// | `token` | none | a token made elsewhere, instead of a user |
/// | `allow_plaintext_credentials` | no | send password and token over connections without TLS |
/// | `sync_interval` | never | how often the endpoints are read from the member list |
/// | `reject_old_cluster` | no | whether `connect` refuses servers before 3.6 |
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::Client;
///
/// let client = Client::builder(["http://10.0.0.1:2379", "http://10.0.0.2:2379"])
///     .timeout(Duration::from_secs(2))
///     .connect()?;
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is created before connect()"]
pub struct ClientBuilder {
    endpoints: Vec<Written>,
    srv: Option<SrvLookup>,
    timeout: Duration,
    connect_timeout: Duration,
    ping_interval: Duration,
    ping_timeout: Duration,
    limits: MessageLimits,
    watch_room: Capacity,
    user: Option<(String, Secret)>,
    token: Option<Secret>,
    plaintext_credentials: bool,
    drive: DriveMode,
    resolver: Resolver,
    sync_interval: Option<Duration>,
    reject_old_cluster: bool,
    #[cfg(feature = "__tls")]
    tls: Option<Tls>,
}

impl Client {
    /// Creates a client for these endpoints with the default settings.
    ///
    /// It does not wait for etcd: the first call connects. [`ready`](Client::ready) waits.
    /// The endpoints are one text, a list separated by commas, or a collection. An endpoint is
    /// `http://host:port`, `host:port` or `unix:/path/to/socket`; under TLS it is `https://host:port` or
    /// `unixs:/path/to/socket`. TLS uses the system's certificate authorities unless
    /// [`ClientBuilder::tls`](crate::ClientBuilder) sets others. All endpoints use TLS, or none does.
    ///
    /// ```no_run
    /// use etcd_blocking::Client;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// let one = Client::connect("http://127.0.0.1:2379")?;
    /// let cluster = Client::connect("10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379")?;
    /// let listed = Client::connect(["10.0.0.1:2379", "10.0.0.2:2379"])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an endpoint that cannot be parsed;
    /// [`Os`](crate::ErrorKind::Os) when the runtime's thread cannot be started.
    pub fn connect(endpoints: impl IntoEndpoints) -> Result<Client> {
        Client::builder(endpoints).connect()
    }

    /// Starts a [`ClientBuilder`] for these endpoints, which has all settings.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use etcd_blocking::Client;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// let client = Client::builder(["10.0.0.1:2379", "10.0.0.2:2379"])
    ///     .timeout(Duration::from_secs(2))
    ///     .connect()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(endpoints: impl IntoEndpoints) -> ClientBuilder {
        ClientBuilder::new(endpoints)
    }
}

impl ClientBuilder {
    pub(crate) fn new(endpoints: impl IntoEndpoints) -> Self {
        let endpoints = endpoints.into_endpoints();
        ClientBuilder {
            endpoints: endpoints.into_iter().map(Written).collect(),
            srv: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            limits: MessageLimits {
                receive: 64 << 20,
                send: 2 << 20,
                txn_ops: 128,
            },
            watch_room: Capacity {
                items: 4096,
                bytes: 8 << 20,
            },
            user: None,
            token: None,
            plaintext_credentials: false,
            drive: DriveMode::Auto,
            resolver: Resolver::system(),
            sync_interval: None,
            reject_old_cluster: false,
            #[cfg(feature = "__tls")]
            tls: None,
        }
    }

    /// Makes a builder with the settings of the environment: `ETCD_ENDPOINTS`, and the variables of
    /// etcdctl that [`Config`] lists.
    ///
    /// ```no_run
    /// use etcd_blocking::ClientBuilder;
    ///
    /// let client = ClientBuilder::from_env()?.connect()?;
    /// # Ok::<(), etcd_blocking::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), with the variable's name, for a
    /// value that is invalid or not supported.
    pub fn from_env() -> Result<Self> {
        Config::from_env()?.builder()
    }

    /// Finds the endpoints in DNS, instead of a list of them, when [`connect`](ClientBuilder::connect) is
    /// called.
    ///
    /// `connect` then waits for name servers, for at most the lookup's
    /// [timeout](SrvLookup::timeout). It queries them once: later changes in DNS do not reach this
    /// client. [`sync_interval`](ClientBuilder::sync_interval) follows the member list instead.
    ///
    /// ```no_run
    /// use etcd_blocking::Client;
    /// use etcd_blocking::config::SrvLookup;
    ///
    /// let lookup = SrvLookup::new("example.com");
    /// let client = Client::builder([""; 0]).discovery_srv(lookup).connect()?;
    /// # Ok::<(), etcd_blocking::Error>(())
    /// ```
    pub fn discovery_srv(mut self, lookup: SrvLookup) -> Self {
        self.srv = Some(lookup);
        self
    }

    /// Sets the deadline of every call, retries and connecting included. [`Client::with_timeout`] returns a
    /// view with another deadline.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long one attempt to connect may take, until the server has answered.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a server may be silent, while a request waits for it, before it is pinged. When the
    /// client wakes up for something else, the ping is sent up to a quarter of this time earlier.
    ///
    /// Less than 5 s means 5 s: etcd closes the connections of clients that ping more often
    /// (`--grpc-keepalive-min-time`).
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Sets how long a server has to answer a ping before its connection is closed.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout;
        self
    }

    /// Sets the largest reply in bytes; a larger one is an error of the kind
    /// [`TooLarge`](crate::ErrorKind::TooLarge) of its request only.
    ///
    /// It is also the limit of one revision of a watch. Keep it at 2 MiB at least: etcd splits the backlog
    /// of a watch into parts of that size.
    pub fn receive_limit(mut self, bytes: usize) -> Self {
        self.limits.receive = bytes;
        self
    }

    /// Sets the largest request in bytes; a larger one is refused before it is sent.
    ///
    /// etcd has two limits, both set by `--max-request-bytes`: by default it stores no request over
    /// 1.5 MiB, and reads no message over 2 MiB. The first is answered with the kind
    /// [`TooLarge`](crate::ErrorKind::TooLarge) as well, so the default here is the second. With
    /// servers that accept more, set it to their limit plus 512 KiB.
    pub fn send_limit(mut self, bytes: usize) -> Self {
        self.limits.send = bytes;
        self
    }

    /// Sets the largest number of operations in a transaction; one with more is refused before it is sent.
    /// Set it to the `--max-txn-ops` of the servers.
    ///
    /// etcd counts the longest of the three lists (comparisons, `then`, `or_else`), and for a nested
    /// transaction the sum of both.
    pub fn max_txn_ops(mut self, operations: usize) -> Self {
        self.limits.txn_ops = operations;
        self
    }

    /// Sets how many responses and bytes of each watch, or of each watch set, may wait for a slow reader.
    ///
    /// Beyond it the client cancels the watch on the server, and resumes it without a gap when the reader has
    /// taken half of them. etcd sends a resumed watch at most 1,000 revisions per 100 ms until it has caught up.
    /// While more than 10,000 revisions per second change its keys, it does not catch up. The default has room
    /// for what 20,000 revisions per second write in 200 ms. Many watches that nobody reads need this
    /// memory each.
    pub fn watch_queue(mut self, responses: usize, bytes: usize) -> Self {
        self.watch_room = Capacity {
            items: responses,
            bytes,
        };
        self
    }

    /// Sets how servers are verified, and the client's certificate: see [`Tls`]. With it, endpoints without
    /// a scheme (`host:port`, `unix:path`) use TLS.
    ///
    /// Without it, `https` endpoints are verified by the system's certificate authorities.
    #[cfg(feature = "__tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the etcd user of the client, and its password.
    ///
    /// The first call exchanges them for a token, which all later requests carry. The client replaces the
    /// token when a server refuses it, because it expired, a server was restarted, or users or roles
    /// changed; calls and streams do not fail for that. When the name or the password is wrong, calls and
    /// flows end with [`Unauthenticated`](crate::ErrorKind::Unauthenticated), and the client asks the
    /// server again after 5 s, and then up to 30 s, for any number of calls.
    ///
    /// On a cluster with authentication disabled, the user has no effect until it is enabled.
    ///
    /// ```no_run
    /// # use etcd_blocking::Client;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let password = String::new();
    /// let client = Client::builder(["unix:/run/etcd.sock"]).user("api", password).connect()?;
    /// # Ok(()) }
    /// ```
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), Secret::new(password)));
        self
    }

    /// Sets a token that was made elsewhere, such as a JWT, instead of a name and a password.
    ///
    /// The client cannot replace it: once the server refuses it, calls and flows end with
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token));
        self
    }

    /// Allows the password or the token on connections without TLS, where anyone who sees the packets can
    /// read it. Unix sockets do not need this; the loopback interface does.
    pub fn allow_plaintext_credentials(mut self) -> Self {
        self.plaintext_credentials = true;
        self
    }

    /// Reads the endpoints of the cluster from its member list, at once and then at this interval, in the
    /// background: see [`Client::sync_endpoints`]. Off by default.
    ///
    /// The configured endpoints always stay. When the list cannot be read, the endpoints stay as they are
    /// until the next interval.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = Some(interval);
        self
    }

    /// Makes [`connect`](ClientBuilder::connect) ask every endpoint for its version, and refuse a cluster
    /// with a server before 3.6, the minor release before the newest that this client supports.
    ///
    /// `connect` then waits for etcd, for at most the `timeout`, and fails when an endpoint does not
    /// answer, as clientv3 does.
    pub fn reject_old_cluster(mut self, reject: bool) -> Self {
        self.reject_old_cluster = reject;
        self
    }

    /// Chooses which threads drive the private runtime. The default, [`DriveMode::Auto`], decides for
    /// each call; the others are there to measure it.
    pub fn drive(mut self, drive: DriveMode) -> Self {
        self.drive = drive;
        self
    }

    /// Finds the addresses of hosts with `resolver` in place of the system's.
    #[cfg(feature = "local")]
    pub(crate) fn resolve_with(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// Creates the client. It does not wait for etcd, unless
    /// [`reject_old_cluster`](ClientBuilder::reject_old_cluster) is set: the first call connects, and
    /// fails if it cannot. With [`discovery_srv`](ClientBuilder::discovery_srv) it waits for DNS.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for invalid settings, such as a
    /// password or a token for an endpoint without TLS, and TLS files that cannot be read or parsed;
    /// [`Os`](crate::ErrorKind::Os) when the runtime's thread cannot be started. With
    /// `reject_old_cluster`, [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) for an old
    /// server, and the error of an endpoint that does not return its version. With `discovery_srv`,
    /// those of [`SrvLookup::endpoints`].
    pub fn connect(mut self) -> Result<Client> {
        let named = |e: Error| e.operation(Operation::new("connect"));
        self.check().map_err(named)?;
        // Before the endpoints are checked: DNS may name them.
        self.look_up()?;
        let endpoints = self.endpoints().map_err(named)?;
        let identity = self.identity().map_err(named)?;
        let settings = TransportSettings {
            connect_timeout: self.connect_timeout,
            // The recommended minimum between attempts (RFC 8305, section 5).
            stagger: Duration::from_millis(100),
            resolver: self.resolver.clone(),
            // A window of 64 KiB, HTTP/2's default, would limit a large reply to one window per
            // round trip.
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            limits: self.limits,
            ping: TransportSettings::pings(self.ping_interval, self.ping_timeout),
            timers: Timers::new(clock::now),
            tokens: identity.map(Tokens::new),
            plaintext_credentials: self.plaintext_credentials,
            #[cfg(feature = "__tls")]
            tls: self.connector(&endpoints).map_err(named)?,
        };
        // Checked before the first call, which would send the password.
        for endpoint in &endpoints {
            settings.check_plaintext(endpoint).map_err(named)?;
        }
        let client = Client::start(
            endpoints,
            settings,
            self.timeout,
            self.watch_room,
            self.drive,
        )?;
        // The only two settings that wait for a server.
        if self.reject_old_cluster {
            client.refuse_old_cluster().map_err(named)?;
        }
        if let Some(interval) = self.sync_interval {
            client.keep_in_sync(interval).map_err(named)?;
        }
        Ok(client)
    }

    fn identity(&self) -> Result<Option<Identity>> {
        let identity = match (&self.user, &self.token) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "user and token exclude each other: a token already identifies the user",
                ));
            }
            (Some((name, password)), None) => Identity::User {
                name: name.clone(),
                password: password.clone(),
            },
            (None, Some(token)) => Identity::Token(token.clone()),
            (None, None) => return Ok(None),
        };
        identity.check()?;
        Ok(Some(identity))
    }

    /// Looks up the endpoints in DNS, if a lookup is configured.
    fn look_up(&mut self) -> Result<()> {
        let Some(lookup) = &self.srv else {
            return Ok(());
        };
        self.endpoints = lookup.endpoints()?.into_iter().map(Written).collect();
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let zero = [
            ("timeout", self.timeout.is_zero()),
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("ping_timeout", self.ping_timeout.is_zero()),
            ("receive_limit", self.limits.receive == 0),
            ("send_limit", self.limits.send == 0),
            ("max_txn_ops", self.limits.txn_ops == 0),
            (
                "sync_interval",
                self.sync_interval.is_some_and(|every| every.is_zero()),
            ),
            (
                "watch_queue",
                self.watch_room.items == 0 || self.watch_room.bytes == 0,
            ),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(Error::invalid(format!("{name} must not be zero")));
        }
        if self.srv.is_some() && !self.endpoints.is_empty() {
            // etcdctl would ignore the list without a message.
            return Err(Error::invalid(
                "endpoints and discovery_srv exclude each other: set one of them",
            ));
        }
        Ok(())
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>> {
        #[cfg(feature = "__tls")]
        let tls = self.tls.is_some();
        #[cfg(not(feature = "__tls"))]
        let tls = false;
        let endpoints = parse_all(&self.endpoints, tls)?;
        match endpoints.first() {
            Some(first) if tls && !first.secure => Err(Error::invalid(format!(
                "settings for TLS are given, but {} is an endpoint without it: write https://",
                first.text
            ))),
            _ => Ok(endpoints),
        }
    }

    #[cfg(feature = "__tls")]
    fn connector(&self, endpoints: &[Endpoint]) -> Result<Option<std::sync::Arc<Connector>>> {
        if !endpoints.iter().any(|endpoint| endpoint.secure) {
            return Ok(None);
        }
        // An https endpoint without settings uses the authorities of the system.
        let tls = self.tls.clone().unwrap_or_default();
        Connector::new(tls, endpoints).map(|tls| Some(std::sync::Arc::new(tls)))
    }
}

//! The settings of a client as a plain value, to read from a file or from the environment.

use std::time::Duration;

use super::ClientBuilder;
use crate::error::{Error, Operation, Result};
use crate::grpc::connect::dns_srv::SrvLookup;
use crate::util::secret::Secret;

/// The settings of a client as a plain value: from a file, with the feature `serde`, or from the
/// environment, with [`from_env`](Config::from_env). [`builder`](Config::builder) makes a client of it.
///
/// The names are those of clientv3's configuration, where it has such a setting.
///
#[doc = include_str!("defaults.md")]
///
/// In files, times are texts with a unit, as Go writes them (`5s`, `500ms`, `1m30s`); a bare number
/// is refused, because it would be nanoseconds in Go and seconds to most. A setting that is null or an
/// empty text is not set, as an empty variable. Names that are not in the table are refused. Password and
/// token are read, and never written: they do not serialize, and `Debug` shows `***`.
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::config::Config;
///
/// let mut config = Config::default();
/// config.endpoints = vec!["10.0.0.1:2379".to_owned(), "10.0.0.2:2379".to_owned()];
/// config.request_timeout = Some(Duration::from_secs(2));
/// let client = config.builder()?.connect()?;
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "kebab-case", deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct Config {
    /// Where etcd is: `http://host:port`, `https://host:port`, `host:port` or `unix:/path/to/socket`.
    ///
    /// `host:port` alone is https when [`secure`](Config::secure) has anything in it that speaks of TLS.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub endpoints: Vec<String>,
    /// The domain whose SRV records are the endpoints, instead of a list:
    /// [`ClientBuilder::discovery_srv`]. DNS has the dial timeout to answer.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub discovery_srv: Option<String>,
    /// Which cluster of that domain: [`SrvLookup::service_name`].
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub discovery_srv_name: Option<String>,
    /// `false`: of that domain only `https` endpoints, whose certificates are for the domain itself,
    /// unless [`server_name`](SecureConfig::server_name) says for what, because DNS is not
    /// authenticated. `true` unless set, as etcdctl's.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub insecure_discovery: Option<bool>,
    /// How long one connection attempt may take: [`ClientBuilder::connect_timeout`].
    #[cfg_attr(
        feature = "serde",
        serde(with = "super::serial::time", skip_serializing_if = "Option::is_none")
    )]
    pub dial_timeout: Option<Duration>,
    /// The deadline of every call: [`ClientBuilder::timeout`].
    #[cfg_attr(
        feature = "serde",
        serde(with = "super::serial::time", skip_serializing_if = "Option::is_none")
    )]
    pub request_timeout: Option<Duration>,
    /// How long a server may be silent before it is pinged: [`ClientBuilder::ping_interval`].
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "super::serial::time",
            alias = "keepalive-time",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub dial_keep_alive_time: Option<Duration>,
    /// How long a pinged server has to answer: [`ClientBuilder::ping_timeout`].
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "super::serial::time",
            alias = "keepalive-timeout",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub dial_keep_alive_timeout: Option<Duration>,
    /// The largest request in bytes: [`ClientBuilder::send_limit`]. 0 is the default, as in clientv3.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            alias = "max-request-bytes",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_call_send_msg_size: Option<usize>,
    /// The largest reply in bytes: [`ClientBuilder::receive_limit`]. 0 is the default.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            alias = "max-recv-bytes",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_call_recv_msg_size: Option<usize>,
    /// The most operations of a transaction: [`ClientBuilder::max_txn_ops`]. 0 is the default.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_txn_ops: Option<usize>,
    /// Responses that a watch holds for a slow reader: [`ClientBuilder::watch_queue`].
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub watch_queue_responses: Option<usize>,
    /// The bytes of them.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub watch_queue_bytes: Option<usize>,
    /// How often to learn the endpoints from the member list.
    #[cfg_attr(
        feature = "serde",
        serde(with = "super::serial::time", skip_serializing_if = "Option::is_none")
    )]
    pub auto_sync_interval: Option<Duration>,
    /// Whether servers that are too old are refused.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub reject_old_cluster: bool,
    /// The user; [`set_password`](Config::set_password) goes with it.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub username: Option<String>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::secret", skip_serializing)
    )]
    pub(super) password: Option<Secret>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::secret", skip_serializing)
    )]
    pub(super) token: Option<Secret>,
    /// Whether password and token may go over connections without TLS.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub allow_plaintext_credentials: bool,
    /// TLS.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::or_default",
            alias = "secure-transport"
        )
    )]
    pub secure: SecureConfig,
    /// Pings while nothing waits for an answer: etcd hangs up on a client that sends them, so `true`
    /// is refused.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub permit_without_stream: bool,
}

/// What a [`Config`] says of TLS. Files are read again at every connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "kebab-case", deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct SecureConfig {
    /// The file with the authorities that servers' certificates come from, instead of the system's.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub cacert: Option<String>,
    /// The file with the client's certificate.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub cert: Option<String>,
    /// The file with its key.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub key: Option<String>,
    /// The name that every server's certificate must be for, instead of its endpoint's host.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub server_name: Option<String>,
    /// `false` asks for TLS where nothing else here does. `true` asks for nothing, as in clientv3.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub insecure_transport: Option<bool>,
    /// Certificates are always verified here, so `true` is refused.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub insecure_skip_tls_verify: bool,
}

impl Config {
    /// The settings that the environment of this process has.
    ///
    /// # Errors
    ///
    /// As [`from_vars`](Config::from_vars).
    pub fn from_env() -> Result<Self> {
        let vars = std::env::vars_os().map(|(name, value)| {
            let text = value.into_string().ok();
            (name.to_string_lossy().into_owned(), text)
        });
        super::env::read(vars)
    }

    /// The settings that these variables have: `ETCD_ENDPOINTS`, and those of etcdctl, as the table
    /// says. An empty variable counts as not set. `ETCD_ENDPOINTS` wins over `ETCDCTL_ENDPOINTS`.
    ///
    /// Variables of etcdctl that are about the tool and not about the client (`ETCDCTL_API`,
    /// `ETCDCTL_WRITE_OUT`...), and those that nobody knows, are ignored.
    ///
    /// ```
    /// use etcd_blocking::config::Config;
    ///
    /// let config = Config::from_vars([
    ///     ("ETCD_ENDPOINTS", "10.0.0.1:2379,10.0.0.2:2379"),
    ///     ("ETCDCTL_DIAL_TIMEOUT", "500ms"),
    /// ])?;
    /// assert_eq!(config.endpoints, ["10.0.0.1:2379", "10.0.0.2:2379"]);
    /// # Ok::<(), etcd_blocking::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), with the variable's name, for a value
    /// that makes no sense, and for a setting that this crate does not have and that must not be
    /// ignored, such as not verifying certificates.
    pub fn from_vars<N: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        super::env::read(vars.into_iter().map(|(n, v)| (n.into(), Some(v.into()))))
    }

    /// The password of the [`username`](Config::username). It is never shown.
    pub fn set_password(&mut self, password: impl Into<String>) {
        self.password = Some(Secret::new(password));
    }

    /// A token that was made elsewhere, such as a JWT, instead of name and password. It is never
    /// shown, and never replaced.
    pub fn set_token(&mut self, token: impl Into<String>) {
        self.token = Some(Secret::new(token));
    }

    /// The builder of a client with these settings. What is not set is the default.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for settings that this crate refuses or
    /// does not have. Endpoints and numbers are checked by [`connect`](ClientBuilder::connect).
    pub fn builder(self) -> Result<ClientBuilder> {
        let built = self.build();
        built.map_err(|error| error.operation(Operation::new("configure")))
    }

    fn build(mut self) -> Result<ClientBuilder> {
        self.check()?;
        let mut builder = ClientBuilder::new(self.endpoints.clone());
        let spans = [
            (self.dial_timeout, &mut builder.connect_timeout),
            (self.request_timeout, &mut builder.timeout),
            (self.dial_keep_alive_time, &mut builder.ping_interval),
            (self.dial_keep_alive_timeout, &mut builder.ping_timeout),
        ];
        for (span, setting) in spans {
            *setting = span.unwrap_or(*setting);
        }
        let limits = &mut builder.limits;
        let sizes = [
            (self.max_call_send_msg_size, &mut limits.send),
            (self.max_call_recv_msg_size, &mut limits.receive),
            (self.max_txn_ops, &mut limits.txn_ops),
        ];
        for (size, setting) in sizes {
            *setting = size.filter(|size| *size > 0).unwrap_or(*setting);
        }
        let room = &mut builder.watch_room;
        room.items = self.watch_queue_responses.unwrap_or(room.items);
        room.bytes = self.watch_queue_bytes.unwrap_or(room.bytes);
        builder.srv = self.lookup(builder.connect_timeout);
        self.wire(builder)
    }

    /// Where to look for endpoints; of a lookup that is not to be trusted the domain is what
    /// certificates have to be for.
    fn lookup(&mut self, timeout: Duration) -> Option<SrvLookup> {
        let domain = self.discovery_srv.take()?;
        let mut lookup = SrvLookup::new(domain.clone()).timeout(timeout);
        if let Some(name) = self.discovery_srv_name.take() {
            lookup = lookup.service_name(name);
        }
        if self.insecure_discovery == Some(false) {
            self.secure.server_name.get_or_insert(domain);
            lookup = lookup.secure_only();
        }
        Some(lookup)
    }

    /// What concerns TLS, users and the cluster.
    fn wire(self, mut builder: ClientBuilder) -> Result<ClientBuilder> {
        if let (Some(name), Some(password)) = (self.username, self.password) {
            builder = builder.user(name, password.reveal());
        }
        if let Some(token) = self.token {
            builder = builder.token(token.reveal());
        }
        if self.allow_plaintext_credentials {
            builder = builder.allow_plaintext_credentials();
        }
        if let Some(every) = self.auto_sync_interval.filter(|every| !every.is_zero()) {
            builder = builder.sync_interval(every);
        }
        builder = builder.reject_old_cluster(self.reject_old_cluster);
        self.secure.wire(builder)
    }

    fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(Error::invalid(why));
        if self.secure.insecure_skip_tls_verify {
            return refused(
                "insecure-skip-tls-verify: certificates are always verified here; name the \
                 authority with cacert instead",
            );
        }
        if self.permit_without_stream {
            return refused(
                "permit-without-stream: etcd hangs up on clients that ping while nothing is open",
            );
        }
        if self.discovery_srv.is_some() && !self.endpoints.is_empty() {
            return refused("endpoints and discovery-srv exclude each other: name one of them");
        }
        if self.discovery_srv_name.is_some() && self.discovery_srv.is_none() {
            return refused("discovery-srv-name is set and discovery-srv is not");
        }
        if self.secure.cert.is_some() != self.secure.key.is_some() {
            return refused("a client certificate needs both cert and key");
        }
        match (&self.username, &self.password, &self.token) {
            (Some(_), None, _) => refused("username is set and password is not"),
            (None, Some(_), _) => refused("password is set and username is not"),
            (Some(_), Some(_), Some(_)) => refused("token excludes username and password"),
            _ => Ok(()),
        }
    }
}

impl SecureConfig {
    fn wants_tls(&self) -> bool {
        let files = [&self.cacert, &self.cert, &self.key, &self.server_name];
        files.iter().any(|file| file.is_some()) || self.insecure_transport == Some(false)
    }

    #[cfg(feature = "__tls")]
    fn wire(self, builder: ClientBuilder) -> Result<ClientBuilder> {
        if !self.wants_tls() {
            return Ok(builder);
        }
        let mut tls = crate::grpc::tls::Tls::new();
        if let Some(file) = self.cacert {
            tls = tls.ca_file(file);
        }
        if let (Some(cert), Some(key)) = (self.cert, self.key) {
            tls = tls.client_cert_files(cert, key);
        }
        if let Some(name) = self.server_name {
            tls = tls.server_name(name);
        }
        Ok(builder.tls(tls))
    }

    #[cfg(not(feature = "__tls"))]
    fn wire(self, builder: ClientBuilder) -> Result<ClientBuilder> {
        if self.wants_tls() {
            return Err(Error::invalid(
                "TLS is asked for, and etcd-blocking was built without the feature `tls`",
            ));
        }
        Ok(builder)
    }
}

//! The settings of a client as a plain value, to read from a file or from the environment.

use std::time::Duration;

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
    pub(in crate::client) password: Option<Secret>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::secret", skip_serializing)
    )]
    pub(in crate::client) token: Option<Secret>,
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
    /// The password of the [`username`](Config::username). It is never shown.
    pub fn set_password(&mut self, password: impl Into<String>) {
        self.password = Some(Secret::new(password));
    }

    /// A token that was made elsewhere, such as a JWT, instead of name and password. It is never
    /// shown, and never replaced.
    pub fn set_token(&mut self, token: impl Into<String>) {
        self.token = Some(Secret::new(token));
    }
}

//! The settings of a client as a plain value, to read from a file or from the environment.

use std::time::Duration;

use crate::util::secret::Secret;

/// The settings of a client as a plain value: from a file, with the feature `serde`, or from the
/// environment, with [`from_env`](Config::from_env). [`builder`](Config::builder) creates a client builder from it.
///
/// The names are those of clientv3's configuration, if it has the setting.
///
#[doc = include_str!("defaults.md")]
///
/// [`ClientBuilder`]: crate::ClientBuilder
///
/// In files, times are texts with a unit, as Go writes them (`5s`, `500ms`, `1m30s`). A number without a
/// unit is refused: in Go it would be nanoseconds, and most people would mean seconds. A setting that is
/// null or an empty text counts as not set. Names that are not in the table are refused. Password and token
/// are read and never written: they are not serialized, and `Debug` prints `***`.
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
    /// The endpoints: `http://host:port`, `https://host:port`, `host:port` or `unix:/path/to/socket`.
    ///
    /// `host:port` alone is https if a setting of [`secure`](Config::secure) needs TLS.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub endpoints: Vec<String>,
    /// The domain whose SRV records are the endpoints, instead of a list:
    /// [`ClientBuilder::discovery_srv`](crate::ClientBuilder::discovery_srv). The lookup has the dial timeout.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub discovery_srv: Option<String>,
    /// The name of the cluster in that domain: [`SrvLookup::service_name`](crate::config::SrvLookup::service_name).
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub discovery_srv_name: Option<String>,
    /// With `false`, only `https` endpoints of that domain are used, and their certificates are verified
    /// against the domain, or against [`server_name`](SecureConfig::server_name) if that is set, because
    /// DNS is not authenticated. The default is `true`, as in etcdctl.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub insecure_discovery: Option<bool>,
    /// The time limit of one connection attempt:
    /// [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout).
    #[cfg_attr(
        feature = "serde",
        serde(with = "super::serial::time", skip_serializing_if = "Option::is_none")
    )]
    pub dial_timeout: Option<Duration>,
    /// The deadline of every call: [`ClientBuilder::timeout`](crate::ClientBuilder::timeout).
    #[cfg_attr(
        feature = "serde",
        serde(with = "super::serial::time", skip_serializing_if = "Option::is_none")
    )]
    pub request_timeout: Option<Duration>,
    /// The silence of a server before a ping: [`ClientBuilder::ping_interval`](crate::ClientBuilder::ping_interval).
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "super::serial::time",
            alias = "keepalive-time",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub dial_keep_alive_time: Option<Duration>,
    /// The time limit of the answer to a ping: [`ClientBuilder::ping_timeout`](crate::ClientBuilder::ping_timeout).
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "super::serial::time",
            alias = "keepalive-timeout",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub dial_keep_alive_timeout: Option<Duration>,
    /// The largest request in bytes:
    /// [`ClientBuilder::send_limit`](crate::ClientBuilder::send_limit). 0 is the default, as in clientv3.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            alias = "max-request-bytes",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_call_send_msg_size: Option<usize>,
    /// The largest reply in bytes:
    /// [`ClientBuilder::receive_limit`](crate::ClientBuilder::receive_limit). 0 is the default.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            alias = "max-recv-bytes",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_call_recv_msg_size: Option<usize>,
    /// The maximum number of operations of a transaction:
    /// [`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops). 0 is the default.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_txn_ops: Option<usize>,
    /// The number of responses that a watch holds for a slow reader:
    /// [`ClientBuilder::watch_queue`](crate::ClientBuilder::watch_queue).
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub watch_queue_responses: Option<usize>,
    /// The number of bytes that a watch holds for a slow reader.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub watch_queue_bytes: Option<usize>,
    /// The interval at which the endpoints are read from the member list.
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
    /// The user, whose password is set by [`set_password`](Config::set_password).
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
    /// Enables pings while no request is open. `true` is refused, because etcd closes the connection of a
    /// client that sends them.
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::serial::or_default")
    )]
    pub permit_without_stream: bool,
}

/// The TLS settings of a [`Config`]. Files are read again for each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "kebab-case", deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct SecureConfig {
    /// The file with the certificate authorities of servers, instead of those of the system.
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
    /// The file with the key of the client's certificate.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub key: Option<String>,
    /// The name that every server's certificate must have, instead of the host of its endpoint.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub server_name: Option<String>,
    /// `false` requires TLS even without other TLS settings. `true` has no effect, as in clientv3.
    #[cfg_attr(
        feature = "serde",
        serde(
            deserialize_with = "super::serial::optional",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub insecure_transport: Option<bool>,
    /// This crate always verifies certificates, so `true` is refused.
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

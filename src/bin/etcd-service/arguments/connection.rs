//! The connection to etcd: etcdctl's flags and environment variables.

use std::collections::BTreeMap;
use std::env;

use clap::Args;
use etcd_blocking::config::Config;
use etcd_blocking::{Client, ErrorKind};

use crate::failure::Failure;

/// The settings of the connection to etcd. Each flag and its environment variable are those of etcdctl.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection (also as ETCDCTL_ENDPOINTS and so on)")]
pub(crate) struct ConnectionArguments {
    /// Endpoints, separated by commas [default: 127.0.0.1:2379; ETCD_ENDPOINTS, then ETCDCTL_ENDPOINTS]
    #[arg(long, global = true, value_name = "ENDPOINTS")]
    endpoints: Option<String>,
    /// Time to connect
    #[arg(long, global = true, value_name = "TIME")]
    dial_timeout: Option<String>,
    /// Time for one request
    #[arg(long, global = true, value_name = "TIME")]
    command_timeout: Option<String>,
    /// Time between pings of a connection
    #[arg(long, global = true, value_name = "TIME", hide_short_help = true)]
    keepalive_time: Option<String>,
    /// Time in which a ping is answered
    #[arg(long, global = true, value_name = "TIME", hide_short_help = true)]
    keepalive_timeout: Option<String>,
    /// Largest request, in bytes
    #[arg(long, global = true, value_name = "BYTES", hide_short_help = true)]
    max_request_bytes: Option<String>,
    /// Largest reply, in bytes
    #[arg(long, global = true, value_name = "BYTES", hide_short_help = true)]
    max_recv_bytes: Option<String>,
    /// Certificate of the authority that signed those of the servers
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<String>,
    /// Certificate of this client
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<String>,
    /// Private key of this client
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<String>,
    /// User, or USER:PASSWORD
    #[arg(long, global = true, value_name = "USER")]
    user: Option<String>,
    /// Password. Other users of the machine can see arguments: prefer ETCDCTL_PASSWORD
    #[arg(long, global = true, value_name = "PASSWORD")]
    password: Option<String>,
    /// JSON Web Token, in place of user and password
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    auth_jwt_token: Option<String>,
    /// Permits to send a password or token without TLS
    #[arg(long, global = true)]
    allow_plaintext_credentials: bool,
    /// DNS domain whose SRV records have the endpoints
    #[arg(
        short,
        long,
        global = true,
        value_name = "DOMAIN",
        hide_short_help = true
    )]
    discovery_srv: Option<String>,
    /// Name of the service in the SRV records
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    discovery_srv_name: Option<String>,
    /// Accept SRV records without TLS
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_short_help = true)]
    insecure_discovery: Option<String>,
    /// Connect without TLS
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_short_help = true)]
    insecure_transport: Option<String>,
    /// Refused: certificates are always verified
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    insecure_skip_tls_verify: Option<String>,
}

impl ConnectionArguments {
    /// Connects in the background: it fails only for wrong settings.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        let builder = self.config()?.builder()?;
        builder.connect().map_err(|error| {
            // The library names its own setting.
            let text = error.to_string();
            let text = text.replace(
                "ClientBuilder::allow_plaintext_credentials",
                "--allow-plaintext-credentials",
            );
            match error.kind() {
                ErrorKind::InvalidArgument => Failure::Usage(text),
                _ => Failure::Failed(text),
            }
        })
    }

    /// The settings of the flags, and of the environment for flags that are not given.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let vars = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        self.config_with(vars.collect())
    }

    fn config_with(&self, mut vars: BTreeMap<String, String>) -> Result<Config, Failure> {
        for (flag, value) in self.given() {
            let name = variable(flag);
            if flag == "endpoints" {
                vars.remove("ETCD_ENDPOINTS");
            }
            // A user without a password in the flag does not use the password of another user.
            if flag == "user" && value.contains(':') {
                vars.remove("ETCDCTL_PASSWORD");
            }
            vars.insert(name, value.clone());
        }
        let mut config = Config::from_vars(vars).map_err(|error| {
            let mut text = error.to_string();
            // What is named as the right thing instead is a flag, too, if a flag was wrong.
            let instead = self.insecure_skip_tls_verify.as_ref().map(|_| "cacert");
            for flag in self.given().map(|(flag, _)| flag).chain(instead) {
                text = text.replace(&variable(flag), &format!("--{flag}"));
            }
            Failure::Usage(text)
        })?;
        if config.endpoints.is_empty() && config.discovery_srv.is_none() {
            config.endpoints.push("127.0.0.1:2379".to_owned());
        }
        config.allow_plaintext_credentials |= self.allow_plaintext_credentials;
        Ok(config)
    }

    /// The flags that were given.
    fn given(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [
            ("endpoints", &self.endpoints),
            ("dial-timeout", &self.dial_timeout),
            ("command-timeout", &self.command_timeout),
            ("keepalive-time", &self.keepalive_time),
            ("keepalive-timeout", &self.keepalive_timeout),
            ("max-request-bytes", &self.max_request_bytes),
            ("max-recv-bytes", &self.max_recv_bytes),
            ("cacert", &self.cacert),
            ("cert", &self.cert),
            ("key", &self.key),
            ("user", &self.user),
            ("password", &self.password),
            ("auth-jwt-token", &self.auth_jwt_token),
            ("discovery-srv", &self.discovery_srv),
            ("discovery-srv-name", &self.discovery_srv_name),
            ("insecure-discovery", &self.insecure_discovery),
            ("insecure-transport", &self.insecure_transport),
            ("insecure-skip-tls-verify", &self.insecure_skip_tls_verify),
        ]
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value.as_ref()?)))
    }
}

/// The environment variable of a flag.
fn variable(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.replace('-', "_").to_uppercase())
}

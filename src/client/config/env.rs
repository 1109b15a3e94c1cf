//! Reads the settings of a client from environment variables. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::span;
use super::values::Config;
use crate::client::into_endpoints::split;
use crate::error::{Error, Operation, Result};

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
        read(vars)
    }

    /// The settings in these variables: `ETCD_ENDPOINTS`, and those of etcdctl in the table. An empty variable counts as not set. `ETCD_ENDPOINTS` wins over `ETCDCTL_ENDPOINTS`.
    ///
    /// Variables of etcdctl that are about the tool and not about the client (`ETCDCTL_API`,
    /// `ETCDCTL_WRITE_OUT`...), and unknown ones are ignored.
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
        read(vars.into_iter().map(|(n, v)| (n.into(), Some(v.into()))))
    }
}

/// The variables that mean something; empty ones are not there.
struct Vars(BTreeMap<String, Option<String>>);

/// Reads variables; `None` is a value that is not UTF-8, which is an error only if the variable is used.
pub(in crate::client) fn read(
    vars: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<Config> {
    let ours = |name: &str| name == "ETCD_ENDPOINTS" || name.starts_with("ETCDCTL_");
    let there = |value: &Option<String>| value.as_ref().is_none_or(|text| !text.is_empty());
    let vars = vars.into_iter();
    let vars = vars.filter(|(name, value)| ours(name) && there(value));
    let config = Vars(vars.collect()).config();
    config.map_err(|error| error.operation(Operation::new("read the environment")))
}

impl Vars {
    fn config(&self) -> Result<Config> {
        // Refused and not ignored: a program that relies on it would fail later, with an unclear
        // error.
        if self.switch("ETCDCTL_INSECURE_SKIP_TLS_VERIFY")? == Some(true) {
            let why = "certificates are always verified here; name the authority in \
                       ETCDCTL_CACERT instead";
            return Err(wrong("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", why));
        }
        let mut config = Config {
            endpoints: self.endpoints()?,
            discovery_srv: self.text("ETCDCTL_DISCOVERY_SRV")?.map(str::to_owned),
            discovery_srv_name: self.text("ETCDCTL_DISCOVERY_SRV_NAME")?.map(str::to_owned),
            insecure_discovery: self.switch("ETCDCTL_INSECURE_DISCOVERY")?,
            dial_timeout: self.time("ETCDCTL_DIAL_TIMEOUT")?,
            request_timeout: self.time("ETCDCTL_COMMAND_TIMEOUT")?,
            dial_keep_alive_time: self.time("ETCDCTL_KEEPALIVE_TIME")?,
            dial_keep_alive_timeout: self.time("ETCDCTL_KEEPALIVE_TIMEOUT")?,
            max_call_send_msg_size: self.number("ETCDCTL_MAX_REQUEST_BYTES")?,
            max_call_recv_msg_size: self.number("ETCDCTL_MAX_RECV_BYTES")?,
            ..Config::default()
        };
        config.secure.cacert = self.text("ETCDCTL_CACERT")?.map(str::to_owned);
        config.secure.cert = self.text("ETCDCTL_CERT")?.map(str::to_owned);
        config.secure.key = self.text("ETCDCTL_KEY")?.map(str::to_owned);
        config.secure.insecure_transport = self.switch("ETCDCTL_INSECURE_TRANSPORT")?;
        self.identity(&mut config)?;
        Ok(config)
    }

    fn endpoints(&self) -> Result<Vec<String>> {
        let list = match self.text("ETCD_ENDPOINTS")? {
            Some(list) => Some(list),
            None => self.text("ETCDCTL_ENDPOINTS")?,
        };
        Ok(list.map(split).unwrap_or_default())
    }

    /// Reads the user as etcdctl does: `ETCDCTL_USER` is `name:password`, or the name alone with `ETCDCTL_PASSWORD`.
    fn identity(&self, config: &mut Config) -> Result<()> {
        let user = self.text("ETCDCTL_USER")?;
        let password = self.text("ETCDCTL_PASSWORD")?;
        let (name, password) = match (user, password) {
            (Some(name), Some(password)) => (Some(name), Some(password)),
            // etcdctl splits at the first colon: a password may contain colons.
            (Some(both), None) => match both.split_once(':') {
                Some((name, password)) => (Some(name), Some(password)),
                None => {
                    let why = "it has no password (name:password), and ETCDCTL_PASSWORD is not set";
                    return Err(wrong("ETCDCTL_USER", why));
                }
            },
            (None, Some(_)) => {
                return Err(wrong("ETCDCTL_PASSWORD", "ETCDCTL_USER is not set"));
            }
            (None, None) => (None, None),
        };
        config.username = name.map(str::to_owned);
        if let Some(password) = password {
            config.set_password(password);
        }
        let token = self.text("ETCDCTL_AUTH_JWT_TOKEN")?;
        if let Some(token) = token {
            if config.username.is_some() {
                return Err(wrong("ETCDCTL_AUTH_JWT_TOKEN", "it excludes ETCDCTL_USER"));
            }
            config.set_token(token);
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(wrong(name, "it is not UTF-8")),
        }
    }

    fn time(&self, name: &str) -> Result<Option<Duration>> {
        let text = self.text(name)?;
        text.map(|text| span::parse(text).map_err(|why| wrong(name, why)))
            .transpose()
    }

    fn number(&self, name: &str) -> Result<Option<usize>> {
        let read = |text: &str| {
            let number = text.parse();
            number.map_err(|_| wrong(name, format!("{text:?} is not a number of bytes")))
        };
        self.text(name)?.map(read).transpose()
    }

    /// The words that Go accepts as a boolean.
    fn switch(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name)? {
            None => Ok(None),
            // The words of Go's `strconv.ParseBool`.
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(wrong(name, format!("{other:?} is neither true nor false"))),
        }
    }
}

fn wrong(name: &str, why: impl AsRef<str>) -> Error {
    Error::invalid(format!("{name}: {}", why.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The variables of a process are set before it starts, so the test runs itself again.
    #[test]
    fn the_variables_of_this_process_are_read() {
        const NAME: &str = "client::config::env::tests::the_variables_of_this_process_are_read";
        const ENDPOINT: &str = "127.0.0.1:23790";
        if std::env::var("ETCD_ENDPOINTS").is_ok_and(|list| list == ENDPOINT) {
            assert_eq!(Config::from_env().unwrap().endpoints, [ENDPOINT]);
            return;
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again
            .args(["--exact", NAME])
            .env("ETCD_ENDPOINTS", ENDPOINT);
        let output = String::from_utf8(again.output().unwrap().stdout).unwrap();
        assert!(output.contains("1 passed"), "{output}");
    }

    #[test]
    fn variables_that_are_empty_or_of_others_are_not_there() {
        let none = Config::from_vars::<&str, &str>([]).unwrap();
        let empty = [("ETCDCTL_DIAL_TIMEOUT", ""), ("ETCD_ENDPOINTS", "")];
        let others = [("HOME", "/root"), ("ETCD_DATA_DIR", "x")];
        for vars in [empty, others] {
            let config = Config::from_vars(vars).unwrap();
            assert_eq!(format!("{config:?}"), format!("{none:?}"));
        }
        assert!(Config::from_vars([("ETCDCTL_DIAL_TIMEOUT", "soon")]).is_err());
    }
}

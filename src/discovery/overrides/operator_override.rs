//! The status and the weight that an operator sets for an instance. Pure.

use std::fmt;
use std::str::FromStr;

use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::error::{Error, Result};

/// The part of a prefix below which overrides are.
const FOLDER: &str = ".ctl/";

/// A status, a weight or both, which an operator sets for an instance from outside of its program.
///
/// An override is a key of its own, below the prefix of the instances. Its value has a status, a weight as
/// `weight=N`, or both, separated by a space:
///
/// ```text
/// etcdctl put /services/.ctl/api/api-7 draining
/// etcdctl put /services/.ctl/api/api-7 'maintenance weight=5'
/// etcdctl del /services/.ctl/api/api-7
/// ```
///
/// The [`Registrar`](crate::Registrar) of the instance applies it within milliseconds, in all formats, and
/// again whenever the instance is registered, also after a restart of its program. Views apply it to what they
/// show, so it holds for an instance of another library, and for one whose program hangs. The key has no
/// lease, so it stays until it is deleted. The prefix is that of the first codec of the registrar or the
/// [`Discovery`](crate::Discovery).
///
/// The status of the override replaces the one that the program set and the one that follows from health
/// checks, with one exception: a program that is [draining](Status::Draining) because it leaves stays so.
/// An instance that is [withdrawn](crate::State::Withdrawn) stays withdrawn.
///
/// ```no_run
/// use etcd_blocking::{Client, Override, Status};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect("http://127.0.0.1:2379")?;
/// let key = Override::key("/services/", "api", "api-7");
/// client.put(key.as_str(), Override::new().status(Status::Draining).to_string())?;
/// client.delete(key)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    status: Option<Status>,
    weight: Option<u32>,
}

impl Override {
    /// Creates an override that sets nothing.
    pub fn new() -> Self {
        Override::default()
    }

    /// Sets the status.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the weight.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Returns the key of the override of an instance. `prefix` is that of the first codec, such as `/services/`.
    pub fn key(prefix: &str, service: &str, id: &str) -> String {
        format!("{}{service}/{id}", Override::folder(prefix))
    }

    /// The beginning of the keys of all overrides.
    pub(crate) fn folder(prefix: &str) -> String {
        match prefix.is_empty() || prefix.ends_with('/') {
            true => format!("{prefix}{FOLDER}"),
            false => format!("{prefix}/{FOLDER}"),
        }
    }

    /// Whether it sets the status.
    pub(crate) fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// Changes an instance as the operator wants it.
    pub(crate) fn apply(&self, instance: &mut Instance) {
        if let Some(weight) = self.weight {
            instance.weight = weight;
        }
        // A program that leaves must not get calls again.
        if let Some(status) = self.status
            && instance.status != Status::Draining
            && instance.status != status
        {
            instance.status = status;
            instance.reason = match status {
                Status::Up => String::new(),
                _ => "set by an operator".into(),
            };
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map(|status| status.as_str().to_owned());
        let weight = self.weight.map(|weight| format!("weight={weight}"));
        let words: Vec<_> = status.into_iter().chain(weight).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Override {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parsed = Override::new();
        for word in text.split_whitespace() {
            let weight = word.strip_prefix("weight=");
            let weight = weight.map(|number| number.parse::<u32>());
            match (weight, Status::from_name(word)) {
                (Some(Ok(weight)), _) if parsed.weight.is_none() => parsed.weight = Some(weight),
                (None, Some(status)) if parsed.status.is_none() => parsed.status = Some(status),
                _ => return Err(malformed()),
            }
        }
        match parsed == Override::new() {
            true => Err(malformed()),
            false => Ok(parsed),
        }
    }
}

/// The error of a malformed override. It does not contain the value.
fn malformed() -> Error {
    Error::invalid(
        "the value is not a status (starting, up, draining, out_of_service or maintenance), a weight such as \
         weight=5, or both separated by a space",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_a_status_a_weight_or_both() {
        let new = Override::new;
        for (text, expected, written) in [
            ("draining", new().status(Status::Draining), "draining"),
            ("weight=0", new().weight(0), "weight=0"),
            (
                " weight=7\tmaintenance\n",
                new().weight(7).status(Status::Maintenance),
                "maintenance weight=7",
            ),
        ] {
            let parsed: Override = text.parse().unwrap();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string(), written);
        }
        for bad in [
            "",
            " ",
            "down",
            "UP",
            "up up",
            "weight=1 weight=1",
            "weight",
            "weight=-1",
            "weight=4294967296",
            "up,weight=1",
        ] {
            let error = bad.parse::<Override>().unwrap_err().to_string();
            assert!(error.contains("weight=5"), "{bad}: {error}");
        }
    }

    #[test]
    fn keys_of_overrides_are_below_the_prefix() {
        for prefix in ["/services", "/services/"] {
            let key = Override::key(prefix, "api", "api-7");
            assert_eq!(key, "/services/.ctl/api/api-7");
        }
        assert_eq!(Override::key("", "api", "a:1"), ".ctl/api/a:1");
    }

    #[test]
    fn an_override_replaces_the_status_unless_the_program_leaves() {
        let applied = |before: Status, text: &str| {
            let mut instance = Instance::new("api", "a:1").status(before).reason("why");
            text.parse::<Override>().unwrap().apply(&mut instance);
            (instance.status, instance.reason, instance.weight)
        };
        let by_operator = || "set by an operator".to_owned();
        assert_eq!(
            applied(Status::Up, "maintenance"),
            (Status::Maintenance, by_operator(), 1)
        );
        assert_eq!(
            applied(Status::OutOfService, "up weight=3"),
            (Status::Up, String::new(), 3)
        );
        assert_eq!(
            applied(Status::Draining, "up weight=3"),
            (Status::Draining, "why".into(), 3)
        );
        assert_eq!(
            applied(Status::Up, "weight=0"),
            (Status::Up, "why".into(), 0)
        );
    }

    #[test]
    fn an_override_of_the_weight_sets_no_status() {
        assert!(Override::new().status(Status::Draining).has_status());
        assert!(!Override::new().weight(3).has_status());
    }
}

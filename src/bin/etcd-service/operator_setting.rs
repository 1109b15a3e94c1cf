//! Reads and writes the override of an instance: the value of one key of etcd. The functions that make the value are pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use etcd_blocking::{Client, Compare, Delete, Error, Instance, Override, Put, Status, Txn};

use crate::failure::Failure;

/// A key that others change each time is left to them after so many attempts.
pub(crate) const ATTEMPTS: u32 = 10;

/// The statuses that an operator can set, by their names.
pub(crate) const STATUSES: [Status; 5] = [
    Status::Draining,
    Status::Maintenance,
    Status::OutOfService,
    Status::Starting,
    Status::Up,
];

/// The status with this name; for the arguments of the verbs.
pub(crate) fn status(name: &str) -> Result<Status, String> {
    let mut known = STATUSES.into_iter();
    known.find(|status| status.as_str() == name).ok_or_else(|| {
        format!(
            "the statuses are {}",
            STATUSES.map(Status::as_str).join(", ")
        )
    })
}

/// A status, a weight, both or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperatorSetting {
    pub(crate) status: Option<Status>,
    pub(crate) weight: Option<u32>,
}

impl OperatorSetting {
    /// Parses the value of an override key.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, etcd_blocking::Error> {
        let text = String::from_utf8_lossy(value);
        // The library decides what is well-formed.
        text.parse::<Override>()?;
        let mut setting = OperatorSetting::default();
        for word in text.split_whitespace() {
            match word.strip_prefix("weight=") {
                Some(weight) => setting.weight = weight.parse().ok(),
                None => setting.status = status(word).ok(),
            }
        }
        Ok(setting)
    }

    /// The value of the key, or `None` if there must be no key.
    pub(crate) fn value(&self) -> Option<String> {
        let mut value = Override::new();
        if let Some(status) = self.status {
            value = value.status(status);
        }
        if let Some(weight) = self.weight {
            value = value.weight(weight);
        }
        (*self != OperatorSetting::default()).then(|| value.to_string())
    }

    /// The instance as a view shows it, which applies overrides itself soon after it was opened.
    pub(crate) fn shown(&self, instance: &Arc<Instance>) -> Arc<Instance> {
        let mut shown = Instance::clone(instance);
        if instance.status == Status::Suspect {
            return Arc::clone(instance);
        }
        if let Some(weight) = self.weight {
            shown.weight = weight;
        }
        if let Some(status) = self.status
            && instance.status != Status::Draining
            && instance.status != status
        {
            shown.status = status;
            shown.reason = match status {
                Status::Up => String::new(),
                _ => "set by an operator".to_owned(),
            };
        }
        Arc::new(shown)
    }
}

impl fmt::Display for OperatorSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.value().as_deref().unwrap_or("nothing"))
    }
}

/// The settings of all instances, by service and id. Values that are none are left out, as views do.
#[derive(Debug, Default)]
pub(crate) struct OperatorSettings(BTreeMap<(String, String), OperatorSetting>);

impl OperatorSettings {
    /// Reads them. `prefix` is that of the first format.
    pub(crate) fn read(client: &Client, prefix: &str) -> Result<Self, Failure> {
        let folder = Override::key(prefix, "", "");
        let folder = folder.trim_end_matches('/').to_owned() + "/";
        let kvs = client.get_prefix(folder.as_str())?;
        let settings = kvs.iter().filter_map(|kv| {
            let path = std::str::from_utf8(kv.key()).ok()?;
            let (service, id) = path.strip_prefix(folder.as_str())?.split_once('/')?;
            let setting = OperatorSetting::parse(kv.value()).ok()?;
            Some(((service.to_owned(), id.to_owned()), setting))
        });
        Ok(OperatorSettings(settings.collect()))
    }

    /// The instance as the operator set it.
    pub(crate) fn shown(&self, instance: &Arc<Instance>) -> Arc<Instance> {
        let key = (instance.service.clone(), instance.id.clone());
        match self.0.get(&key) {
            Some(setting) => setting.shown(instance),
            None => Arc::clone(instance),
        }
    }
}

/// Why a setting was not written.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// The key has a value that cannot be read.
    Malformed(Error),
    /// Others changed the key in each attempt.
    Contended,
    Etcd(Error),
}

/// Changes the setting in a key by compare and set, so that a change by another operator at the same time is kept.
/// Returns the setting before and after. With `replaces`, a value that cannot be read counts as none.
pub(crate) fn write_setting(
    client: &Client,
    key: &str,
    replaces: bool,
    change: impl Fn(&mut OperatorSetting),
) -> Result<(OperatorSetting, OperatorSetting), NotWritten> {
    for attempt in 1..=ATTEMPTS {
        let present = client.get(key).map_err(NotWritten::Etcd)?;
        let before = present
            .as_ref()
            .map(|kv| OperatorSetting::parse(kv.value()));
        let before = match before.transpose() {
            Ok(before) => before.unwrap_or_default(),
            Err(_) if replaces => OperatorSetting::default(),
            Err(error) => return Err(NotWritten::Malformed(error)),
        };
        let mut after = before;
        change(&mut after);
        let unchanged = match &present {
            Some(kv) => Compare::mod_revision(key).eq(kv.mod_revision()),
            None => Compare::missing(key),
        };
        let txn = Txn::when([unchanged]);
        let txn = match after.value() {
            Some(value) => txn.then([Put::new(key, value)]),
            None => txn.then([Delete::key(key)]),
        };
        if client.txn(txn).map_err(NotWritten::Etcd)?.succeeded() {
            return Ok((before, after));
        }
        thread::sleep(Duration::from_millis(10) * attempt);
    }
    Err(NotWritten::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_as_it_was_read() {
        for text in ["draining", "weight=0", "maintenance weight=5"] {
            let setting = OperatorSetting::parse(text.as_bytes()).unwrap();
            assert_eq!(setting.value().as_deref(), Some(text));
        }
        assert_eq!(OperatorSetting::default().value(), None);
        assert!(OperatorSetting::parse(b"down").is_err());
        assert!(OperatorSetting::parse(b"").is_err());
    }

    #[test]
    fn every_status_of_an_operator_has_a_name() {
        for one in STATUSES {
            assert_eq!(status(one.as_str()), Ok(one));
        }
        let error = status("suspect").unwrap_err();
        assert!(error.starts_with("the statuses are draining, "), "{error}");
    }

    #[test]
    fn the_status_of_the_operator_is_shown_unless_the_program_leaves() {
        let shown = |before: Status, text: &str| {
            let instance = Arc::new(Instance::new("web", "a:1").status(before).reason("why"));
            let shown = OperatorSetting::parse(text.as_bytes())
                .unwrap()
                .shown(&instance);
            (shown.status, shown.reason.clone(), shown.weight)
        };
        let by_operator = || "set by an operator".to_owned();
        for (before, text, expected) in [
            (
                Status::Up,
                "maintenance",
                (Status::Maintenance, by_operator(), 1),
            ),
            (
                Status::OutOfService,
                "up weight=3",
                (Status::Up, String::new(), 3),
            ),
            (
                Status::Draining,
                "up weight=3",
                (Status::Draining, "why".into(), 3),
            ),
            (
                Status::Suspect,
                "up weight=3",
                (Status::Suspect, "why".into(), 1),
            ),
        ] {
            assert_eq!(shown(before, text), expected, "{before} {text}");
        }
    }
}

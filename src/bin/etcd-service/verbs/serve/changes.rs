//! What operators change by the page: the same keys that `drain`, `undrain` and `weight` write.

use std::str;

use etcd_blocking::{Client, Compare, Delete, Override, Put, Result, Status, Txn};

/// How often a change is tried that collides with others.
const ATTEMPTS: usize = 5;

/// A change of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperatorChange {
    Drain,
    Undrain,
    Weight(u32),
}

/// Writes overrides.
#[derive(Debug)]
pub(super) struct Changes {
    client: Client,
    prefix: String,
}

impl Changes {
    pub(super) fn new(client: Client, prefix: String) -> Self {
        Changes { client, prefix }
    }

    /// Changes the override of an instance. Returns `false` if others changed it at the same time, each time.
    pub(super) fn make(&self, service: &str, id: &str, change: OperatorChange) -> Result<bool> {
        let key = Override::key(&self.prefix, service, id);
        for _ in 0..ATTEMPTS {
            let present = self.client.get(key.as_str())?;
            let unchanged = match &present {
                Some(kv) => Compare::mod_revision(key.as_str()).eq(kv.mod_revision()),
                None => Compare::version(key.as_str()).eq(0),
            };
            let value = present.as_ref().map(|kv| kv.value().as_ref());
            let value = value.and_then(|value| str::from_utf8(value).ok());
            let txn = match (
                changed(value.unwrap_or_default(), change),
                present.is_some(),
            ) {
                (Some(value), _) => {
                    Txn::when([unchanged]).then([Put::new(key.as_str(), value.to_string())])
                }
                (None, true) => Txn::when([unchanged]).then([Delete::key(key.as_str())]),
                (None, false) => return Ok(true),
            };
            if self.client.txn(txn)?.succeeded() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The value after a change; `None` if the key is to be deleted. What is not a value of an override counts as none.
fn changed(value: &str, change: OperatorChange) -> Option<Override> {
    let present: Option<Override> = value.parse().ok();
    let weight = value
        .split_whitespace()
        .find_map(|word| word.strip_prefix("weight=")?.parse().ok())
        .filter(|_| present.is_some());
    match change {
        OperatorChange::Drain => Some(present.unwrap_or_default().status(Status::Draining)),
        OperatorChange::Weight(weight) => Some(present.unwrap_or_default().weight(weight)),
        OperatorChange::Undrain => weight.map(|weight| Override::new().weight(weight)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_weight_are_changed_separately() {
        use OperatorChange::{Drain, Undrain, Weight};
        for (value, change, expected) in [
            ("", Drain, Some("draining")),
            ("weight=5", Drain, Some("draining weight=5")),
            ("maintenance", Drain, Some("draining")),
            ("", Undrain, None),
            ("draining", Undrain, None),
            ("draining weight=5", Undrain, Some("weight=5")),
            ("", Weight(3), Some("weight=3")),
            ("draining", Weight(0), Some("draining weight=0")),
            ("weight=5", Weight(3), Some("weight=3")),
            ("nonsense weight=5", Undrain, None),
            ("nonsense", Drain, Some("draining")),
        ] {
            let written = changed(value, change).map(|value| value.to_string());
            assert_eq!(written.as_deref(), expected, "{value:?} {change:?}");
        }
    }
}

//! What operators change by the page: the same keys that `drain`, `undrain` and `weight` write.

use etcd_blocking::{Client, Override, Result, Status};

use crate::operator_setting::{NotWritten, OperatorSetting, write_setting};

/// A change of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperatorChange {
    Drain,
    Undrain,
    Weight(u32),
}

impl OperatorChange {
    fn apply(self, setting: &mut OperatorSetting) {
        match self {
            OperatorChange::Drain => setting.status = Some(Status::Draining),
            OperatorChange::Undrain => setting.status = None,
            OperatorChange::Weight(weight) => setting.weight = Some(weight),
        }
    }
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
        match write_setting(&self.client, &key, true, |setting| change.apply(setting)) {
            Ok(_) => Ok(true),
            Err(NotWritten::Contended) => Ok(false),
            Err(NotWritten::Etcd(error) | NotWritten::Malformed(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_weight_are_changed_separately() {
        use OperatorChange::{Drain, Undrain, Weight};
        for (value, change, expected) in [
            ("weight=5", Drain, Some("draining weight=5")),
            ("maintenance", Drain, Some("draining")),
            ("draining", Undrain, None),
            ("draining weight=5", Undrain, Some("weight=5")),
            ("draining", Weight(0), Some("draining weight=0")),
            ("weight=5", Weight(3), Some("weight=3")),
        ] {
            let mut setting = OperatorSetting::parse(value.as_bytes()).unwrap();
            change.apply(&mut setting);
            assert_eq!(setting.value().as_deref(), expected, "{value:?} {change:?}");
        }
    }
}

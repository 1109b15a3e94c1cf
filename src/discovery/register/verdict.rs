//! What the health checks of an instance allow, and what is registered of the instance then. Pure.

use std::sync::Arc;

use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

/// What the health checks of an instance allow.
#[allow(dead_code)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Verdict {
    /// The instance is registered as the program set it.
    Healthy,
    /// The instance is registered, and takes no calls.
    OutOfService {
        /// The reason, which readers see.
        reason: String,
    },
    /// The instance is not in etcd.
    Withdrawn {
        /// The reason.
        reason: String,
    },
}

impl Verdict {
    /// The instance to register, or `None` if it must not be in etcd.
    pub(super) fn apply(&self, instance: &Arc<Instance>) -> Option<Arc<Instance>> {
        match (self, instance.status) {
            (Verdict::Withdrawn { .. }, _) => None,
            // A status by which the instance takes no calls anyway says more than its checks.
            (Verdict::OutOfService { reason }, Status::Up | Status::Starting) => {
                let instance = Instance::clone(instance);
                let instance = instance.status(Status::OutOfService).reason(reason);
                Some(Arc::new(instance))
            }
            (Verdict::Healthy | Verdict::OutOfService { .. }, _) => Some(Arc::clone(instance)),
        }
    }

    /// Why the instance is not in etcd.
    pub(super) fn withdrawn(&self) -> Option<&str> {
        match self {
            Verdict::Withdrawn { reason } => Some(reason),
            Verdict::Healthy | Verdict::OutOfService { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_take_an_instance_out_of_service_only_if_it_takes_calls() {
        let failing = Verdict::OutOfService {
            reason: "port 80: refused".into(),
        };
        for (before, after) in [
            (Status::Up, Status::OutOfService),
            (Status::Starting, Status::OutOfService),
            (Status::OutOfService, Status::OutOfService),
            (Status::Draining, Status::Draining),
            (Status::Maintenance, Status::Maintenance),
        ] {
            let instance = Arc::new(Instance::new("api", "a:1").status(before));
            let registered = failing.apply(&instance).unwrap();
            assert_eq!(registered.status, after);
            let is_changed = before != after;
            assert_eq!(registered.reason == "port 80: refused", is_changed);
            assert_eq!(Verdict::Healthy.apply(&instance), Some(instance.clone()));
            let withdrawn = Verdict::Withdrawn { reason: "x".into() };
            assert_eq!(withdrawn.apply(&instance), None);
            assert_eq!(withdrawn.withdrawn(), Some("x"));
        }
    }
}

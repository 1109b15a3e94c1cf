//! What the health checks of an instance allow, and what is registered of the instance then. Pure.

use std::sync::Arc;

use crate::discovery::instance::Instance;
use crate::discovery::overrides::operator_override::Override;
use crate::discovery::status::Status;

/// What the health checks of an instance allow.
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
    /// The instance to register, or `None` if it must not be in etcd: the instance of the program, as its health
    /// checks allow and as an operator set it.
    pub(super) fn apply(
        &self,
        instance: &Arc<Instance>,
        by_operator: Option<Override>,
    ) -> Option<Arc<Instance>> {
        let reason = match (self, instance.status) {
            (Verdict::Withdrawn { .. }, _) => return None,
            // A status by which the instance takes no calls anyway says more than its checks.
            (Verdict::OutOfService { reason }, Status::Up | Status::Starting) => Some(reason),
            (Verdict::Healthy | Verdict::OutOfService { .. }, _) => None,
        };
        // The operator decides, whatever the checks say.
        let reason = reason.filter(|_| !by_operator.is_some_and(|set| set.has_status()));
        if reason.is_none() && by_operator.is_none() {
            return Some(Arc::clone(instance));
        }
        let mut registered = Instance::clone(instance);
        if let Some(reason) = reason {
            registered.status = Status::OutOfService;
            registered.reason.clone_from(reason);
        }
        if let Some(by_operator) = by_operator {
            by_operator.apply(&mut registered);
        }
        Some(Arc::new(registered))
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
            let registered = failing.apply(&instance, None).unwrap();
            assert_eq!(registered.status, after);
            let is_changed = before != after;
            assert_eq!(registered.reason == "port 80: refused", is_changed);
            assert_eq!(
                Verdict::Healthy.apply(&instance, None),
                Some(instance.clone())
            );
            let withdrawn = Verdict::Withdrawn { reason: "x".into() };
            assert_eq!(withdrawn.apply(&instance, None), None);
            assert_eq!(withdrawn.withdrawn(), Some("x"));
        }
    }

    #[test]
    fn an_operator_decides_over_the_checks_but_not_over_a_withdrawal() {
        let instance = Arc::new(Instance::new("api", "a:1"));
        let failing = Verdict::OutOfService { reason: "x".into() };
        let set = |text: &str| Some(text.parse::<Override>().unwrap());
        let status = |verdict: &Verdict, text| {
            let registered = verdict.apply(&instance, set(text));
            registered.map(|registered| (registered.status, registered.weight))
        };
        assert_eq!(status(&failing, "up"), Some((Status::Up, 1)));
        assert_eq!(
            status(&failing, "weight=3"),
            Some((Status::OutOfService, 3))
        );
        assert_eq!(
            status(&Verdict::Healthy, "maintenance"),
            Some((Status::Maintenance, 1))
        );
        let withdrawn = Verdict::Withdrawn { reason: "x".into() };
        assert_eq!(status(&withdrawn, "up"), None);
    }
}

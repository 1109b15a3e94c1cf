//! Which instances are listed. Pure.

use std::sync::Arc;

use clap::Args;
use etcd_blocking::{Instance, Status};

use crate::operator_setting::status;

/// Which instances are listed: those that match each kind of flag that is given.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Only instances with this status; repeated or separated by commas, one of several
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    status: Vec<Status>,
    /// Only instances with this tag; repeated or separated by commas, all of them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Only instances in this zone; repeated or separated by commas, one of several
    #[arg(long, value_name = "ZONE", value_delimiter = ',')]
    zone: Vec<String>,
}

impl Selection {
    /// Whether an instance is listed.
    pub(crate) fn matches(&self, instance: &Instance) -> bool {
        (self.status.is_empty() || self.status.contains(&instance.status))
            && self.tag.iter().all(|tag| instance.tags.contains(tag))
            && (self.zone.is_empty() || self.zone.contains(&instance.zone))
    }

    /// Selects, unless `--status` says otherwise, the instances that accept calls.
    pub(crate) fn ready(&self, instance: &Instance) -> bool {
        self.matches(instance) && (!self.status.is_empty() || instance.is_pickable())
    }

    /// The instances that `selects` returns true for.
    pub(crate) fn of(
        instances: &[Arc<Instance>],
        selects: impl Fn(&Instance) -> bool,
    ) -> Vec<Arc<Instance>> {
        let selected = instances.iter().filter(|instance| selects(instance));
        selected.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_matches_every_kind_of_flag() {
        let selection = |status: &[Status], tag: &[&str], zone: &[&str]| Selection {
            status: status.to_vec(),
            tag: tag.iter().map(|&tag| tag.to_owned()).collect(),
            zone: zone.iter().map(|&zone| zone.to_owned()).collect(),
        };
        let draining = Instance::new("web", "a:1").tag("x").tag("y").zone("a");
        let draining = draining.status(Status::Draining);
        for (selection, matches) in [
            (selection(&[], &[], &[]), true),
            (selection(&[Status::Up, Status::Draining], &[], &[]), true),
            (selection(&[Status::Up], &[], &[]), false),
            (selection(&[], &["x", "y"], &[]), true),
            (selection(&[], &["x", "z"], &[]), false),
            (selection(&[], &["x"], &["b", "a"]), true),
            (selection(&[], &["x"], &["b"]), false),
        ] {
            assert_eq!(selection.matches(&draining), matches, "{selection:?}");
        }
        assert!(!selection(&[], &[], &[]).ready(&draining));
        assert!(selection(&[Status::Draining], &[], &[]).ready(&draining));
        let unused = Instance::new("web", "a:1").weight(0);
        assert!(!selection(&[], &[], &[]).ready(&unused));
    }
}

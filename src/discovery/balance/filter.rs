//! Selects the instances that can be picked. Pure.

use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

/// The instances of a service that a view picks from.
///
/// A condition for each tag and each entry of the metadata must hold, and one of the versions and one of the
/// statuses must match. The filter is applied when an instance changes and costs nothing at a pick. It does
/// not change what [`snapshot`](crate::ServiceView::snapshot) and
/// [`changes`](crate::ServiceView::changes) contain.
///
/// ```
/// use etcd_blocking::balance::Filter;
/// use etcd_blocking::{Instance, Status};
///
/// let filter = Filter::new().tag("gpu").meta("team", "core").version("1.4");
/// let instance = Instance::new("api", "10.0.0.5:80").tag("gpu").meta("team", "core");
/// assert!(filter.matches(&instance.clone().version("1.4.2")));
/// assert!(!filter.matches(&instance.clone().version("1.40")));
/// assert!(!filter.matches(&instance.version("1.4").status(Status::Draining)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    statuses: Vec<Status>,
    versions: Vec<String>,
    tags: Vec<String>,
    meta: Vec<(String, String)>,
}

impl Filter {
    /// Creates a filter that every instance with the status [`Up`](Status::Up) and a weight above 0 passes.
    pub fn new() -> Self {
        Filter::default()
    }

    /// Requires a tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Requires an entry of the metadata.
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.push((name.into(), value.into()));
        self
    }

    /// Requires a version, or any of several when it is called again. `1.4` stands for `1.4` and everything that
    /// begins with `1.4.`, such as `1.4.2`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.versions.push(version.into());
        self
    }

    /// Requires a status instead of [`Up`](Status::Up), or any of several when it is called again. It is for
    /// programs that examine instances which take no calls.
    pub fn status(mut self, status: Status) -> Self {
        self.statuses.push(status);
        self
    }

    /// Returns whether an instance can be picked: it meets all conditions, and its weight is not 0.
    pub fn matches(&self, instance: &Instance) -> bool {
        let status = match self.statuses.as_slice() {
            [] => instance.status.is_pickable(),
            statuses => statuses.contains(&instance.status),
        };
        status && self.matches_besides_status(instance)
    }

    /// Returns whether the filter accepts all properties of an instance but its status.
    pub(super) fn matches_besides_status(&self, instance: &Instance) -> bool {
        let is_version = |version: &String| {
            let rest = instance.version.strip_prefix(version.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        instance.weight > 0
            && self.tags.iter().all(|tag| instance.tags.contains(tag))
            && (self.meta.iter()).all(|(name, value)| instance.meta.get(name) == Some(value))
            && (self.versions.is_empty() || self.versions.iter().any(is_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance::new("api", "a:1")
            .version("2.1.0")
            .tag("blue")
            .tag("gpu")
            .meta("team", "core")
    }

    #[test]
    fn every_condition_must_hold() {
        let (one, none) = (instance(), Filter::new());
        for (filter, matches) in [
            (none.clone(), true),
            (none.clone().tag("gpu"), true),
            (none.clone().tag("gpu").tag("blue"), true),
            (none.clone().tag("gpu").tag("green"), false),
            (none.clone().meta("team", "core"), true),
            (none.clone().meta("team", "edge"), false),
            (none.clone().meta("zone", "core"), false),
            (none.clone().version("2.1.0"), true),
            (none.clone().version("2"), true),
            (none.clone().version("2.1.0.0"), false),
            (none.clone().version("2.10"), false),
            (none.clone().version("1").version("2.1"), true),
            (none.clone().status(Status::Up), true),
            (none.clone().status(Status::Maintenance), false),
            (none.clone().tag("gpu").version("1"), false),
        ] {
            assert_eq!(filter.matches(&one), matches, "{filter:?}");
        }
    }

    #[test]
    fn only_the_status_up_passes_unless_others_are_named() {
        let draining = instance().status(Status::Draining);
        assert!(!Filter::new().matches(&draining));
        let filter = Filter::new().status(Status::Draining).status(Status::Up);
        assert!(filter.matches(&draining) && filter.matches(&instance()));
        assert!(!filter.matches(&draining.weight(0)));
    }
}

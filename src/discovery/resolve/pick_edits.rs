//! Turns the steps of a list into the edits of its balancer. Pure.
//!
//! Demoted instances are in the balancer only while no other instance can be picked, which is also so when the
//! filter of the balancer excludes all others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::hold::ShownStep;
use super::instance_list::InstanceEdit;
use crate::discovery::balance::filter::Filter;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

/// The edits of a balancer.
#[derive(Debug, Default)]
pub(super) struct PickEdits {
    filter: Arc<Filter>,
    /// The number of instances that pass the filter and are not demoted.
    regular: usize,
    demoted: BTreeMap<Bytes, Arc<Instance>>,
    /// Whether the demoted ones are in the balancer.
    is_reserve_used: bool,
    edits: Vec<InstanceEdit>,
}

impl PickEdits {
    pub(super) fn new(filter: Arc<Filter>) -> Self {
        PickEdits {
            filter,
            ..PickEdits::default()
        }
    }

    /// Applies a step to the instance of `key`.
    pub(super) fn apply(&mut self, key: &Bytes, step: &ShownStep) {
        match step {
            ShownStep::Added(instance) => self.put(key, instance, None),
            // A suspect stays demoted, as it was registered.
            ShownStep::Updated { instance, .. } if instance.status == Status::Suspect => {}
            ShownStep::Updated { instance, before } => self.put(key, instance, Some(before)),
            ShownStep::Removed { instance, .. } => self.remove(key, instance),
            ShownStep::Demoted(instance) => {
                if !self.demoted.contains_key(key) {
                    self.remove(key, instance);
                    self.demoted.insert(key.clone(), instance.clone());
                    if self.is_reserve_used {
                        self.edit(key, Some(instance));
                    }
                }
            }
            ShownStep::Promoted(instance) => {
                if self.demoted.contains_key(key) {
                    self.put(key, instance, None);
                }
            }
        }
    }

    /// Takes the edits since the last call.
    pub(super) fn take(&mut self) -> Vec<InstanceEdit> {
        let is_needed = self.regular == 0;
        if is_needed != self.is_reserve_used {
            self.is_reserve_used = is_needed;
            let demoted = self.demoted.iter();
            self.edits.extend(
                demoted.map(|(key, instance)| (key.clone(), is_needed.then(|| instance.clone()))),
            );
        }
        std::mem::take(&mut self.edits)
    }

    /// The number of instances that the balancer has and that accept calls.
    #[cfg(test)]
    pub(super) fn pickable(&self) -> usize {
        match self.regular {
            0 => self.demoted.values().map(|one| self.count(one)).sum(),
            regular => regular,
        }
    }

    fn put(&mut self, key: &Bytes, instance: &Arc<Instance>, before: Option<&Arc<Instance>>) {
        if self.demoted.remove(key).is_none() {
            let before = before.map_or(0, |before| self.count(before));
            self.regular = self.regular.saturating_sub(before);
        }
        self.regular += self.count(instance);
        self.edit(key, Some(instance));
    }

    fn remove(&mut self, key: &Bytes, instance: &Arc<Instance>) {
        if self.demoted.remove(key).is_none() {
            self.regular = self.regular.saturating_sub(self.count(instance));
        }
        self.edit(key, None);
    }

    fn edit(&mut self, key: &Bytes, instance: Option<&Arc<Instance>>) {
        self.edits.push((key.clone(), instance.cloned()));
    }

    fn count(&self, instance: &Instance) -> usize {
        usize::from(self.filter.matches(instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::resolve::change::Cause;

    #[derive(Default)]
    struct Balancer {
        picks: PickEdits,
        known: BTreeMap<Bytes, Arc<Instance>>,
    }

    impl Balancer {
        fn apply(&mut self, steps: impl IntoIterator<Item = ShownStep>) -> String {
            for step in steps {
                let id = step.instance().id.clone();
                self.picks.apply(&id.into(), &step);
            }
            for (key, instance) in self.picks.take() {
                match instance {
                    Some(instance) => self.known.insert(key, instance),
                    None => self.known.remove(&key),
                };
            }
            let filter = &self.picks.filter;
            let pickable = self.known.values().filter(|one| filter.matches(one));
            let ids: String = pickable.map(|one| one.id.as_str()).collect();
            assert_eq!(ids.len(), self.picks.pickable());
            ids
        }
    }

    fn web(id: &str, weight: u32) -> Arc<Instance> {
        Arc::new(Instance::new("web", "a:1").id(id).weight(weight))
    }

    fn added(id: &str, weight: u32) -> ShownStep {
        ShownStep::Added(web(id, weight))
    }

    fn updated(id: &str, weight: u32, before: u32) -> ShownStep {
        let (instance, before) = (web(id, weight), web(id, before));
        ShownStep::Updated { instance, before }
    }

    fn removed(id: &str) -> ShownStep {
        let (instance, cause) = (web(id, 1), Cause::Left);
        ShownStep::Removed { instance, cause }
    }

    #[test]
    fn pickable_instances_are_counted() {
        let mut balancer = Balancer::default();
        assert_eq!(balancer.apply([added("a", 1)]), "a");
        assert_eq!(balancer.apply([updated("a", 0, 1)]), "");
        assert_eq!(balancer.apply([updated("a", 2, 0)]), "a");
        assert_eq!(balancer.apply([updated("a", 3, 2), added("b", 1)]), "ab");
        assert_eq!(balancer.apply([removed("a")]), "b");
    }

    #[test]
    fn demoted_instances_are_picked_only_if_there_is_no_other() {
        let mut balancer = Balancer::default();
        let demoted = |id| ShownStep::Demoted(web(id, 1));
        let promoted = |id| ShownStep::Promoted(web(id, 1));
        balancer.apply([added("a", 1), added("b", 1), added("c", 0)]);
        assert_eq!(balancer.apply([demoted("a")]), "b");
        assert_eq!(balancer.apply([demoted("a"), demoted("b")]), "ab");
        let suspect = Arc::new(Instance::new("web", "a:1").id("a").status(Status::Suspect));
        let to_suspect = ShownStep::Updated {
            instance: suspect.clone(),
            before: web("a", 1),
        };
        assert_eq!(balancer.apply([to_suspect]), "ab");
        assert_eq!(balancer.apply([added("d", 1)]), "d");
        assert_eq!(balancer.apply([promoted("b"), promoted("b")]), "bd");
        let back = ShownStep::Updated {
            instance: web("a", 1),
            before: suspect,
        };
        assert_eq!(balancer.apply([back]), "abd");
        assert_eq!(balancer.apply([demoted("d"), removed("d")]), "ab");
        assert_eq!(balancer.apply([removed("a"), removed("b")]), "");
    }

    #[test]
    fn demoted_instances_are_picked_if_the_filter_excludes_all_others() {
        let (old, new) = (Filter::new().version("1"), Filter::new().version("2"));
        for (filter, expected) in [(old, "a"), (new.clone(), "b"), (new.version("1"), "b")] {
            let mut balancer = Balancer {
                picks: PickEdits::new(Arc::new(filter)),
                ..Balancer::default()
            };
            let of = |id: &str, version: &str| {
                Arc::new(Instance::new("web", "a:1").id(id).version(version))
            };
            let (a, b) = (of("a", "1"), of("b", "2"));
            let steps = [
                ShownStep::Added(a.clone()),
                ShownStep::Added(b),
                ShownStep::Demoted(a),
            ];
            assert_eq!(balancer.apply(steps), expected);
        }
        // A filter by status counts what it picks.
        let mut balancer = Balancer {
            picks: PickEdits::new(Arc::new(Filter::new().status(Status::Draining))),
            ..Balancer::default()
        };
        let draining = |id: &str| {
            let one = Instance::new("web", "a:1").id(id);
            Arc::new(one.status(Status::Draining))
        };
        let (a, b) = (draining("a"), draining("b"));
        let steps = [ShownStep::Added(a.clone()), ShownStep::Demoted(a)];
        assert_eq!(balancer.apply(steps), "a");
        assert_eq!(balancer.apply([ShownStep::Added(b), added("c", 1)]), "b");
    }
}

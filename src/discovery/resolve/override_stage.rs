//! Applies the overrides of operators to the instances that a view shows. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::hold::ShownStep;
use crate::discovery::instance::Instance;
use crate::discovery::overrides::override_feed::ServiceOverrides;
use crate::discovery::status::Status;

/// The overrides of a service, and the instances that they change.
#[derive(Debug, Default)]
pub(super) struct OverrideStage {
    overrides: Arc<ServiceOverrides>,
    /// The instances that are shown in another way than they are registered, by their keys in the list.
    changed: BTreeMap<Bytes, Changed>,
}

#[derive(Debug)]
struct Changed {
    registered: Arc<Instance>,
    shown: Arc<Instance>,
}

impl OverrideStage {
    /// The step of an instance as it is shown.
    pub(super) fn pass(&mut self, key: &Bytes, step: ShownStep) -> ShownStep {
        match step {
            ShownStep::Added(instance) => ShownStep::Added(self.put(key, instance)),
            ShownStep::Updated { instance, before } => {
                let before = self.shown(key, before);
                let instance = self.put(key, instance);
                match instance == before {
                    // Only the part changed that the override replaces.
                    true => ShownStep::Promoted(instance),
                    false => ShownStep::Updated { instance, before },
                }
            }
            ShownStep::Removed { instance, cause } => {
                let instance = self.shown(key, instance);
                self.changed.remove(key);
                ShownStep::Removed { instance, cause }
            }
            ShownStep::Demoted(instance) => ShownStep::Demoted(self.shown(key, instance)),
            ShownStep::Promoted(instance) => ShownStep::Promoted(self.shown(key, instance)),
        }
    }

    /// Replaces the overrides. `shown_with` returns the instances with an id that are shown, each with its key.
    pub(super) fn set(
        &mut self,
        overrides: Arc<ServiceOverrides>,
        shown_with: impl Fn(&str) -> Vec<(Bytes, Arc<Instance>)>,
    ) -> Vec<ShownStep> {
        let before = std::mem::replace(&mut self.overrides, overrides);
        let ids = before.keys().chain(self.overrides.keys());
        let mut ids: Vec<String> = ids
            .filter(|id| before.get(*id) != self.overrides.get(*id))
            .cloned()
            .collect();
        ids.sort();
        ids.dedup();
        let mut steps = Vec::new();
        for (key, before) in ids.iter().flat_map(|id| shown_with(id)) {
            let registered = match self.changed.remove(&key) {
                Some(changed) => changed.registered,
                None => before.clone(),
            };
            let instance = self.put(&key, registered);
            if instance != before {
                steps.push(ShownStep::Updated { instance, before });
            }
        }
        steps
    }

    fn shown(&self, key: &Bytes, instance: Arc<Instance>) -> Arc<Instance> {
        match self.changed.get(key) {
            Some(changed) => changed.shown.clone(),
            None => instance,
        }
    }

    fn put(&mut self, key: &Bytes, registered: Arc<Instance>) -> Arc<Instance> {
        self.changed.remove(key);
        let by_operator = self.overrides.get(&registered.id);
        // A suspect is held by the view, and its status says so.
        let Some(by_operator) = by_operator.filter(|_| registered.status != Status::Suspect) else {
            return registered;
        };
        let mut shown = Instance::clone(&registered);
        by_operator.apply(&mut shown);
        if shown == *registered {
            return registered;
        }
        let shown = Arc::new(shown);
        let changed = Changed {
            registered,
            shown: shown.clone(),
        };
        self.changed.insert(key.clone(), changed);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::overrides::operator_override::Override;
    use crate::discovery::resolve::change::Cause;

    fn overrides(entries: &[(&str, &str)]) -> Arc<ServiceOverrides> {
        let entries = entries.iter();
        let parsed =
            entries.map(|(id, text)| ((*id).to_owned(), text.parse::<Override>().unwrap()));
        Arc::new(parsed.collect())
    }

    fn instance(id: &str, weight: u32) -> Arc<Instance> {
        Arc::new(Instance::new("web", "a:1").id(id).weight(weight))
    }

    fn in_maintenance(id: &str, weight: u32) -> Arc<Instance> {
        let mut instance = Instance::clone(&instance(id, weight));
        Override::new()
            .status(Status::Maintenance)
            .apply(&mut instance);
        Arc::new(instance)
    }

    fn nothing(_: &str) -> Vec<(Bytes, Arc<Instance>)> {
        Vec::new()
    }

    #[test]
    fn an_overridden_instance_is_shown_as_the_operator_set_it() {
        let (mut stage, key) = (OverrideStage::default(), Bytes::from("a"));
        assert!(
            stage
                .set(overrides(&[("a", "maintenance")]), nothing)
                .is_empty()
        );
        let added = stage.pass(&key, ShownStep::Added(instance("a", 1)));
        assert_eq!(added, ShownStep::Added(in_maintenance("a", 1)));
        let other = ShownStep::Added(instance("b", 1));
        assert_eq!(stage.pass(&Bytes::from("b"), other.clone()), other);
        // An update of another part, one of the overridden part only, and a removal.
        let (instance_of, before) = (instance("a", 2), instance("a", 1));
        let updated = stage.pass(
            &key,
            ShownStep::Updated {
                instance: instance_of,
                before,
            },
        );
        let (now, before) = (in_maintenance("a", 2), in_maintenance("a", 1));
        assert_eq!(
            updated,
            ShownStep::Updated {
                instance: now.clone(),
                before
            }
        );
        let registered = ShownStep::Updated {
            instance: now.clone(),
            before: instance("a", 2),
        };
        assert_eq!(
            stage.pass(&key, registered),
            ShownStep::Promoted(now.clone())
        );
        assert!(
            stage.changed.is_empty(),
            "it is registered as the operator set it"
        );
        let removed = ShownStep::Removed {
            instance: now,
            cause: Cause::Left,
        };
        assert_eq!(stage.pass(&key, removed.clone()), removed);
    }

    #[test]
    fn a_new_or_deleted_override_updates_what_is_shown() {
        let (mut stage, key) = (OverrideStage::default(), Bytes::from("a"));
        let (plain, set) = (instance("a", 1), in_maintenance("a", 1));
        stage.pass(&key, ShownStep::Added(plain.clone()));
        let shown = |instance: &Arc<Instance>| {
            let entry = (key.clone(), instance.clone());
            move |id: &str| {
                if id == "a" {
                    vec![entry.clone()]
                } else {
                    Vec::new()
                }
            }
        };
        let steps = stage.set(
            overrides(&[("a", "maintenance"), ("b", "up")]),
            shown(&plain),
        );
        let update = |instance: &Arc<Instance>, before: &Arc<Instance>| ShownStep::Updated {
            instance: instance.clone(),
            before: before.clone(),
        };
        assert_eq!(steps, [update(&set, &plain)]);
        let steps = stage.set(overrides(&[("a", "maintenance")]), shown(&set));
        assert!(steps.is_empty(), "the override of another instance");
        let steps = stage.set(overrides(&[]), shown(&set));
        assert_eq!(steps, [update(&plain, &set)]);
        assert!(stage.changed.is_empty());
    }

    #[test]
    fn a_suspect_keeps_its_status() {
        let mut stage = OverrideStage::default();
        stage.set(overrides(&[("a", "up")]), nothing);
        let suspect = Arc::new(Instance::clone(&instance("a", 1)).status(Status::Suspect));
        let step = ShownStep::Added(suspect);
        assert_eq!(stage.pass(&Bytes::from("a"), step.clone()), step);
    }
}

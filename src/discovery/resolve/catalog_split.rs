//! Splits the changes of all services by service. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::change::{Cause, Change};
use super::directory::DirectoryUpdate;
use crate::discovery::instance::Instance;

/// The part of one service.
#[derive(Default)]
struct Part {
    update: DirectoryUpdate,
    added: Vec<Arc<Instance>>,
    updated: Vec<Arc<Instance>>,
    removed: Vec<(Arc<Instance>, Cause)>,
}

type Parts = BTreeMap<Arc<str>, Part>;

/// An update, by service.
pub(super) struct Split {
    pub(super) services: BTreeMap<Arc<str>, DirectoryUpdate>,
    /// The keys whose values are not instances, with the reason.
    pub(super) bad: Vec<(Bytes, String)>,
}

/// Splits an update without queries by service. A reset stays one reset for each service that it changes.
pub(super) fn split(update: DirectoryUpdate) -> Split {
    let (mut parts, mut bad) = (Parts::new(), Vec::new());
    for instance in update.unexplained {
        let part = of(&mut parts, &instance);
        part.update.unexplained.push(instance);
    }
    let mut before = update.before.into_iter();
    for change in update.changes {
        match change {
            Change::Bad { key, reason } => bad.push((key, reason)),
            Change::Stale { .. } | Change::Live => {}
            Change::Added(ref instance)
            | Change::Updated { ref instance, .. }
            | Change::Removed { ref instance, .. } => {
                let part = of(&mut parts, instance);
                part.update.changes.push(change);
            }
            Change::Reset {
                added,
                updated,
                removed,
            } => {
                for instance in added {
                    of(&mut parts, &instance).added.push(instance);
                }
                for (instance, before) in updated.into_iter().zip(&mut before) {
                    let part = of(&mut parts, &instance);
                    part.update.before.push(before);
                    part.updated.push(instance);
                }
                for (instance, cause) in removed {
                    of(&mut parts, &instance).removed.push((instance, cause));
                }
            }
        }
    }
    let services = parts.into_iter();
    let services = services.map(|(name, part)| (name, part.finish())).collect();
    Split { services, bad }
}

fn of<'a>(parts: &'a mut Parts, instance: &Instance) -> &'a mut Part {
    parts.entry(instance.service.as_str().into()).or_default()
}

impl Part {
    fn finish(mut self) -> DirectoryUpdate {
        let (added, updated, removed) = (self.added, self.updated, self.removed);
        if !(added.is_empty() && updated.is_empty() && removed.is_empty()) {
            self.update.changes.push(Change::Reset {
                added,
                updated,
                removed,
            });
        }
        self.update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(service: &str, id: &str) -> Arc<Instance> {
        Arc::new(Instance::new(service, "a:1").id(id))
    }

    #[test]
    fn a_reset_is_one_reset_for_each_service_that_it_changes() {
        let update = DirectoryUpdate {
            changes: vec![
                Change::Removed {
                    instance: one("web", "gone"),
                    cause: Cause::Unknown,
                },
                Change::Reset {
                    added: vec![one("web", "a"), one("api", "b"), one("web", "c")],
                    updated: vec![one("api", "u"), one("db", "v")],
                    removed: vec![(one("db", "x"), Cause::Resync)],
                },
                Change::Bad {
                    key: "k".into(),
                    reason: "bad".into(),
                },
            ],
            before: vec![one("api", "u0"), one("db", "v0")],
            unexplained: vec![one("old", "y")],
            ..DirectoryUpdate::default()
        };
        let Split {
            services: parts,
            bad,
        } = split(update);
        assert_eq!(bad.len(), 1);
        let names: Vec<&str> = parts.keys().map(|name| &**name).collect();
        assert_eq!(names, ["api", "db", "old", "web"]);
        assert_eq!(parts["old"].unexplained, [one("old", "y")]);
        assert_eq!(parts["db"].before, [one("db", "v0")]);
        let [
            Change::Reset {
                added,
                updated,
                removed,
            },
        ] = &parts["api"].changes[..]
        else {
            panic!("{:?}", parts["api"].changes);
        };
        assert_eq!(
            (&added[..], &updated[..]),
            (&[one("api", "b")][..], &[one("api", "u")][..])
        );
        assert!(removed.is_empty());
        let [Change::Removed { .. }, Change::Reset { added, .. }] = &parts["web"].changes[..]
        else {
            panic!("{:?}", parts["web"].changes);
        };
        assert_eq!(added.len(), 2);
    }
}

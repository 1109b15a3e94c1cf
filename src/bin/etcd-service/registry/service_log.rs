//! The instances of a service, and the events that their changes are. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use etcd_blocking::{Change, Instance};

use super::picture::{Counts, Shown};
use super::timeline::{Event, Timeline, What};

/// Follows the changes of one service.
#[derive(Debug)]
pub(super) struct ServiceLog {
    known: BTreeMap<Arc<str>, Shown>,
    timeline: Arc<Timeline>,
    counts: Counts,
    /// Whether its first list has arrived.
    has_list: bool,
}

impl ServiceLog {
    /// `was_there` says that the first list shows what was there before, and not what is new.
    pub(super) fn new(timeline: Timeline, was_there: bool) -> Self {
        ServiceLog {
            known: BTreeMap::new(),
            timeline: Arc::new(timeline),
            counts: Counts::default(),
            has_list: !was_there,
        }
    }

    pub(super) fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    pub(super) fn timeline_mut(&mut self) -> &mut Timeline {
        Arc::make_mut(&mut self.timeline)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The instances, sorted by id.
    pub(super) fn instances(&self) -> Vec<Shown> {
        self.known.values().cloned().collect()
    }

    /// Whether there are neither instances nor events.
    pub(super) fn is_over(&self) -> bool {
        self.known.is_empty() && self.timeline.is_empty()
    }

    /// Applies a change that arrived now.
    pub(super) fn apply(&mut self, change: &Change, now: SystemTime) {
        let is_first_list = !self.has_list && matches!(change, Change::Reset { .. });
        for (instance, cause) in change.causes() {
            let id: Arc<str> = instance.id.as_str().into();
            self.known.remove(&id);
            self.counts.removed(cause);
            let addr = instance.addr.as_str().into();
            self.record(now, What::Removed { id, addr, cause });
        }
        for instance in change.present() {
            let id: Arc<str> = instance.id.as_str().into();
            let before = self.known.remove(&id);
            let status_since = match &before {
                Some(before) if before.instance.status == instance.status => before.status_since,
                None if is_first_list => None,
                _ => Some(now),
            };
            match before {
                Some(before) => self.updated(&id, &before.instance, instance, now),
                None if is_first_list => {
                    let (id, addr) = (Arc::clone(&id), instance.addr.as_str().into());
                    self.timeline_mut().was_there(id, addr, instance.status);
                }
                None => {
                    self.counts.added += 1;
                    let what = What::Added {
                        id: Arc::clone(&id),
                        addr: instance.addr.as_str().into(),
                        status: instance.status,
                    };
                    self.record(now, what);
                }
            }
            let instance = Arc::clone(instance);
            let shown = Shown {
                instance,
                status_since,
            };
            self.known.insert(id, shown);
        }
        match change {
            Change::Reset { .. } => self.has_list = true,
            Change::Stale { .. } => self.record(now, What::Stale),
            Change::Live => self.record(now, What::Live),
            _ => {}
        }
    }

    fn updated(&mut self, id: &Arc<str>, before: &Instance, after: &Instance, now: SystemTime) {
        self.counts.updated += 1;
        if before.incarnation() != after.incarnation() {
            self.record(now, What::Restarted { id: Arc::clone(id) });
        }
        if before.status != after.status {
            let what = What::Status {
                id: Arc::clone(id),
                from: before.status,
                to: after.status,
                reason: after.reason.clone(),
            };
            self.record(now, what);
        }
        let what = difference(before, after);
        if !what.is_empty() {
            let id = Arc::clone(id);
            self.record(now, What::Changed { id, what });
        }
    }

    fn record(&mut self, at: SystemTime, what: What) {
        self.timeline_mut().record(Event { at, what });
    }
}

/// Which properties differ, apart from status and reason.
fn difference(before: &Instance, after: &Instance) -> String {
    let mut differences = Vec::new();
    if before.weight != after.weight {
        differences.push(format!("weight {} to {}", before.weight, after.weight));
    }
    for (name, differs) in [
        ("address", before.addr != after.addr),
        ("zone", before.zone != after.zone),
        ("version", before.version != after.version),
        ("tags", before.tags != after.tags),
        ("endpoints", before.endpoints != after.endpoints),
        ("metadata", before.meta != after.meta),
    ] {
        if differs {
            differences.push(name.to_owned());
        }
    }
    differences.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etcd_blocking::{Cause, Status};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn log(was_there: bool) -> ServiceLog {
        let timeline = Timeline::new(at(0), Duration::from_secs(3600), 100);
        ServiceLog::new(timeline, was_there)
    }

    fn instance(id: &str) -> Instance {
        Instance::new("api", format!("{id}.example:80")).id(id)
    }

    fn events(log: &ServiceLog) -> Vec<What> {
        let events = log.timeline().events();
        events.map(|event| event.what.clone()).collect()
    }

    fn add(log: &mut ServiceLog, instance: Instance, seconds: u64) -> Arc<Instance> {
        let instance = Arc::new(instance);
        log.apply(&Change::Added(Arc::clone(&instance)), at(seconds));
        instance
    }

    #[test]
    fn an_added_instance_is_an_event() {
        let mut log = log(false);
        add(&mut log, instance("a"), 1);
        assert!(matches!(&events(&log)[..], [What::Added { id, .. }] if &**id == "a"));
        assert_eq!(log.counts().added, 1);
        assert_eq!(log.instances()[0].status_since, Some(at(1)));
        assert!(!log.is_over());
    }

    #[test]
    fn the_time_of_the_status_stays_while_other_properties_change() {
        let mut log = log(true);
        add(&mut log, instance("a"), 1);
        add(&mut log, instance("a").weight(7), 2);
        assert_eq!(log.instances()[0].status_since, Some(at(1)));
        add(
            &mut log,
            instance("a").weight(7).status(Status::Draining),
            3,
        );
        assert_eq!(log.instances()[0].status_since, Some(at(3)));
        let events = events(&log);
        let weight =
            |what: &What| matches!(what, What::Changed { what, .. } if what == "weight 1 to 7");
        assert!(weight(&events[1]), "{events:?}");
        let draining = |what: &What| {
            matches!(
                what,
                What::Status {
                    to: Status::Draining,
                    ..
                }
            )
        };
        assert!(draining(&events[2]), "{events:?}");
        assert_eq!(events.len(), 3);
        assert_eq!((log.counts().added, log.counts().updated), (1, 2));
    }

    #[test]
    fn the_first_list_is_no_event_and_a_later_one_is_the_difference() {
        let mut log = log(true);
        let reset = |added: Vec<Instance>, updated: Vec<Instance>, removed: Vec<Instance>| {
            let removed = removed
                .into_iter()
                .map(|gone| (Arc::new(gone), Cause::Resync));
            Change::Reset {
                added: added.into_iter().map(Arc::new).collect(),
                updated: updated.into_iter().map(Arc::new).collect(),
                removed: removed.collect(),
            }
        };
        let first = reset(vec![instance("a"), instance("b")], vec![], vec![]);
        log.apply(&first, at(1));
        assert!(events(&log).is_empty());
        assert_eq!(log.timeline().tracks(at(2)).len(), 2);
        assert_eq!(log.instances()[0].status_since, None);
        let down = instance("b").status(Status::OutOfService);
        let later = reset(vec![instance("c")], vec![down], vec![instance("a")]);
        log.apply(&later, at(3));
        let events = events(&log);
        assert!(matches!(
            events[0],
            What::Removed {
                cause: Cause::Resync,
                ..
            }
        ));
        assert!(matches!(events[1], What::Added { .. }), "{events:?}");
        assert!(matches!(events[2], What::Status { .. }), "{events:?}");
        let ids: Vec<_> = log
            .instances()
            .iter()
            .map(|shown| shown.instance.id.clone())
            .collect();
        assert_eq!(ids, ["b", "c"]);
    }

    #[test]
    fn the_difference_names_what_changed() {
        let (a, b) = (
            instance("a"),
            instance("a").zone("z").meta("k", "v").tag("t"),
        );
        assert_eq!(difference(&a, &b), "zone, tags, metadata");
        assert_eq!(difference(&a, &a), "");
    }

    #[test]
    fn causes_are_counted() {
        let mut counts = Counts::default();
        for cause in [Cause::Left, Cause::Expired, Cause::Expired, Cause::Resync] {
            counts.removed(cause);
        }
        assert_eq!((counts.left, counts.expired, counts.resync), (1, 2, 1));
        assert_eq!((counts.replaced, counts.unknown), (0, 0));
    }
}

//! Instances that share an address, in one format or in several. The model in `service_list` has no such ones.

use super::*;

/// A merge and the instances that its sources have.
struct World {
    merge: Merge,
    now: Instant,
    present: BTreeMap<(usize, &'static str), Arc<Instance>>,
}

impl World {
    fn new(sources: usize) -> Self {
        World {
            merge: Merge::new(sources),
            now: Instant::now(),
            present: BTreeMap::new(),
        }
    }

    /// A source puts an instance with this id and weight at the only address.
    fn put(&mut self, source: usize, id: &'static str, weight: u32) -> String {
        let instance = Arc::new(Instance::new("web", "h:1").id(id).weight(weight));
        let change = match self.present.insert((source, id), instance.clone()) {
            Some(before) => Change::Updated { instance, before },
            None => Change::Added(instance),
        };
        self.apply(source, change)
    }

    fn remove(&mut self, source: usize, id: &'static str) -> String {
        let instance = self.present.remove(&(source, id)).unwrap();
        let cause = Cause::Left;
        self.apply(source, Change::Removed { instance, cause })
    }

    fn apply(&mut self, source: usize, change: Change) -> String {
        let mut out = Vec::new();
        self.merge.apply(source, change, self.now, &mut out);
        summary(out)
    }

    /// Ends the wait of instances in later formats, and returns the changes that it shows.
    fn settled(&mut self) -> String {
        let mut out = Vec::new();
        self.merge.tick(self.now + SETTLE - SETTLE / 100, &mut out);
        assert_eq!(out, []);
        self.merge.tick(self.now + SETTLE, &mut out);
        assert_eq!(self.merge.due(), None);
        summary(out)
    }
}

fn summary(out: Vec<Change>) -> String {
    let steps = out.iter().filter_map(|change| match change {
        // Only another key.
        Change::Updated { instance, before } if instance == before => None,
        Change::Added(instance) => Some(format!("+{}", instance.id)),
        Change::Updated { instance, .. } => Some(format!("~{}", instance.id)),
        Change::Removed { instance, .. } => Some(format!("-{}", instance.id)),
        other => Some(format!("{other:?}")),
    });
    steps.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_instance_that_leaves_others_of_its_format_at_its_address_is_removed_at_once() {
    for sources in 1..4 {
        let mut world = World::new(sources);
        assert_eq!(world.put(0, "a", 1), "+a");
        assert_eq!(world.put(0, "b", 1), "+b");
        assert_eq!(world.remove(0, "a"), "-a");
        assert_eq!(world.merge.due(), None, "nothing waits");
        assert_eq!(world.put(0, "b", 2), "~b");
        assert_eq!(world.remove(0, "b"), "-b");
    }
}

#[test]
fn a_later_format_alone_is_shown_after_a_time_with_what_it_has_then() {
    let mut world = World::new(2);
    assert_eq!(world.put(1, "a", 1), "");
    assert_eq!(world.put(1, "b", 1), "");
    assert_eq!(world.put(1, "b", 2), "");
    assert_eq!(world.remove(1, "a"), "");
    assert_eq!(world.put(1, "c", 1), "");
    assert_eq!(world.settled(), "+b +c");
    assert_eq!(world.put(1, "b", 3), "~b");
    assert_eq!(world.remove(1, "b"), "-b");
}

#[test]
fn a_format_behind_the_first_one_changes_nothing_and_ends_no_wait() {
    let mut world = World::new(3);
    assert_eq!(world.put(0, "a", 1), "+a");
    assert_eq!(world.put(1, "b", 1), "");
    assert_eq!(world.put(2, "c", 1), "");
    assert_eq!(world.merge.due(), None);
    // The second format may lose the address next.
    assert_eq!(world.remove(0, "a"), "");
    assert_eq!(world.put(2, "c", 2), "");
    assert_eq!(world.put(2, "d", 1), "");
    assert_eq!(world.remove(2, "d"), "");
    assert_eq!(world.settled(), "-a +b");
    assert_eq!(world.put(2, "c", 3), "");
    assert_eq!(world.put(0, "a", 1), "-b +a");
}

#[test]
fn only_an_instance_without_another_key_or_format_before_it_is_shown_by_its_key() {
    let mut world = World::new(2);
    world.put(0, "a", 1);
    world.put(1, "b", 1);
    let of = |id: &str| Instance::new("web", "h:1").id(id);
    assert!(world.merge.is_shown(0, &of("a")));
    assert!(!world.merge.is_shown(1, &of("b")), "a format is before it");
    assert!(!world.merge.is_shown(0, &of("c")), "there is none");
    // A second key of the same instance.
    let again = Arc::new(of("a"));
    world.apply(0, Change::Added(again.clone()));
    assert!(!world.merge.is_shown(0, &of("a")));
    let cause = Cause::Left;
    let instance = again;
    world.apply(0, Change::Removed { instance, cause });
    assert!(world.merge.is_shown(0, &of("a")));
    world.remove(0, "a");
    assert!(!world.merge.is_shown(1, &of("b")), "it waits");
    world.settled();
    assert!(world.merge.is_shown(1, &of("b")));
}

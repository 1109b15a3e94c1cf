mod causes;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn format() -> Format {
    Format::default().prefix("/svc/")
}

fn instance(id: &str) -> Instance {
    Instance::new("web", "a:1").id(id)
}

fn put(instance: &Instance, lease: i64) -> KeyValue {
    KeyValue {
        key: format().key(instance).unwrap(),
        value: format().encode(instance).unwrap().unwrap(),
        lease,
        ..KeyValue::default()
    }
}

fn bad(id: &str, value: &'static str) -> KeyValue {
    KeyValue {
        value: value.into(),
        ..put(&instance(id), 1)
    }
}

fn delete(id: &str) -> KeyEvent {
    KeyEvent::Delete(format().key(&instance(id)).unwrap())
}

fn lease(id: i64) -> LeaseId {
    LeaseId::new(id).unwrap()
}

/// A directory that has read `list`.
fn read(list: impl IntoIterator<Item = KeyValue>) -> Directory {
    let mut directory = Directory::new(format());
    let _ = directory.reset(list, Revision::new(10));
    directory
}

fn ids(directory: &Directory) -> Vec<String> {
    let instances = directory.instances();
    instances.iter().map(|one| one.id.clone()).collect()
}

/// The changes in short: `+a`, `~a`, `-a Left`, `!` for a bad value, resets in brackets.
fn summary(changes: &[Change]) -> String {
    let one = |change: &Change| match change {
        Change::Added(instance) => format!("+{}", instance.id),
        Change::Updated { instance, .. } => format!("~{}", instance.id),
        Change::Removed { instance, cause } => format!("-{} {cause:?}", instance.id),
        Change::Reset {
            added,
            updated,
            removed,
        } => {
            let removed = removed
                .iter()
                .map(|(gone, cause)| format!("-{} {cause:?}", gone.id));
            let added = added.iter().map(|new| format!("+{}", new.id));
            let updated = updated.iter().map(|now| format!("~{}", now.id));
            let all: Vec<_> = removed.chain(added).chain(updated).collect();
            format!("[{}]", all.join(", "))
        }
        Change::Stale { .. } => "stale".into(),
        Change::Live => "live".into(),
        Change::Bad { .. } => "!".into(),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn apply(directory: &mut Directory, events: impl IntoIterator<Item = KeyEvent>) -> DirectoryUpdate {
    directory.apply(events, Revision::new(11))
}

#[test]
fn a_view_is_not_ready_before_the_first_list_and_ready_after_an_empty_list() {
    let mut directory = Directory::new(format());
    assert_eq!(directory.revision(), None);
    let update = apply(&mut directory, [KeyEvent::Put(put(&instance("a"), 1))]);
    assert_eq!(
        (summary(&update.changes), directory.revision()),
        (String::new(), None)
    );
    let update = directory.reset([], Revision::new(5));
    assert_eq!(summary(&update.changes), "");
    assert_eq!(directory.revision(), Some(Revision::new(5)));
}

#[test]
fn the_first_list_adds_all_instances_sorted_by_id() {
    let mut directory = Directory::new(format());
    let list = ["b", "a", "c"].map(|id| put(&instance(id), 1));
    let update = directory.reset(list, Revision::new(5));
    assert_eq!(summary(&update.changes), "[+b, +a, +c]");
    assert_eq!(ids(&directory), ["a", "b", "c"]);
}

#[test]
fn a_put_adds_updates_replaces_or_changes_nothing() {
    let mut directory = read([]);
    let a = instance("a");
    let mut update = |instance: &Instance, lease| {
        let update = apply(&mut directory, [KeyEvent::Put(put(instance, lease))]);
        summary(&update.changes)
    };
    assert_eq!(update(&a, 1), "+a");
    assert_eq!(update(&a, 2), "");
    assert_eq!(update(&a.clone().weight(2), 2), "~a");
    let mut moved = a.clone();
    moved.addr = "b:1".into();
    assert_eq!(update(&moved, 2), "-a Replaced, +a");
}

#[test]
fn events_without_a_difference_make_no_change_of_an_instance() {
    let mut directory = read([put(&instance("a"), 1)]);
    let update = apply(&mut directory, [KeyEvent::Put(put(&instance("a"), 2))]);
    assert_eq!(summary(&update.changes), "");
    let update = directory.reset([put(&instance("a"), 3)], Revision::new(12));
    assert_eq!(summary(&update.changes), "");
    let update = apply(&mut directory, [KeyEvent::Put(bad("x", "?"))]);
    assert_eq!(summary(&update.changes), "!");
    let update = apply(&mut directory, [KeyEvent::Put(put(&instance("b"), 1))]);
    assert_eq!(summary(&update.changes), "+b");
    let update = apply(&mut directory, [KeyEvent::Put(bad("a", "?"))]);
    assert_eq!(summary(&update.changes), "-a Replaced, !");
}

#[test]
fn the_reported_revision_stays_before_a_removal_without_a_cause() {
    let mut directory = read([put(&instance("a"), 1), put(&instance("b"), 2)]);
    assert_eq!(directory.reported(), Some(Revision::new(10)));
    assert!(directory.any_lease().is_some());
    let update = directory.apply([delete("a")], Revision::new(12));
    let gone: Vec<_> = update.unexplained.iter().map(|one| &one.id[..]).collect();
    assert_eq!(gone, ["a"]);
    let _ = directory.apply([delete("b")], Revision::new(15));
    assert_eq!(directory.reported(), Some(Revision::new(11)));
    let _ = directory.lease_status(lease(1), Some(false));
    assert_eq!(directory.reported(), Some(Revision::new(14)));
    let _ = directory.lease_status(lease(2), None);
    assert_eq!(directory.reported(), Some(Revision::new(15)));
}

#[test]
fn a_malformed_value_removes_its_own_instance_and_no_other() {
    let mut directory = Directory::new(format());
    let update = directory.reset(
        [
            put(&instance("a"), 1),
            bad("b", "secret"),
            put(&instance("c"), 1),
        ],
        Revision::new(5),
    );
    assert_eq!(summary(&update.changes), "[+a, +c], !");
    assert_eq!(summary(&directory.first_changes()), "[+a, +c], !");
    assert!(!format!("{:?}", update.changes).contains("secret"));

    let update = apply(&mut directory, [KeyEvent::Put(bad("a", "[]"))]);
    assert_eq!(summary(&update.changes), "-a Replaced, !");
    assert_eq!(ids(&directory), ["c"]);
    assert_eq!(directory.bad().count(), 2);

    let update = apply(
        &mut directory,
        [KeyEvent::Put(put(&instance("a"), 1)), delete("b")],
    );
    assert_eq!(summary(&update.changes), "+a");
    assert_eq!(directory.bad().count(), 0);
}

#[test]
fn a_reset_reports_exactly_the_difference() {
    let mut moved = instance("d");
    moved.addr = "b:1".into();
    let mut directory = read(["a", "b", "c", "d", "e"].map(|id| put(&instance(id), 1)));
    let update = directory.reset(
        [
            put(&instance("b"), 2),
            put(&instance("c").weight(2), 1),
            put(&moved, 1),
            bad("e", "?"),
            put(&instance("f"), 1),
        ],
        Revision::new(20),
    );
    assert_eq!(
        summary(&update.changes),
        "[-d Replaced, -e Replaced, -a Resync, +d, +f, ~c], !"
    );
    assert_eq!(ids(&directory), ["b", "c", "d", "f"]);
}

#[test]
fn a_reset_without_a_difference_reports_nothing() {
    let list = || [put(&instance("a"), 1), bad("b", "?")];
    let mut directory = read(list());
    let update = directory.reset(list(), Revision::new(20));
    assert_eq!(summary(&update.changes), "");
    assert_eq!(directory.bad().count(), 1);
}

#[test]
fn events_and_progress_raise_the_revision_and_a_reset_may_lower_it() {
    let mut directory = read([]);
    let _ = directory.apply([], Revision::new(30));
    assert_eq!(directory.revision(), Some(Revision::new(30)));
    let _ = directory.apply([], Revision::new(29));
    assert_eq!(directory.revision(), Some(Revision::new(30)));
    directory.advance(Revision::new(29));
    assert_eq!(directory.revision(), Some(Revision::new(30)));
    directory.advance(Revision::new(31));
    assert_eq!(directory.revision(), Some(Revision::new(31)));
    let _ = directory.reset([], Revision::new(3));
    assert_eq!(directory.revision(), Some(Revision::new(3)));
}

#[test]
fn down_and_up_are_reported_once_and_keep_the_instances() {
    let mut directory = read([put(&instance("a"), 1)]);
    assert_eq!(directory.up(), None);
    let since = Instant::now();
    assert_eq!(directory.down(since), Some(Change::Stale { since }));
    assert_eq!(directory.down(since + Duration::from_secs(1)), None);
    assert_eq!(directory.stale_since(), Some(since));
    assert_eq!(ids(&directory), ["a"]);
    assert_eq!(directory.up(), Some(Change::Live));
    assert_eq!(directory.up(), None);
}

/// An action on the store, and how the directory receives it.
#[derive(Clone, Debug)]
enum Action {
    /// Writes that arrive as one batch of events.
    Watched(Vec<Write>),
    /// Edits while the view could not watch, then a list.
    Missed(Vec<Write>),
    /// An answer to one of the open queries.
    Answer(usize, Option<bool>),
}

/// The instance (or bad value) that a key gets with a lease, or its deletion.
type Write = (&'static str, Option<(Value, i64)>);

#[derive(Clone, Debug)]
enum Value {
    Good(Box<Instance>),
    Bad(&'static str),
}

fn write() -> impl Strategy<Value = Write> {
    let id = prop::sample::select(vec!["a", "b", "c", "d"]);
    let good = (
        prop::sample::select(vec!["x:1", "y:1"]),
        0..3u32,
        prop::sample::select(vec![Status::Up, Status::Draining]),
    );
    let good = good.prop_map(|(addr, weight, status)| {
        let instance = Instance::new("web", addr).weight(weight);
        Value::Good(Box::new(instance.status(status)))
    });
    let broken = prop::sample::select(vec!["?", "[]"]).prop_map(Value::Bad);
    let value = prop_oneof![5 => good, 1 => broken];
    (id, proptest::option::of((value, 0..3i64)))
}

fn action() -> impl Strategy<Value = Action> {
    let writes = || prop::collection::vec(write(), 0..5);
    prop_oneof![
        4 => writes().prop_map(Action::Watched),
        1 => writes().prop_map(Action::Missed),
        2 => (0..60usize, any::<Option<bool>>())
            .prop_map(|(which, alive)| Action::Answer(which, alive)),
    ]
}

/// The store, the directory, and a reader that knows only the reported changes.
struct Model {
    store: BTreeMap<Bytes, KeyValue>,
    directory: Directory,
    follower: BTreeMap<String, Arc<Instance>>,
    open: BTreeSet<LeaseId>,
}

impl Model {
    fn write(&mut self, (id, value): Write) -> KeyEvent {
        let Some((value, lease)) = value else {
            let KeyEvent::Delete(key) = delete(id) else {
                panic!()
            };
            self.store.remove(&key);
            return KeyEvent::Delete(key);
        };
        let kv = match value {
            Value::Good(instance) => put(&instance.id(id), lease),
            Value::Bad(value) => bad(id, value),
        };
        self.store.insert(kv.key.clone(), kv.clone());
        KeyEvent::Put(kv)
    }

    fn act(&mut self, action: Action) {
        let update = match action {
            Action::Watched(writes) => {
                let events: Vec<_> = writes.into_iter().map(|write| self.write(write)).collect();
                apply(&mut self.directory, events)
            }
            Action::Missed(writes) => {
                for write in writes {
                    self.write(write);
                }
                let list = self.store.values().cloned();
                let update = self.directory.reset(list, Revision::new(1));
                let again = self
                    .directory
                    .reset(self.store.values().cloned(), Revision::new(1));
                assert_eq!(
                    summary(&again.changes),
                    "",
                    "a second list reported a change"
                );
                update
            }
            Action::Answer(which, alive) => {
                let open: Vec<_> = self.open.iter().copied().collect();
                if open.is_empty() {
                    return;
                }
                let lease = open[which % open.len()];
                self.open.remove(&lease);
                self.directory.lease_status(lease, alive)
            }
        };
        for query in update.queries {
            assert!(
                self.open.insert(query.lease),
                "one lease is asked about once at a time"
            );
        }
        for change in &update.changes {
            self.follow(change);
        }
        self.compare();
    }

    fn follow(&mut self, change: &Change) {
        if let Change::Reset {
            added,
            updated,
            removed,
        } = change
        {
            assert!(added.len() + updated.len() + removed.len() > 0);
        }
        for gone in change.gone() {
            assert_eq!(
                self.follower.remove(&gone.id).as_ref(),
                Some(gone),
                "removed without being there"
            );
        }
        let updates = match change {
            Change::Updated { instance, before } => {
                assert_eq!(self.follower.get(&instance.id), Some(before));
                std::slice::from_ref(instance)
            }
            Change::Reset { updated, .. } => updated,
            _ => &[],
        };
        for present in change.present() {
            let before = self.follower.insert(present.id.clone(), present.clone());
            assert_eq!(
                before.is_some(),
                updates.contains(present),
                "added twice, or updated without being there"
            );
            assert!(before.is_none_or(|before| before != *present && before.addr == present.addr));
        }
    }

    fn compare(&mut self) {
        let known = self.directory.instances();
        let true_ones: Vec<_> = self
            .store
            .values()
            .filter_map(|kv| format().decode(&kv.key, &kv.value).ok().flatten())
            .map(Arc::new)
            .collect();
        assert_eq!(*known, *true_ones);
        assert!(known.is_sorted_by_key(|instance| &instance.id));
        assert_eq!(
            self.directory.bad().count(),
            self.store.len() - true_ones.len()
        );
        // The reader has the same instances, except for those whose removal has no cause yet.
        for one in known.iter() {
            assert_eq!(self.follower.get(&one.id), Some(one));
        }
        let waiting = self.follower.len() - known.len();
        assert_eq!(waiting == 0, self.directory.is_settled());
        assert!(
            waiting == 0 || !self.open.is_empty(),
            "a removal without a query"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_reader_of_every_change_has_the_instances_of_the_directory(
        actions in prop::collection::vec(action(), 1..25),
    ) {
        let mut model = Model {
            store: BTreeMap::new(),
            directory: read([]),
            follower: BTreeMap::new(),
            open: BTreeSet::new(),
        };
        for action in actions {
            model.act(action);
        }
        while !model.open.is_empty() {
            model.act(Action::Answer(0, Some(true)));
        }
        prop_assert!(model.directory.is_settled());
        prop_assert_eq!(model.follower.len(), model.directory.instances().len());
    }
}

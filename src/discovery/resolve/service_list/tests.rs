//! A model of two formats in etcd, with expiries, leaving, lists, probes and time. Whatever the order, the
//! list is explained by what happened.

mod formats;
mod stages;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::discovery::codec::{Format, Native, Plain};
use crate::discovery::resolve::directory::{Directory, KeyEvent};
use crate::discovery::status::Status;
use crate::types::{KeyValue, LeaseId, Revision};

/// An id and an address.
type Name = (String, String);

#[derive(Clone, Debug)]
enum Action {
    /// An instance writes one format, or both.
    Put {
        n: u8,
        weight: u32,
        formats: u8,
    },
    /// The keys of an instance are deleted, and its lease lives, has ended, or is unknown.
    Delete {
        n: u8,
        formats: u8,
        alive: Option<bool>,
    },
    /// All instances of the first ones expire.
    Mass(u8),
    /// A source lists again: it lost the keys of these instances without an event.
    Relist {
        source: usize,
        lost: u8,
    },
    Probe(u8, bool),
    /// Time in tenths of a second.
    Wait(u16),
}

fn action() -> impl Strategy<Value = Action> {
    let alive = prop_oneof![Just(Some(true)), Just(Some(false)), Just(None)];
    prop_oneof![
        6 => (0u8..12, 0u32..3, 1u8..4).prop_map(|(n, weight, formats)| Action::Put {
            n,
            weight,
            formats
        }),
        4 => (0u8..12, 1u8..4, alive).prop_map(|(n, formats, alive)| Action::Delete {
            n,
            formats,
            alive
        }),
        1 => (3u8..12).prop_map(Action::Mass),
        1 => (0usize..2, 0u8..12).prop_map(|(source, lost)| Action::Relist { source, lost }),
        2 => (0u8..12, any::<bool>()).prop_map(|(n, alive)| Action::Probe(n, alive)),
        3 => (0u16..50).prop_map(Action::Wait),
        1 => (100u16..700).prop_map(Action::Wait),
    ]
}

/// The instances that a view has before etcd answers: from a file, or given by the program.
fn seeds() -> impl Strategy<Value = Vec<(u8, u32)>> {
    let seeds = prop::collection::btree_map(0u8..12, 0u32..3, 0..12);
    seeds.prop_map(|seeds| seeds.into_iter().collect())
}

struct Model {
    formats: Vec<Format>,
    directories: Vec<Directory>,
    store: Vec<BTreeMap<Bytes, KeyValue>>,
    list: ServiceList,
    now: Instant,
    revision: i64,
    /// What a reader of the changes has, and what the snapshot has.
    reader: BTreeMap<Name, Arc<Instance>>,
    shown: BTreeMap<Bytes, Arc<Instance>>,
    balancer: BTreeMap<Bytes, Arc<Instance>>,
    pickable: usize,
    /// When an instance was last lost in a way that allows to hold it.
    lost: BTreeMap<Name, Instant>,
    steps: usize,
}

fn instance(n: u8, weight: u32) -> Instance {
    Instance::new("web", format!("h:{}", n + 1))
        .id(format!("i{n}"))
        .weight(weight)
}

fn name(instance: &Instance) -> Name {
    (instance.id.clone(), instance.addr.clone())
}

impl Model {
    fn new(sources: usize) -> Self {
        Model::seeded(sources, Vec::new(), Vec::new())
    }

    /// A view that shows seeds, and then lists what the first source has.
    fn seeded(sources: usize, seeds: Vec<(u8, u32)>, listed: Vec<(u8, u32)>) -> Self {
        let formats = [Format::new(Native), Format::new(Plain)][..sources].to_vec();
        let mut model = Model {
            directories: formats.iter().cloned().map(Directory::new).collect(),
            store: vec![BTreeMap::new(); sources],
            list: ServiceList::new(sources, Protection::default(), Arc::default()),
            formats,
            now: Instant::now(),
            revision: 10,
            reader: BTreeMap::new(),
            shown: BTreeMap::new(),
            balancer: BTreeMap::new(),
            pickable: 0,
            lost: BTreeMap::new(),
            steps: 0,
        };
        let shown: Vec<_> = seeds
            .iter()
            .map(|(n, weight)| instance(*n, *weight))
            .collect();
        let shown: Vec<_> = shown.into_iter().map(Arc::new).collect();
        model.list.seed(0, shown.clone(), model.now);
        model.publish();
        let seeded: Vec<_> = model.reader.values().cloned().collect();
        assert_eq!(seeded.len(), shown.len());
        for (n, weight) in listed {
            let (format, instance) = (&model.formats[0], instance(n, weight));
            let (key, value) = (format.key(&instance).unwrap(), format.encode(&instance));
            let kv = KeyValue {
                key: key.clone(),
                value: value.unwrap().unwrap(),
                lease: 7,
                ..KeyValue::default()
            };
            model.store[0].insert(key, kv);
        }
        for source in 0..sources {
            let list: Vec<_> = model.store[source].values().cloned().collect();
            let update = model.directories[source].reset(list, Revision::new(10));
            model.list.listed(source, update, model.now);
        }
        // What etcd lists first is believed at once, however much it differs.
        model.publish();
        assert!(!model.list.is_holding());
        model.check();
        model
    }

    /// The sources of a set of formats.
    fn sources(&self, formats: u8) -> Vec<usize> {
        let all = 0..self.formats.len();
        all.filter(|source| formats & (1 << source) != 0).collect()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Put { n, weight, formats } => {
                for source in self.sources(formats) {
                    self.put(source, &instance(n, weight));
                }
            }
            Action::Delete { n, formats, alive } => {
                for source in self.sources(formats) {
                    self.delete(source, n, alive);
                }
            }
            Action::Mass(count) => {
                for n in 0..count {
                    for source in self.sources(3) {
                        self.delete(source, n, Some(false));
                    }
                }
            }
            Action::Relist { source, lost } => {
                let source = source % self.formats.len();
                self.revision += 1;
                let key = self.formats[source].key(&instance(lost, 1)).unwrap();
                if self.store[source].remove(&key).is_some() {
                    self.note_lost();
                }
                let list: Vec<_> = self.store[source].values().cloned().collect();
                let update = self.directories[source].reset(list, Revision::new(self.revision));
                self.list.update(source, update, self.now);
            }
            Action::Probe(n, alive) => {
                let addr: Arc<str> = instance(n, 1).addr.as_str().into();
                let verdict = match alive {
                    true => Verdict::Alive,
                    false => Verdict::Dead,
                };
                self.list.probed(&addr, verdict, self.now);
                self.publish();
                if !alive {
                    let present = self.winners().into_keys().any(|(_, at)| *at == *addr);
                    let shown = self.shown.values().any(|one| *one.addr == *addr);
                    let settling = self.list.is_settling();
                    assert!(present || settling || !shown, "dead, and shown");
                }
            }
            Action::Wait(tenths) => {
                self.now += Duration::from_millis(100) * tenths.into();
                self.list.tick(self.now);
            }
        }
        // As the worker does after each event.
        self.list.tick(self.now);
        self.publish();
        self.check();
    }

    fn put(&mut self, source: usize, instance: &Instance) {
        self.revision += 1;
        let format = &self.formats[source];
        // A format without a status has no key for an instance without calls.
        let (key, Some(value)) = (
            format.key(instance).unwrap(),
            format.encode(instance).unwrap(),
        ) else {
            return;
        };
        let kv = KeyValue {
            key: key.clone(),
            value,
            lease: self.revision,
            ..KeyValue::default()
        };
        self.store[source].insert(key, kv.clone());
        let events = [KeyEvent::Put(kv)];
        let update = self.directories[source].apply(events, Revision::new(self.revision));
        self.list.update(source, update, self.now);
        self.publish();
    }

    fn delete(&mut self, source: usize, n: u8, alive: Option<bool>) {
        let key = self.formats[source].key(&instance(n, 1)).unwrap();
        let Some(kv) = self.store[source].remove(&key) else {
            return;
        };
        self.revision += 1;
        if alive != Some(true) {
            self.note_lost();
        }
        let events = [KeyEvent::Delete(key)];
        let update = self.directories[source].apply(events, Revision::new(self.revision));
        let queries = update.queries.clone();
        self.list.update(source, update, self.now);
        self.publish();
        for query in queries {
            assert_eq!(query.lease, LeaseId::new(kv.lease).unwrap());
            let update = self.directories[source].lease_status(query.lease, alive);
            self.list.update(source, update, self.now);
            self.publish();
        }
    }

    /// Everything that is shown now may be held from now on.
    fn note_lost(&mut self) {
        for name in self.reader.keys() {
            self.lost.insert(name.clone(), self.now);
        }
    }

    /// The instances that the stores have, with the rule of the merge.
    fn winners(&self) -> BTreeMap<Name, Instance> {
        let mut winners: BTreeMap<Name, Instance> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (format, store) in self.formats.iter().zip(&self.store) {
            let decoded = store.values().map(|kv| format.decode(&kv.key, &kv.value));
            let here: Vec<Instance> = decoded.map(|read| read.unwrap().unwrap()).collect();
            for instance in here.iter().filter(|one| !taken.contains(&one.addr)) {
                winners.insert(name(instance), instance.clone());
            }
            taken.extend(here.into_iter().map(|one| one.addr));
        }
        winners
    }

    fn publish(&mut self) {
        let update = self.list.take();
        for record in &update.records {
            self.steps += 1;
            for (gone, _) in record.change.causes() {
                let had = self.reader.remove(&name(gone));
                assert_eq!(had.as_ref(), Some(gone), "removed as it was shown");
            }
            match &record.change {
                Change::Updated { instance, before } => {
                    let had = self.reader.insert(name(instance), instance.clone());
                    assert_eq!(had.as_ref(), Some(before), "updated from what was shown");
                    assert_ne!(instance, before, "an update without a difference");
                }
                Change::Reset { updated, added, .. } => {
                    assert_eq!(updated.len(), record.before.len());
                    for (instance, before) in updated.iter().zip(&record.before) {
                        let had = self.reader.insert(name(instance), instance.clone());
                        assert_eq!(had.as_ref(), Some(before), "updated from what was shown");
                    }
                    for instance in added {
                        let had = self.reader.insert(name(instance), instance.clone());
                        assert_eq!(had, None, "added twice");
                    }
                }
                Change::Added(instance) => {
                    let had = self.reader.insert(name(instance), instance.clone());
                    assert_eq!(had, None, "added twice");
                }
                _ => {}
            }
        }
        for (edits, map) in [
            (update.edits, &mut self.shown),
            (update.picks, &mut self.balancer),
        ] {
            for (key, instance) in edits {
                match instance {
                    Some(instance) => map.insert(key, instance),
                    None => map.remove(&key),
                };
            }
        }
        assert_eq!(update.shown, self.shown.len());
        self.pickable = self.list.picks.pickable();
    }

    fn check(&self) {
        let shown: Vec<_> = self.shown.values().cloned().collect();
        let read: Vec<_> = self.reader.values().cloned().collect();
        assert_eq!(shown, read, "the changes lead to the snapshot");
        let winners = self.winners();
        if !self.list.is_settling() {
            for (name, instance) in &winners {
                let shown = self.reader.get(name).map(|one| &**one);
                assert_eq!(shown, Some(instance), "registered and not shown");
            }
        }
        let longest = Duration::from_secs(61);
        for (name, instance) in &self.reader {
            if winners.contains_key(name) || self.list.is_settling() {
                continue;
            }
            let lost = self.lost.get(name).expect("shown, and it left");
            let held = self.now.saturating_duration_since(*lost);
            assert!(held <= longest, "held for {held:?}");
            let is_suspect = instance.status == Status::Suspect;
            assert!(is_suspect || held <= Duration::from_secs(3), "{held:?}");
        }
        let can_pick = |one: &&Arc<Instance>| one.is_pickable();
        let in_balancer: Vec<_> = self.balancer.values().filter(can_pick).collect();
        assert_eq!(in_balancer.len(), self.pickable);
        let is_regular = |one: &&&Arc<Instance>| winners.contains_key(&name(one));
        let regular = in_balancer.iter().filter(is_regular).count();
        if regular > 0 && !self.list.is_settling() {
            assert_eq!(regular, in_balancer.len(), "one that is held is picked");
        }
    }
}

fn run(mut model: Model, actions: Vec<Action>) {
    for action in actions {
        model.act(action);
    }
    // Without further events, the list becomes exactly what is registered.
    model.act(Action::Wait(620));
    assert!(model.list.due().is_none(), "nothing waits for a time");
    let registered: Vec<_> = model.winners().into_values().collect();
    let shown = model.reader.values().map(|one| (**one).clone());
    assert_eq!(shown.collect::<Vec<_>>(), registered);
    let pickable = registered.iter().filter(|one| one.is_pickable()).count();
    assert_eq!(model.pickable, pickable);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_format_is_always_explained(actions in prop::collection::vec(action(), 1..40)) {
        run(Model::new(1), actions);
    }

    #[test]
    fn two_formats_are_always_explained(actions in prop::collection::vec(action(), 1..40)) {
        run(Model::new(2), actions);
    }

    #[test]
    fn a_start_without_etcd_is_always_explained(
        (seeds, listed) in (seeds(), seeds()),
        sources in 1usize..3,
        actions in prop::collection::vec(action(), 0..15),
    ) {
        run(Model::seeded(sources, seeds, listed), actions);
    }
}

#[test]
fn the_instances_with_an_id_are_found_in_a_list() {
    let of = |id: &str, host: &str| Arc::new(Instance::new("web", format!("{host}:1")).id(id));
    // The order of a list, in which an id can be the start of another one.
    let list = [of("a", "x"), of("a", "y"), of("a1", "x"), of("b", "x")];
    let found = |id: &str| {
        let found = with_id(&list, id);
        assert!(found.iter().all(|(own, one)| *own == key(one)));
        found
            .into_iter()
            .map(|(_, one)| one.addr.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("a"), ["x:1", "y:1"]);
    assert_eq!(found("a1"), ["x:1"]);
    assert_eq!(found("b"), ["x:1"]);
    assert!(found("").is_empty() && found("a0").is_empty() && found("c").is_empty());
}

//! Several formats, several keys of one instance, and seeds.

use super::*;
use crate::discovery::codec::GoZero;

/// The changes of one action, in short.
fn after(model: &mut Model, action: Action) -> usize {
    let before = model.steps;
    model.act(action);
    model.steps - before
}

#[test]
fn an_instance_in_two_formats_is_one_instance() {
    let mut model = Model::new(2);
    let put = |formats| Action::Put {
        n: 1,
        weight: 2,
        formats,
    };
    let delete = |formats, alive| Action::Delete {
        n: 1,
        formats,
        alive: Some(alive),
    };
    assert_eq!(after(&mut model, put(3)), 1, "added once");
    assert_eq!(model.reader.len(), 1);
    assert_eq!(model.pickable, 1);
    assert_eq!(after(&mut model, delete(3, true)), 1, "removed once");
    // The later format alone is shown after a moment, and stays when the first one comes and goes.
    assert_eq!(after(&mut model, put(2)), 0);
    assert_eq!(after(&mut model, Action::Wait(2)), 1);
    assert!(model.reader.contains_key(&("h:2".into(), "h:2".into())));
    assert_eq!(after(&mut model, put(1)), 2, "another id replaces it");
    assert!(model.reader.contains_key(&("i1".into(), "h:2".into())));
    assert_eq!(after(&mut model, delete(1, true)), 0);
    assert_eq!(after(&mut model, Action::Wait(2)), 2);
    assert!(model.reader.contains_key(&("h:2".into(), "h:2".into())));
    assert_eq!(after(&mut model, delete(2, true)), 1);
    assert!(model.reader.is_empty());
}

#[test]
fn several_keys_of_one_go_zero_program_are_one_instance() {
    let mut directory = Directory::new(Format::new(GoZero));
    let mut list = ServiceList::new(1, Protection::default(), Arc::default());
    let now = Instant::now();
    let update = directory.reset([], Revision::new(10));
    list.listed(0, update, now);
    let mut shown = |events: Vec<KeyEvent>, alive| {
        let update = directory.apply(events, Revision::new(11));
        let queries = update.queries.clone();
        list.update(0, update, now);
        for query in queries {
            list.update(0, directory.lease_status(query.lease, alive), now);
        }
        let records = list.take().records;
        let of = |record: &ChangeRecord| match &record.change {
            Change::Added(one) => format!("+{}", one.id),
            Change::Removed { instance, .. } => format!("-{}", instance.id),
            other => format!("{other:?}"),
        };
        records.iter().map(of).collect::<String>()
    };
    let key = |lease: i64| Bytes::from(format!("web/{lease}"));
    let put = |lease: i64| {
        KeyEvent::Put(KeyValue {
            key: key(lease),
            value: "h:1".into(),
            lease,
            ..KeyValue::default()
        })
    };
    // The program lost its lease and registered again; its old key is still there for a time.
    assert_eq!(shown(vec![put(71)], None), "+h:1");
    assert_eq!(shown(vec![put(72)], None), "");
    assert_eq!(shown(vec![KeyEvent::Delete(key(71))], Some(false)), "");
    assert_eq!(shown(vec![KeyEvent::Delete(key(72))], Some(true)), "-h:1");
}

#[test]
fn the_first_lists_of_all_formats_are_shown_at_once() {
    let mut model = Model::new(2);
    let plain = model.formats[1].clone();
    let (key, value) = (plain.key(&instance(1, 1)).unwrap(), Bytes::from("h:2"));
    let kv = KeyValue {
        key,
        value,
        ..KeyValue::default()
    };
    let update = Directory::new(plain).reset([kv], Revision::new(11));
    model.list = ServiceList::new(2, Protection::default(), Arc::default());
    model.list.listed(0, DirectoryUpdate::default(), model.now);
    model.list.listed(1, update, model.now);
    model.list.settle(model.now);
    assert!(!model.list.is_settling());
    assert_eq!(model.list.take().edits.len(), 1);
}

#[test]
fn seeds_are_replaced_by_the_first_list_with_exactly_the_difference() {
    let format = Format::new(Native);
    let mut list = ServiceList::new(1, Protection::default(), Arc::default());
    let now = Instant::now();
    let seeds = (0..10).map(|n| Arc::new(instance(n, 1))).collect();
    list.seed(0, seeds, now);
    let first = list.take();
    assert_eq!((first.edits.len(), list.picks.pickable()), (10, 10));
    let mut directory = Directory::new(format.clone());
    let kvs = [(0, 1), (1, 2), (11, 1)].map(|(n, weight)| KeyValue {
        key: format.key(&instance(n, weight)).unwrap(),
        value: format.encode(&instance(n, weight)).unwrap().unwrap(),
        ..KeyValue::default()
    });
    let update = directory.reset(kvs, Revision::new(5));
    list.listed(0, update, now);
    let update = list.take();
    let [record] = &update.records[..] else {
        panic!("{:?}", update.records);
    };
    let Change::Reset {
        added,
        updated,
        removed,
    } = &record.change
    else {
        panic!("{record:?}");
    };
    let ids = |some: &[Arc<Instance>]| some.iter().map(|one| one.id.clone()).collect::<String>();
    assert_eq!((ids(added), ids(updated)), ("i11".into(), "i1".into()));
    let mut removed: Vec<_> = removed.iter().map(|(one, _)| one.clone()).collect();
    removed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(ids(&removed), "i2i3i4i5i6i7i8i9");
    assert_eq!(list.picks.pickable(), 3);
    assert!(!list.is_holding(), "what etcd lists first is believed");
}

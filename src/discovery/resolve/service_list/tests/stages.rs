//! Tests that the service list gives changes and times to each of its stages, and returns their changes.

use super::*;
use crate::discovery::overrides::operator_override::Override;

/// A model of one format with `n` instances.
fn filled(n: u8) -> Model {
    let mut model = Model::new(1);
    for n in 0..n {
        let (weight, formats) = (1, 1);
        model.act(Action::Put { n, weight, formats });
    }
    model
}

/// The keys of the edits of the balancer.
fn pick_edits(list: &mut ServiceList) -> Vec<(String, bool)> {
    let edits = list.take().picks.into_iter();
    let id = |key: Bytes| {
        let id = key.split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(id.to_vec()).unwrap()
    };
    edits.map(|(key, one)| (id(key), one.is_some())).collect()
}

#[test]
fn a_mass_expiry_is_reported_once_and_its_addresses_are_probed() {
    let mut model = filled(10);
    assert_eq!(model.list.take_mass_expiry(), None);
    assert_eq!(model.list.take_probes(model.now), []);
    assert!(!model.list.is_holding() && model.list.due().is_none());
    model.act(Action::Mass(7));
    assert!(model.list.take_mass_expiry().is_some_and(|n| n > 3));
    assert_eq!(model.list.take_mass_expiry(), None);
    assert_eq!(model.list.take_probes(model.now).len(), 7);
    assert!(model.list.is_holding());
    assert_eq!(model.list.due(), Some(model.now + Duration::from_secs(60)));
    let addr: Arc<str> = instance(0, 1).addr.as_str().into();
    model.list.probed(&addr, Verdict::Dead, model.now);
    assert_eq!(model.list.take().shown, 9);
}

#[test]
fn the_longest_time_to_live_of_a_lease_extends_the_hold() {
    let mut model = filled(10);
    for seconds in [1, 40, 20] {
        model.list.ttl(Duration::from_secs(seconds));
    }
    model.act(Action::Mass(7));
    for (seconds, shown) in [(119, 10), (120, 3)] {
        model.list.tick(model.now + Duration::from_secs(seconds));
        assert_eq!(model.list.take().shown, shown, "{seconds}");
    }
}

#[test]
fn an_instance_whose_key_was_deleted_is_not_picked_before_the_cause_is_known() {
    let mut model = filled(2);
    let deleted = [KeyEvent::Delete(
        model.formats[0].key(&instance(1, 1)).unwrap(),
    )];
    let update = model.directories[0].apply(deleted, Revision::new(100));
    assert_eq!(update.queries.len(), 1);
    model.list.update(0, update, model.now);
    let edits = pick_edits(&mut model.list);
    assert_eq!(edits, [("i1".to_owned(), false)]);
    // Its key under another lease ends that.
    let format = model.formats[0].clone();
    let put = KeyEvent::Put(KeyValue {
        key: format.key(&instance(1, 1)).unwrap(),
        value: format.encode(&instance(1, 1)).unwrap().unwrap(),
        lease: 99,
        ..KeyValue::default()
    });
    let update = model.directories[0].apply([put], Revision::new(101));
    model.list.update(0, update, model.now);
    let edits = pick_edits(&mut model.list);
    assert_eq!(edits.last(), Some(&("i1".to_owned(), true)));
}

#[test]
fn an_override_changes_what_is_shown_and_picked() {
    let mut model = filled(2);
    let overrides = [("i1".to_owned(), "maintenance".parse::<Override>().unwrap())];
    let shown: Vec<_> = model.shown.values().cloned().collect();
    let list = &mut model.list;
    list.set_overrides(Arc::new(overrides.into_iter().collect()), |id| {
        with_id(&shown, id)
    });
    let update = list.take();
    let [record] = &update.records[..] else {
        panic!("{:?}", update.records);
    };
    let Change::Updated { instance, before } = &record.change else {
        panic!("{record:?}");
    };
    assert_eq!(instance.status, Status::Maintenance);
    assert_eq!((&*before.id, before.status), ("i1", Status::Up));
    assert_eq!((update.edits.len(), update.shown), (1, 2));
    assert_eq!(list.picks.pickable(), 1);
}

#[test]
fn a_change_without_an_instance_is_reported_after_those_before_it() {
    let mut model = Model::new(1);
    let since = model.now;
    model.put(0, &instance(1, 1));
    model.list.report(Change::Stale { since });
    model.list.report(Change::Live);
    let records = model.list.take().records;
    let changes: Vec<_> = records.into_iter().map(|record| record.change).collect();
    assert_eq!(changes, [Change::Stale { since }, Change::Live]);
}

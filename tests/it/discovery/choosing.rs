//! The choice of an instance, with registered instances and real sockets.

use std::collections::BTreeMap;

use etcd_blocking::balance::{Attempt, CallError, Ejection, Filter, RetryBudget};

use super::*;

/// Runs calls until `done`; instance c fails if it is dead. Returns how many each instance answered.
fn call_until(
    view: &ServiceView,
    c_is_dead: bool,
    what: &str,
    done: impl Fn() -> bool,
) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    eventually(SOON, what, || {
        let id = view.call(|instance| match instance.id.as_str() {
            "c" if c_is_dead => Attempt::Retry(()),
            id => Attempt::Succeeded(id.to_owned()),
        });
        *answers.entry(id.expect("another one answers")).or_insert(0) += 1;
        done().then_some(())
    });
    answers
}

#[test]
fn calls_avoid_an_instance_that_is_dead_and_still_registered_until_it_answers_again() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let instances = [(1, "a"), (2, "b"), (3, "c")].map(|(n, id)| web(n).id(id));
    let _all = registrar.register_all(instances).unwrap();
    let rule = Ejection::default().base_time(Duration::from_millis(200));
    let view = Discovery::new(&client)
        .ejection(rule)
        .retry_budget(RetryBudget::default().percent(100))
        .service("web")
        .unwrap();
    view.wait_for(3, SOON).unwrap();
    let is_ejected = || !view.ejected().is_empty();
    let answers = call_until(&view, true, "c is ejected", is_ejected);
    assert_eq!(view.ejected()[0].id, "c");
    assert!(!answers.contains_key("c"), "{answers:?}");
    assert_eq!(view.snapshot().len(), 3, "it is still registered");
    // It is tried again, one call at a time, and then used as before.
    let answers = call_until(&view, false, "c is used again", || !is_ejected());
    assert!(answers.contains_key("c"), "{answers:?}");
}

#[test]
fn a_view_picks_from_the_instances_of_its_filter_and_zone() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let instances = (1..=6).map(|n| {
        let instance = web(n).version(if n < 4 { "1.9" } else { "2.0" });
        instance.zone(if n % 2 == 0 { "a" } else { "b" })
    });
    let _all = registrar.register_all(instances).unwrap();
    let discovery = Discovery::new(&client)
        .filter(Filter::new().version("2"))
        .zone("a");
    let view = discovery.service("web").unwrap();
    // Three have version 2; two of them are in zone a.
    view.wait_for(3, SOON).unwrap();
    assert_eq!(view.snapshot().len(), 6);
    let picked: Vec<_> = (0..10).map(|_| view.pick().unwrap().addr.clone()).collect();
    assert_eq!(
        picked.iter().filter(|addr| *addr == "127.0.1.1:4").count(),
        5
    );
    assert_eq!(
        picked.iter().filter(|addr| *addr == "127.0.1.1:6").count(),
        5
    );
    let error = view.wait_for(4, Duration::from_millis(10)).unwrap_err();
    assert!(error.to_string().contains("3 of 4"), "{error}");
    let subset = discovery
        .clone()
        .subset(1, "client-1")
        .service("web")
        .unwrap();
    // One of each zone.
    subset.wait_for(2, SOON).unwrap();
    assert_eq!(subset.pick(), subset.pick());
    let error = discovery.subset(0, "client-1").service("web").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn two_clients_choose_the_same_instance_for_a_key() {
    let etcd = LocalEtcd::start().unwrap();
    let clients = [client(&etcd), client(&etcd)];
    let _all = registrar(&clients[0], 30)
        .register_all((1..=20).map(web))
        .unwrap();
    let views = clients.each_ref().map(|client| {
        let discovery = Discovery::new(client).balance(Balance::Rendezvous);
        let view = discovery.service("web").unwrap();
        view.wait_for(20, SOON).unwrap();
        view
    });
    for key in 0..500 {
        let key = format!("user-{key}");
        let picked = views[0].pick_for(&key).unwrap();
        assert_eq!(views[1].pick_for(&key).unwrap(), picked);
        let call = views[1].acquire_for(&key).unwrap();
        assert_eq!(call.instance(), &picked);
        call.succeeded();
    }
    let none = Discovery::new(&clients[0]).service("none").unwrap();
    assert!(none.acquire().is_none());
    let answer = none.call_for("key", |_| Attempt::<(), ()>::Succeeded(()));
    assert_eq!(answer, Err(CallError::NoInstance));
}

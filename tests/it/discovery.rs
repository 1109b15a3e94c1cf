//! Service registration and discovery.

mod choosing;
mod conflicts;
mod expiry;
mod faults;
mod formats;
mod health;
mod health_servers;
mod leader;
mod leaving;
mod limits;
mod modify;
mod network;
mod overrides;
mod own_keys;
mod partial_refusal;
mod reasons;
mod refused;
mod replaced_store;
mod restored;
mod views;

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Balance, Cause, Change, Client, Delete, Discovery, ErrorKind, Instance, KeyRange, Loss,
    OnConflict, Put, Registrar, Registration, ServiceView, State, Status, Txn, codec,
};

use crate::support::pace::Pace;
use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn client(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

fn registrar(client: &Client, ttl: u64) -> Registrar {
    Registrar::builder(client)
        .ttl(Duration::from_secs(ttl))
        .start()
        .unwrap()
}

fn web(n: u16) -> Instance {
    Instance::new("web", format!("127.0.1.1:{n}"))
}

/// The next change that `wanted` accepts.
fn next<T>(view: &ServiceView, what: &str, wanted: impl Fn(&Change) -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let change = view
            .changes()
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("no change: {what}"));
        if let Some(found) = wanted(&change) {
            return found;
        }
    }
}

fn removed(view: &ServiceView, id: &str) -> Cause {
    next(view, &format!("{id} removed"), |change| {
        change
            .causes()
            .find(|(gone, _)| gone.id == id)
            .map(|(_, cause)| cause)
    })
}

/// The states of a registration up to the first that `wanted` accepts.
fn until(registration: &Registration, what: &str, wanted: impl Fn(&State) -> bool) -> Vec<State> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match registration.states().recv_timeout(left) {
            Ok(state) => {
                let found = wanted(&state);
                seen.push(state);
                if found {
                    return seen;
                }
            }
            Err(_) => panic!("{what}: only {seen:?}"),
        }
    }
}

fn registered(state: &State) -> bool {
    matches!(state, State::Registered { .. })
}

// Case: N-01, N-04
#[test]
fn a_registered_instance_is_found_and_picked() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    assert!(view.snapshot().is_empty() && view.pick().is_none());
    let registrar = registrar(&client, 5);
    let registration = registrar
        .register(web(1).weight(3).meta("zone", "a"))
        .unwrap();
    let seen = view
        .wait_revision(registration.revision().unwrap(), SOON)
        .unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].meta["zone"], "a");
    assert_eq!(view.pick().unwrap().addr, "127.0.1.1:1");
    // A service whose name begins with the same text is a different one.
    let _other = registrar
        .register(Instance::new("web2", "127.0.1.9:9"))
        .unwrap();
    assert_eq!(view.wait_for(1, SOON).unwrap().len(), 1);
}

// Case: N-01, N-03
#[test]
fn leave_and_drop_are_reported_as_left_and_take_one_round_trip() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 5);
    for codec in codec::all() {
        let view = Discovery::new(&client)
            .codec(codec.clone())
            .service("web")
            .unwrap();
        let registrar = Registrar::builder(&client)
            .codec(codec.clone())
            .start()
            .unwrap();
        let left = registrar.register(web(1)).unwrap();
        let dropped = registrar.register(web(2)).unwrap();
        view.wait_for(2, SOON).unwrap();
        left.leave().unwrap();
        assert_eq!(removed(&view, "127.0.1.1:1"), Cause::Left, "{codec:?}");
        drop(dropped);
        assert_eq!(removed(&view, "127.0.1.1:2"), Cause::Left, "{codec:?}");
        assert!(view.snapshot().is_empty());
    }
    drop(registrar);
}

// Case: N-02
#[test]
fn changes_of_one_revision_are_visible_together() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    let registrar = registrar(&client, 30);
    let both = registrar.register_all([web(1), web(2)]).unwrap();
    next(&view, "an instance", |change| {
        change.present().next().map(|_| ())
    });
    assert_eq!(view.snapshot().len(), 2, "both changes arrive together");
    // An operator deletes them in one transaction.
    let keys = ["/services/web/127.0.1.1:1", "/services/web/127.0.1.1:2"];
    let watcher = client.watch(KeyRange::prefix("/services/web/")).unwrap();
    client.txn(Txn::always(keys.map(Delete::key))).unwrap();
    let deleted = watcher.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(deleted.events().len(), 2);
    drop(both);
}

// Case: N-07
#[test]
fn instances_of_equal_weight_are_picked_equally_often() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 30);
    let _both = registrar.register_all([web(1), web(2)]).unwrap();
    for balance in [Balance::RoundRobin, Balance::Weighted] {
        let view = Discovery::new(&client)
            .balance(balance)
            .service("web")
            .unwrap();
        view.wait_for(2, SOON).unwrap();
        let first = (0..100).filter(|_| view.pick().unwrap().addr == "127.0.1.1:1");
        assert_eq!(first.count(), 50, "{balance:?}");
    }
}

// Case: N-08
#[test]
fn a_crashed_process_expires_and_other_instances_stay() {
    let etcd = LocalEtcd::start().unwrap();
    let survivor = client(&etcd);
    let view = Discovery::new(&survivor).service("web").unwrap();
    let kept = registrar(&survivor, 5).register(web(1)).unwrap();
    // As after the crash of a process: nothing that it sends arrives.
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let victim = Client::connect([proxy.endpoint()]).unwrap();
    let dying = registrar(&victim, 2).register(web(2)).unwrap();
    view.wait_for(2, SOON).unwrap();
    proxy.cut();
    victim.close().unwrap();
    assert_eq!(removed(&view, "127.0.1.1:2"), Cause::Expired);
    assert_eq!(
        until(&dying, "closed", |state| *state == State::Closed).last(),
        Some(&State::Closed)
    );
    assert_eq!(view.snapshot().len(), 1);
    assert!(registered(&kept.state()));
    let flicker: Vec<_> = view
        .changes()
        .try_iter()
        .filter(|c| c.gone().any(|i| i.id == "127.0.1.1:1"))
        .collect();
    assert!(flicker.is_empty(), "{flicker:?}");
}

/// A `Registered` after another state.
fn registered_after_loss() -> impl Fn(&State) -> bool {
    let lost = std::cell::Cell::new(false);
    move |state| {
        if matches!(state, State::Lost { .. }) {
            lost.set(true);
        }
        lost.get() && registered(state)
    }
}

// Case: N-03
#[test]
fn an_update_is_one_change_and_is_restored_after_a_loss() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    let registration = registrar(&client, 5).register(web(1)).unwrap();
    view.wait_for(1, SOON).unwrap();
    registration.set_status(Status::Draining).unwrap();
    until(&registration, "draining", |state| *state == State::Draining);
    next(&view, "the update", |change| match change {
        Change::Updated { instance, before } => {
            let statuses = (instance.status, before.status);
            assert_eq!(statuses, (Status::Draining, Status::Up));
            Some(())
        }
        _ => None,
    });
    assert!(view.pick().is_none(), "a draining instance is not picked");
    client.delete("/services/web/127.0.1.1:1").unwrap();
    eventually(SOON, "the newest value is back", || {
        let kv = client.get("/services/web/127.0.1.1:1").unwrap()?;
        kv.value_str()?.contains("draining").then_some(())
    });
    assert!(registration.update(web(2)).unwrap_err().kind() == ErrorKind::InvalidArgument);
}

#[test]
fn a_thousand_instances_share_one_lease_one_stream_and_no_threads() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let registrar = registrar(&client, 10);
    let begun = Instant::now();
    let registrations = registrar.register_all((1..=1000).map(web)).unwrap();
    let took = begun.elapsed();
    println!("1,000 instances registered in {took:?}");
    assert_eq!(direct.leases().unwrap().ids().len(), 1);
    assert_eq!(direct.get_prefix("/services/web/").unwrap().len(), 1000);
    assert!(
        proxy.connections() <= 3,
        "{} connections",
        proxy.connections()
    );
    let view = Discovery::new(&direct).service("web").unwrap();
    assert_eq!(view.snapshot().len(), 1000);
    drop(registrations);
    eventually(SOON, "all left", || {
        view.snapshot().is_empty().then_some(())
    });
}

#[test]
fn the_plain_codec_is_compatible_with_the_usual_go_programs() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = Registrar::builder(&client)
        .codec(codec::Plain)
        .prefix("/")
        .start()
        .unwrap();
    let _ours = registrar
        .register(Instance::new("web", "127.0.0.1:8080"))
        .unwrap();
    let kv = client.get("/web/127.0.0.1:8080").unwrap().unwrap();
    assert_eq!(kv.value(), "127.0.0.1:8080");
    assert!(kv.lease().is_some());
    // As the Go program: a lease, and a key with the address.
    let lease = client.grant(Duration::from_secs(5)).unwrap().id();
    client
        .call(Put::new("/web/127.0.0.1:8081", "127.0.0.1:8081").lease(lease))
        .unwrap();
    let view = Discovery::new(&client)
        .codec(codec::Plain)
        .prefix("/")
        .service("web")
        .unwrap();
    let addrs: Vec<_> = view.snapshot().iter().map(|i| i.addr.clone()).collect();
    assert_eq!(addrs, ["127.0.0.1:8080", "127.0.0.1:8081"]);
    // It leaves by revoking its lease.
    client.revoke(lease).unwrap();
    assert_eq!(removed(&view, "127.0.0.1:8081"), Cause::Expired);
}

#[test]
fn a_malformed_value_hides_no_other_instance() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    client.put("/services/web/bad", "{not json").unwrap();
    let view = Discovery::new(&client).service("web").unwrap();
    let _good = registrar(&client, 5).register(web(1)).unwrap();
    view.wait_for(1, SOON).unwrap();
    next(&view, "the bad value", |change| {
        matches!(change, Change::Bad { .. }).then_some(())
    });
}

#[test]
fn a_program_can_start_while_etcd_is_unreachable() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    etcd.kill().unwrap();
    let registration = registrar(&client, 5).announce(web(1)).unwrap();
    assert_eq!(registration.state(), State::Starting);
    let early = registration
        .wait_registered(Duration::from_millis(200))
        .unwrap_err();
    // There was no time for the query about the lease.
    assert_eq!(early.kind(), ErrorKind::Timeout);
    etcd.restart().unwrap();
    registration.wait_registered(SOON).unwrap();
}

#[test]
fn dropping_a_registration_is_bounded_while_etcd_is_paused() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 5);
    let registration = registrar.register(web(1)).unwrap();
    etcd.pause().unwrap();
    let pace = Pace::start();
    let begun = Instant::now();
    drop(registration);
    drop(registrar);
    drop(client);
    let took = pace.check("dropping everything", begun, Duration::from_secs(5));
    println!("dropped everything in {took:?} while etcd was paused");
    etcd.resume().unwrap();
    let other = self::client(&etcd);
    eventually(SOON, "the key is not on the lease", || {
        other
            .get_prefix(KeyRange::prefix("/services/").start().clone())
            .unwrap()
            .is_empty()
            .then_some(())
    });
}

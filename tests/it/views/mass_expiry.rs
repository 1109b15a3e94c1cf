//! Many instances that expire at once, and instances that expire for a moment.

use std::net::TcpListener;

use etcd_blocking::{Discovery, Lease, Protection, Status};

use super::*;
use crate::support::wait::eventually;

/// A program that listens.
struct Program {
    id: String,
    listener: Option<TcpListener>,
    addr: String,
    lease: LeaseId,
}

/// Programs with a lease each, which nobody renews.
fn programs(client: &Client, name: &str, count: usize, ttl: u64) -> Vec<Program> {
    let start = |n| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let lease: Lease = client.grant(Duration::from_secs(ttl)).unwrap();
        let program = Program {
            id: format!("{name}{n:02}"),
            listener: Some(listener),
            addr,
            lease: lease.id(),
        };
        put(client, &program.id, &program.addr, 1, Some(program.lease));
        program
    };
    (0..count).map(start).collect()
}

fn revoke(client: &Client, programs: &[Program]) {
    let pending: Vec<_> = programs
        .iter()
        .map(|one| client.submit(etcd_blocking::Revoke::new(one.lease)))
        .collect();
    for revoked in pending {
        revoked.wait().unwrap();
    }
}

/// Leaves as a registrar does: it says so first.
fn leave(client: &Client, program: &Program) {
    let key = format!("/services/web/{}", program.id);
    let draining = format!(r#"{{"addr":"{}","status":"draining"}}"#, program.addr);
    client.put(key.as_str(), draining).unwrap();
    client.delete(key).unwrap();
}

/// On a slow machine, instances do not expire at the same time.
fn patient() -> Protection {
    let long = Duration::from_secs(600);
    Protection::default().flap_window(long).within(long)
}

fn suspects(reader: &Reader) -> usize {
    let known = reader.known.values();
    known.filter(|one| one.status == Status::Suspect).count()
}

#[test]
fn suspects_are_picked_if_the_filter_excludes_all_others() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let lost = programs(&client, "lost", 6, 600);
    for program in &lost {
        let value = format!(r#"{{"addr":"{}","tags":["gpu"]}}"#, program.addr);
        let key = format!("/services/web/{}", program.id);
        let put = etcd_blocking::Put::new(key, value).lease(program.lease);
        client.submit(put).wait().unwrap();
    }
    let _stay = programs(&client, "stay", 3, 600);
    let discovery = Discovery::new(&client).protection(patient());
    let gpu = discovery
        .clone()
        .filter(etcd_blocking::balance::Filter::new().tag("gpu"));
    let catalog = gpu.services().unwrap();
    let views = [gpu.service("web").unwrap(), catalog.service("web").unwrap()];
    let all = discovery.service("web").unwrap();
    revoke(&client, &lost);
    for view in views.iter().chain([&all]) {
        let mut reader = Reader::default();
        reader.until(view, "suspects", |reader| suspects(reader) == 6);
    }
    for _ in 0..12 {
        for view in &views {
            assert!(view.pick().unwrap().id.starts_with("lost"));
        }
        assert!(all.pick().unwrap().id.starts_with("stay"));
    }
}

#[test]
fn a_mass_expiry_of_live_programs_removes_none_and_leaving_is_shown_at_once() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let mut lost = programs(&client, "lost", 40, 600);
    let stay = programs(&client, "stay", 10, 600);
    let discovery = Discovery::new(&client).protection(patient());
    let view = discovery.service("web").unwrap();
    let mut reader = Reader::default();
    reader.until(&view, "all", |reader| reader.known.len() == 50);
    revoke(&client, &lost);
    for program in &stay {
        leave(&client, program);
    }
    reader.until(&view, "those that left are gone", |reader| {
        reader.gone.len() >= 10 && suspects(reader) == 40
    });
    let left: Vec<_> = stay.iter().map(|one| one.id.clone()).collect();
    assert_eq!(reader.gone_by(Cause::Left), left);
    assert_eq!(reader.gone.len(), 10, "none of the live ones");
    let snapshot = view.snapshot();
    assert_eq!(snapshot.len(), 40);
    assert!(snapshot.iter().all(|one| !one.reason.is_empty()));
    assert_eq!(client.metrics().views.mass_expiries, 1);
    // There is no other, so a suspect is picked; it is as it was registered.
    let picked = view.pick().unwrap();
    assert!(picked.id.starts_with("lost") && picked.status == Status::Up);
    assert_eq!(view.wait_for(40, SOON).unwrap().len(), 40);

    // Half of them register again.
    let lease = client.grant(Duration::from_secs(600)).unwrap().id();
    for program in &lost[..20] {
        put(&client, &program.id, &program.addr, 1, Some(lease));
    }
    reader.until(&view, "they are back", |reader| suspects(reader) == 20);
    assert_eq!(reader.gone.len(), 10, "nothing was removed");
    for _ in 0..40 {
        let id = &view.pick().unwrap().id;
        assert!(lost[..20].iter().any(|one| one.id == *id), "{id}");
    }
    // The others end one after the other, and are found dead.
    lost[20..].iter_mut().for_each(|one| one.listener = None);
    reader.until(&view, "dead ones are gone", |reader| {
        reader.gone.len() == 30
    });
    let back: Vec<_> = lost[..20].iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids(view.snapshot().iter()), back);
    assert_eq!(ids(reader.known.values()), back);
}

#[test]
fn dead_programs_of_a_mass_expiry_are_removed_at_once() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let mut lost = programs(&client, "lost", 40, 600);
    let stay = programs(&client, "stay", 10, 600);
    let view = Discovery::new(&client).service("web").unwrap();
    let mut reader = Reader::default();
    reader.until(&view, "all", |reader| reader.known.len() == 50);
    lost.iter_mut().for_each(|one| one.listener = None);
    revoke(&client, &lost);
    // Long before the limit of a suspect.
    reader.until(&view, "dead ones are gone", |reader| {
        reader.gone.len() == 40
    });
    let stays: Vec<_> = stay.iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids(view.snapshot().iter()), stays);
}

#[test]
fn live_suspects_are_removed_at_the_limit_of_three_times_to_live() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let lost = programs(&client, "a", 8, 600);
    let _stay = programs(&client, "b", 2, 600);
    let kept = client.grant(Duration::from_secs(2)).unwrap();
    let alive = client.keep_alive(kept.id()).unwrap();
    for program in &lost {
        put(&client, &program.id, &program.addr, 1, Some(kept.id()));
    }
    let protection = patient().hold(Duration::ZERO);
    let discovery = Discovery::new(&client).protection(protection);
    let view = discovery.service("web").unwrap();
    let mut reader = Reader::default();
    reader.until(&view, "all", |reader| reader.known.len() == 10);
    eventually(SOON, "the view knows the time to live", || {
        let metrics = client.metrics();
        metrics
            .calls
            .iter()
            .find(|call| call.verb.contains("time to live") && call.ok > 0)?;
        Some(())
    });
    // Without renewals, the lease ends.
    drop(alive);
    reader.until(&view, "they expire", |reader| suspects(reader) == 8);
    let suspected = Instant::now();
    reader.until(&view, "the limit", |reader| reader.gone.len() == 8);
    // The lower bound holds on every machine: a slow one takes longer.
    assert!(
        suspected.elapsed() > Duration::from_secs(2),
        "2 s are the time to live"
    );
    assert_eq!(view.snapshot().len(), 2);
}

#[test]
fn an_instance_that_registers_again_in_the_flap_window_is_never_removed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let flapping = programs(&client, "flap", 1, 600);
    let _others = programs(&client, "other", 3, 600);
    // Long enough for any machine.
    let protection = Protection::default().flap_window(Duration::from_secs(600));
    let discovery = Discovery::new(&client).protection(protection);
    let view = discovery.service("web").unwrap();
    let mut reader = Reader::default();
    reader.until(&view, "all", |reader| reader.known.len() == 4);
    revoke(&client, &flapping);
    eventually(SOON, "it is not picked", || {
        let others = (0..20).all(|_| view.pick().unwrap().id.starts_with("other"));
        others.then_some(())
    });
    assert_eq!(view.snapshot().len(), 4, "it is held");
    let program = &flapping[0];
    put(&client, &program.id, &program.addr, 1, None);
    eventually(SOON, "it is picked again", || {
        (view.pick().unwrap().id == program.id).then_some(())
    });
    // A restart is one update.
    client
        .delete(format!("/services/web/{}", "barrier"))
        .unwrap();
    let lease = client.grant(Duration::from_secs(600)).unwrap().id();
    put(&client, &program.id, &program.addr, 1, Some(lease));
    client.revoke(lease).unwrap();
    let restarted = format!(r#"{{"addr":"{}","inc":7}}"#, program.addr);
    client
        .put(format!("/services/web/{}", program.id), restarted)
        .unwrap();
    reader.until(&view, "the restart", |reader| {
        reader.known[&program.id].incarnation() == 7
    });
    assert_eq!(reader.gone, [], "nothing was removed");
    let updates = reader.changes.iter();
    let updates = updates.filter(|change| matches!(change, Change::Updated { .. }));
    assert_eq!(updates.count(), 1);
}

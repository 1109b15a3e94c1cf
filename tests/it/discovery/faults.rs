//! Registrations in which a second fault occurs during the first.

use super::*;
use crate::support::wait::items;

/// The number of bytes sent to etcd in a span without events.
fn traffic(proxy: &Proxy) -> u64 {
    let before = proxy.bytes_up();
    std::thread::sleep(Duration::from_millis(500));
    proxy.bytes_up() - before
}

#[test]
fn a_registration_older_than_the_history_of_etcd_is_read_once() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let behind = Client::connect([proxy.endpoint()]).unwrap();
    let direct = client(&etcd);
    let registration = registrar(&behind, 30).register(web(1)).unwrap();
    let put_at = registration.revision().unwrap();
    let watched = proxy.bytes_up();
    eventually(SOON, "its key is watched", || {
        (proxy.bytes_up() > watched || traffic(&proxy) == 0).then_some(())
    });
    proxy.cut();
    let mut last = put_at;
    for n in 0..20 {
        last = direct.put("other", n.to_string()).unwrap().revision();
    }
    direct.compact(last).unwrap();
    proxy.restore();
    behind.get("other").unwrap();
    eventually(SOON, "no more bytes are sent", || {
        (traffic(&proxy) < 2_000).then_some(())
    });
    assert!(registered(&registration.state()));
    assert_eq!(registration.revision(), Some(put_at), "the key is restored");
    // And the key is still watched.
    direct.delete("/services/web/127.0.1.1:1").unwrap();
    eventually(SOON, "restored", || {
        (registration.revision() > Some(put_at)).then_some(())
    });
}

#[test]
fn an_instance_can_be_registered_again_while_it_is_leaving() {
    let mut etcd = LocalEtcd::start().unwrap();
    // Transactions fail soon, so that all steps are in the next one.
    let patient = client(&etcd);
    let client = patient.with_timeout(Duration::from_millis(200));
    let registrar = registrar(&client, 30);
    let first = registrar.announce(web(1).version("1")).unwrap();
    first.wait_registered(SOON).unwrap();
    etcd.kill().unwrap();
    drop(first);
    let again = registrar.announce(web(1).version("2")).unwrap();
    let other = registrar.announce(web(2)).unwrap();
    let early = other.wait_registered(Duration::from_secs(1)).unwrap_err();
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
    assert!(kinds.contains(&early.kind()), "{early}");
    // The connection was refused or reset.
    assert!(early.to_string().contains("connection re"), "{early}");
    etcd.restart().unwrap();
    other.wait_registered(SOON).unwrap();
    again.wait_registered(SOON).unwrap();
    let kv = patient.get("/services/web/127.0.1.1:1").unwrap().unwrap();
    assert!(kv.value_str().unwrap().contains("\"version\":\"2\""));
}

#[test]
fn an_update_right_after_another_is_not_lost() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registration = registrar(&client, 5).register(web(1)).unwrap();
    for round in 0..20 {
        for n in 0..5 {
            let version = format!("{round}.{n}");
            registration.update(web(1).version(version)).unwrap();
        }
        eventually(SOON, "the newest value is there", || {
            let kv = client.get("/services/web/127.0.1.1:1").unwrap()?;
            let newest = format!("\"version\":\"{round}.4\"");
            kv.value_str()?.contains(&newest).then_some(())
        });
    }
}

#[test]
fn a_draining_instance_can_be_registered() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 5);
    let draining = registrar.register(web(1).status(Status::Draining)).unwrap();
    assert_eq!(draining.state(), State::Draining);
    let registration = registrar.register(web(2)).unwrap();
    let up = registration.revision();
    registration.set_status(Status::Draining).unwrap();
    eventually(SOON, "the revision of the update", || {
        (registration.revision() > up).then_some(())
    });
}

#[test]
fn a_slow_reader_of_changes_ends_with_the_instances_of_the_view() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let view = Discovery::new(&client).service("web").unwrap();
    let registrar = registrar(&client, 5);
    let mut registrations = registrar.register_all((1..=200).map(web)).unwrap();
    let mut last = None;
    for round in 0..8 {
        for registration in &registrations {
            let instance = Instance::clone(&registration.instance());
            registration
                .update(instance.version(round.to_string()))
                .unwrap();
        }
        let leaving = registrations.pop().unwrap();
        leaving.leave().unwrap();
        last = registrations.last().unwrap().revision();
    }
    view.wait_revision(last.unwrap(), SOON).unwrap();
    let mut known = std::collections::BTreeMap::new();
    eventually(SOON, "the reader has what the view has", || {
        for change in view.changes().try_iter() {
            for gone in change.gone() {
                assert!(known.remove(&gone.id).is_some(), "{gone:?} was not known");
            }
            for present in change.present() {
                known.insert(present.id.clone(), present.clone());
            }
        }
        let shown = view.snapshot();
        let same = shown.len() == 192 && known.len() == 192;
        (same && shown.iter().all(|i| known.get(&i.id) == Some(i))).then_some(())
    });
}

#[test]
fn two_registrars_with_different_codecs_overwrite_each_other_at_a_bounded_rate() {
    let etcd = LocalEtcd::start().unwrap();
    let (one, other) = (client(&etcd), client(&etcd));
    let with = |client: &Client, name| {
        let codec = codec::by_name(name).unwrap();
        let registrar = Registrar::builder(client).codec(codec).prefix("/mixed/");
        registrar.start().unwrap()
    };
    let written = || {
        let kv = one.get("/mixed/web/127.0.1.1:1").unwrap().unwrap();
        kv.mod_revision().get()
    };
    let plain = with(&one, "plain");
    let _plain = plain.register(web(1)).unwrap();
    let before = written();
    let native = with(&other, "native").announce(web(1)).unwrap();
    let begun = Instant::now();
    // Without backoff, ten rounds take ten round trips; with backoff, their last waits are up to 1.5 s each.
    let lost = |state: &State| matches!(state, State::Lost { .. });
    let losses = items(native.states(), SOON).filter(lost).take(10).count();
    let (writes, span) = (written() - before, begun.elapsed());
    println!("{losses} losses and {writes} writes in {span:?}");
    assert!(
        span > Duration::from_millis(200),
        "{losses} losses in {span:?}"
    );
}

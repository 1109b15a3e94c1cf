//! A store that is replaced by an older copy of itself.

use std::path::Path;
use std::{fs, io};

use super::*;

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

// Fault: R11, F4
#[test]
fn keys_are_restored_in_a_restored_copy_with_the_same_lease_and_a_higher_revision() {
    let mut etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let behind = Client::connect([proxy.endpoint()]).unwrap();
    let registrar = registrar(&behind, 300);
    let old = registrar.register(web(1)).unwrap();
    etcd.stop().unwrap();
    let saved = etcd.data_dir().with_extension("saved");
    copy(&etcd.data_dir(), &saved).unwrap();
    etcd.restart().unwrap();
    let new = registrar.register(web(2)).unwrap();
    let lease = |registration: &Registration| match registration.state() {
        State::Registered { lease, .. } => lease,
        other => panic!("{other:?}"),
    };
    assert_eq!(lease(&old), lease(&new));
    proxy.cut();
    etcd.stop().unwrap();
    fs::remove_dir_all(etcd.data_dir()).unwrap();
    fs::rename(&saved, etcd.data_dir()).unwrap();
    etcd.restart().unwrap();
    let direct = client(&etcd);
    let there = |n| {
        direct
            .get(format!("/services/web/127.0.1.1:{n}"))
            .unwrap()
            .is_some()
    };
    assert!(there(1) && !there(2), "it is the copy");
    for n in 0..50 {
        direct.put("other", n.to_string()).unwrap();
    }
    proxy.restore();
    eventually(SOON, "the key is put back", || there(2).then_some(()));
    eventually(SOON, "both are registered", || {
        (registered(&old.state()) && registered(&new.state())).then_some(())
    });
    let kv = direct.get("/services/web/127.0.1.1:2").unwrap().unwrap();
    assert_eq!(new.revision(), Some(kv.mod_revision()));
}

#[test]
fn a_registration_without_a_watch_on_its_key_is_suspect_with_the_reason() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let behind = Client::connect([proxy.endpoint()]).unwrap();
    // The TTL is so long that the lease does not expire in this test.
    let registration = registrar(&behind, 300).register(web(1)).unwrap();
    proxy.cut();
    until(&registration, "suspect", |state| {
        matches!(state, State::Suspect { .. })
    });
    let error = registration.last_error().unwrap();
    assert!(error.to_string().contains("127.0.1.1:1"), "{error}");
    proxy.restore();
    until(&registration, "registered again", registered);
    assert!(registration.last_error().is_none());
}

// Fault: W14
#[test]
fn a_wait_for_a_revision_of_the_new_store_does_not_end_with_the_list_of_the_lost_one() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    // Its client does not reach the new store, so it does not come back, and the view keeps it for some time.
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let cut = Client::connect(proxy.endpoint()).unwrap();
    let _lost = registrar(&cut, 60).register(web(1)).unwrap();
    proxy.cut();
    for n in 0..40 {
        client.put("other", n.to_string()).unwrap();
    }
    let view = Discovery::new(&client).service("web").unwrap();
    let had = view.revision();
    etcd.restart_wiped().unwrap();
    // A read first: a write on a connection that has just ended has an unknown outcome.
    client.get("other").unwrap();
    let registration = registrar(&client, 60).register(web(2)).unwrap();
    let revision = registration.revision().unwrap();
    assert!(revision < had, "{revision} and {had}");
    let shown = view.wait_revision(revision, SOON).unwrap();
    assert!(shown.iter().any(|instance| instance.id == web(2).id));
}

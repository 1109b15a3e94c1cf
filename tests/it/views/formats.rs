//! Views that read several formats.

use etcd_blocking::{Discovery, Registrar, codec};

use super::*;
use crate::support::server::{EARLY_PROGRESS, skip_before};
use crate::support::wait::eventually;

#[test]
fn an_instance_that_is_written_in_two_formats_is_shown_once() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let both = Discovery::new(&client)
        .add_codec(codec::Plain)
        .prefix("/old/");
    let view = both.service("web").unwrap();
    let mut reader = Reader::default();
    let registrar = Registrar::builder(&client)
        .add_codec(codec::Plain)
        .prefix("/old/")
        .start()
        .unwrap();
    let web = |n: u16| Instance::new("web", format!("127.0.1.1:{n}")).weight(7);
    let registrations: Vec<_> = (1..4)
        .map(|n| registrar.register(web(n)).unwrap())
        .collect();
    // One that only the old format has.
    client.put("/old/web/127.0.1.2:1", "127.0.1.2:1").unwrap();
    let all = ["127.0.1.1:1", "127.0.1.1:2", "127.0.1.1:3", "127.0.1.2:1"];
    reader.until(&view, "all", |reader| {
        ids(reader.known.values()) == all && reader.known[all[0]].weight == 7
    });
    assert_eq!(ids(view.snapshot().iter()), all);
    assert_eq!(reader.gone, []);

    // One key of several is deleted, or overwritten: the registrar restores it.
    for (key, what) in [
        ("/services/web/127.0.1.1:1", "native"),
        ("/old/web/127.0.1.1:2", "plain"),
    ] {
        let deleted = client.delete(key).unwrap().revision();
        eventually(SOON, what, || {
            let kv = client.get(key).unwrap();
            kv.filter(|kv| kv.mod_revision() > deleted)
        });
    }
    let restored = client.put("barrier", "x").unwrap().revision();
    let shown = view.wait_revision(restored, SOON).unwrap();
    assert_eq!(ids(shown.iter()), all);

    // Those that leave are removed once; what the view never lost was not removed.
    for registration in registrations {
        registration.leave().unwrap();
    }
    reader.until(&view, "they left", |reader| reader.gone.len() == 3);
    let mut gone: Vec<_> = reader.gone.iter().map(|(id, _)| id.as_str()).collect();
    gone.sort_unstable();
    assert_eq!(gone, all[..3]);
    assert_eq!(ids(view.snapshot().iter()), all[3..]);
}

#[test]
fn instances_move_from_one_format_to_another_without_a_removal() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    client.put("/old/web/127.0.1.1:1", "127.0.1.1:1").unwrap();
    let both = Discovery::new(&client)
        .add_codec(codec::Plain)
        .prefix("/old/");
    let view = both.service("web").unwrap();
    assert_eq!(
        ids(view.snapshot().iter()),
        ["127.0.1.1:1"],
        "the first list"
    );
    // The program is replaced by one that writes the new format only.
    put(&client, "127.0.1.1:1", "127.0.1.1:1", 9, None);
    let mut reader = Reader::default();
    reader.until(&view, "the new format", |reader| {
        reader.known.values().any(|one| one.weight == 9)
    });
    client.delete("/old/web/127.0.1.1:1").unwrap();
    let last = client.put("barrier", "x").unwrap().revision();
    assert_eq!(view.wait_revision(last, SOON).unwrap().len(), 1);
    assert_eq!(reader.gone, []);
    assert!(
        view.changes()
            .try_iter()
            .all(|change| change.gone().count() == 0)
    );
}

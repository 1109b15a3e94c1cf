//! Names of the copies, namespaces, and copies that would overlap their source.

use super::*;

// Case: MI-04
#[test]
fn copies_have_the_requested_names_and_begin_at_the_requested_revision() {
    let two = two();
    for key in ["o_key1", "o_key2", "o_key3"] {
        two.source.put(key, key).unwrap();
    }
    let make = || MakeMirror::new(&two.source, &two.destination).prefix("o_");
    let copies = keys([("key1", "o_key1"), ("key2", "o_key2"), ("key3", "o_key3")]);
    let renamed = make().dest_prefix("d_").start().unwrap();
    renamed.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.destination, "d_"), copies);
    assert_eq!(below(&two.destination, "").len(), 3);
    renamed.stop().unwrap();
    two.destination
        .call(Delete::range(KeyRange::all()))
        .unwrap();

    let bare = make().no_dest_prefix().start().unwrap();
    bare.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.destination, ""), copies);
    bare.stop().unwrap();
    two.destination
        .call(Delete::range(KeyRange::all()))
        .unwrap();

    let third = two.source.get("o_key3").unwrap().unwrap().mod_revision();
    let later = make().from_revision(third).start().unwrap();
    later.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.destination, ""), keys([("o_key3", "o_key3")]));
    // The key of the copy would be empty.
    let nameless = make()
        .no_dest_prefix()
        .extraneous(Extraneous::Delete)
        .start()
        .unwrap();
    two.source.put("o_", "x").unwrap();
    let error = nameless.ended().recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_mirror_of_a_prefix_onto_itself_is_refused() {
    let two = two();
    let make = || MakeMirror::new(&two.source, &two.source);
    for loops in [
        make(),
        make().prefix("m/").no_dest_prefix(),
        make().dest_prefix("copy/"),
    ] {
        let error = loops.start().unwrap().ended().recv_timeout(SOON).unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    two.source.put("m/a", "1").unwrap();
    let beside = make().prefix("m/").dest_prefix("copy/").start().unwrap();
    beside.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.source, "copy/"), keys([("a", "1")]));
}

/// Waits until a copy has begun; returns the error if it fails.
fn wait_until_begun(make: MakeMirror, source: &Client) -> Result<(), etcd_blocking::Error> {
    let copy = make.start()?;
    copy.wait_revision(now(source), SOON)?;
    copy.stop().map(drop)
}

#[test]
fn a_namespace_is_copied_to_a_namespace() {
    let two = two();
    two.source.put("app/k", "v").unwrap();
    two.source.put("other", "v").unwrap();
    let (from, to) = (
        two.source.namespace("app/").unwrap(),
        two.destination.namespace("backup/").unwrap(),
    );
    let copy = MakeMirror::new(&from, &to)
        .checkpoint("progress")
        .start()
        .unwrap();
    let last = from.put("more", "w").unwrap().revision();
    copy.wait_revision(last, SOON).unwrap();
    copy.stop().unwrap();
    let mut copied = below(&two.destination, "");
    assert!(copied.remove("backup/progress").is_some());
    assert_eq!(copied, keys([("backup/k", "v"), ("backup/more", "w")]));
}

#[test]
fn overlapping_namespaces_are_detected_by_their_absolute_names() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let view = |prefix: &'static str| client.namespace(prefix).unwrap();
    let (a, b) = (view("a/"), view("b/"));
    a.put("x/k", "v").unwrap();
    // The same names in two namespaces are different keys.
    wait_until_begun(MakeMirror::new(&a, &b), &client).unwrap();
    assert_eq!(below(&client, "b/"), keys([("x/k", "v")]));
    // Different names may be the same keys.
    for make in [
        MakeMirror::new(&client, &a)
            .prefix("a/x/")
            .dest_prefix("x/"),
        MakeMirror::new(&a, &client)
            .prefix("x/")
            .dest_prefix("a/x/y/"),
        MakeMirror::new(&client, &b).prefix("b/").no_dest_prefix(),
        MakeMirror::new(&a, &view("a/x/")),
        MakeMirror::new(&a, &a).prefix("x/").dest_prefix("x/y/"),
    ] {
        let error = wait_until_begun(make.extraneous(Extraneous::Delete), &client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    // "a/" in namespace `b` does not overlap with `a`.
    wait_until_begun(MakeMirror::new(&a, &b).dest_prefix("a/"), &client).unwrap();
    // A checkpoint below the copied prefix would be copied endlessly.
    let marked = MakeMirror::new(&a, &client)
        .dest_prefix("c/")
        .checkpoint("a/progress");
    let error = wait_until_begun(marked, &client).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(client.get("a/progress").unwrap().is_none());
}

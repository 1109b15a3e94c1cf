//! Copies with a checkpoint in the destination.

use super::*;

#[test]
fn with_a_checkpoint_lost_answers_and_restarts_copy_each_version_exactly_once() {
    let two = two();
    let proxy = Proxy::start(two.b.client_addr()).unwrap();
    let destination = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    two.source.put("m/k", "0").unwrap();
    let make = MakeMirror::new(&two.source, &destination)
        .prefix("m/")
        .checkpoint("m/checkpoint");
    let copy = make.clone().start().unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    for n in 1..=5 {
        proxy.hold(Dir::Down, true);
        two.source.put("m/k", n.to_string()).unwrap();
        eventually(SOON, "its answer is lost", || {
            let progress = copy.progress();
            progress
                .stalled()
                .filter(|error| error.outcome_unknown())
                .map(drop)
        });
        proxy.hold(Dir::Down, false);
        copy.wait_revision(now(&two.source), SOON).unwrap();
    }
    let k = two.destination.get("m/k").unwrap().unwrap();
    assert_eq!((k.value_str(), k.version()), (Some("5"), 6));
    let before = copy.stop().unwrap();

    // Another run continues from the checkpoint.
    two.source.put("m/k", "6").unwrap();
    let resumed = make.clone().start().unwrap();
    let progress = resumed.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(
        (progress.lists(), progress.puts()),
        (0, 1),
        "after {before:?}"
    );
    assert_eq!(two.destination.get("m/k").unwrap().unwrap().version(), 7);

    // A second copier with the same checkpoint is detected.
    let second = make.start().unwrap();
    second.wait_revision(now(&two.source), SOON).unwrap();
    two.source.put("m/k", "7").unwrap();
    eventually(SOON, "one of them ends", || {
        resumed
            .ended()
            .try_recv()
            .ok()
            .or_else(|| second.ended().try_recv().ok())
            .map(|error| assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"))
    });
    eventually(SOON, "the other goes on", || {
        (two.destination.get("m/k").unwrap().unwrap().value() == "7").then_some(())
    });
    assert_eq!(two.destination.get("m/k").unwrap().unwrap().version(), 8);
    let foreign = MakeMirror::new(&two.source, &two.destination)
        .prefix("m/")
        .checkpoint("m/k");
    let error = foreign.start().unwrap().ended().recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
}

#[test]
fn with_a_checkpoint_a_destination_that_lost_its_data_is_detected_and_copied_again() {
    let mut two = two();
    two.source.put("m/a", "1").unwrap();
    let make = MakeMirror::new(&two.source, &two.destination)
        .prefix("m/")
        .checkpoint("checkpoint");
    let copy = make.clone().start().unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    two.b.restart_wiped().unwrap();
    two.source.put("m/b", "2").unwrap();
    let error = copy.ended().recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let anew = make.start().unwrap();
    anew.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(
        below(&two.destination, "m/"),
        keys([("a", "1"), ("b", "2")])
    );
}

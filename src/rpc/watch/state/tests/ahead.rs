//! Watches that begin after the store's revision, and the progress of the others on their stream.

use super::*;

/// Two watches on a stream of a store at revision 11: the first is live, the second begins at 101.
fn one_live_and_one_ahead() -> (Watches, Instant) {
    let (mut state, now) = one_live(Watch::key("k"));
    // It began at 11, and the store has reached that.
    state.on(events(0, 11, &[11], false), now, 0.5);
    let ahead = Watch::key("k").start_revision(Revision::new(101));
    let actions = state.on(Input::Add(2, ahead), now, 0.5);
    assert_eq!(starts(&actions), [101]);
    state.on(created(1, 11), now, 0.5);
    (state, now)
}

fn asks(actions: &[Action]) -> usize {
    let asks = |action: &&Action| match action {
        Action::Send(request) => matches!(
            request.request_union,
            Some(RequestUnion::ProgressRequest(_))
        ),
        _ => false,
    };
    actions.iter().filter(asks).count()
}

/// The watches and last revisions of what is delivered.
fn delivered(actions: &[Action]) -> Vec<(u64, i64)> {
    let delivered = actions.iter().filter_map(|action| match action {
        Action::Deliver { id, response, .. } => Some((*id, response.revision().get())),
        _ => None,
    });
    delivered.collect()
}

/// An answer to a progress request.
fn progress(revision: i64) -> Input {
    Input::Message(WatchResponse {
        header: header(revision),
        watch_id: -1,
        ..Default::default()
    })
}

const SOON: Duration = Duration::from_millis(100);

// Fault: W13
#[test]
fn a_watch_that_is_ahead_starts_earlier_when_progress_is_not_answered() {
    let (mut state, now) = one_live_and_one_ahead();
    let actions = state.on(Input::Progress(1), now, 0.5);
    assert_eq!((asks(&actions), cancels(&actions)), (1, vec![]));
    let actions = state.on(Input::Tick, now + SOON, 0.5);
    assert_eq!((asks(&actions), cancels(&actions)), (1, vec![1]));
    assert_eq!(starts(&actions), [11]);
    state.on(canceled(1, false, ""), now + SOON, 0.5);
    let actions = state.on(created(2, 11), now + SOON, 0.5);
    assert!(actions.is_empty(), "its reader knows of it: {actions:?}");

    // What came before its start is not delivered, and nothing is missing.
    let actions = state.on(events(2, 60, &[20, 60], false), now + SOON, 0.5);
    assert!(delivered(&actions).is_empty());
    let actions = state.on(progress(60), now + SOON, 0.5);
    assert_eq!(delivered(&actions), [(1, 60)]);
    let actions = state.on(events(2, 102, &[100, 101, 102], false), now + SOON, 0.5);
    assert_eq!(delivered(&actions), [(2, 102)]);
}

#[test]
fn it_starts_earlier_once_only() {
    let (mut state, mut now) = one_live_and_one_ahead();
    state.on(Input::Progress(1), now, 0.5);
    now += SOON;
    assert_eq!(starts(&state.on(Input::Tick, now, 0.5)), [11]);
    state.on(created(2, 11), now, 0.5);
    for _ in 0..20 {
        now += Duration::from_secs(2);
        let actions = state.on(Input::Tick, now, 0.5);
        assert_eq!((asks(&actions), starts(&actions)), (1, vec![]));
    }
}

#[test]
fn a_watch_that_was_created_without_a_revision_stays() {
    let (mut state, now) = one_live(Watch::key("k"));
    state.on(events(0, 11, &[11], false), now, 0.5);
    let ahead = Watch::key("k").start_revision(Revision::new(101));
    state.on(Input::Add(2, ahead), now, 0.5);
    state.on(created(1, 0), now, 0.5);
    state.on(Input::Progress(1), now, 0.5);
    let actions = state.on(Input::Tick, now + SOON, 0.5);
    assert_eq!((asks(&actions), cancels(&actions)), (1, vec![]));
    assert!(starts(&actions).is_empty());
}

#[test]
fn progress_of_a_watch_that_is_ahead_has_the_revision_that_the_store_has() {
    let (mut state, now) = one_live_and_one_ahead();
    let actions = state.on(Input::Progress(2), now, 0.5);
    assert!(matches!(
        &actions[..],
        [.., Action::Read(_), _] | [.., Action::Read(_)]
    ));
    let actions = state.on(Input::Read(Ok(50)), now, 0.5);
    assert_eq!(delivered(&actions), [(2, 50)]);
}

#[test]
fn an_early_start_that_is_refused_for_a_compaction_is_followed_by_the_late_one() {
    for (compacted, reason, end) in [
        (50, "", None),
        (101, "", None),
        (102, "", Some(ErrorKind::Compacted)),
        (0, "x", Some(ErrorKind::Server)),
    ] {
        let (mut state, now) = one_live_and_one_ahead();
        state.on(Input::Progress(1), now, 0.5);
        assert_eq!(starts(&state.on(Input::Tick, now + SOON, 0.5)), [11]);
        let refused = Input::Message(WatchResponse {
            header: header(200),
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: compacted,
            cancel_reason: reason.into(),
            ..Default::default()
        });
        let actions = state.on(refused, now + SOON, 0.5);
        assert_eq!(last_error(&actions).is_some(), end.is_some(), "{actions:?}");
        let late = if end.is_none() { vec![101] } else { vec![] };
        assert_eq!(starts(&actions), late);
    }
    // A watch without an early start ends.
    let (mut state, now) = one_live(Watch::key("k"));
    let old = Watch::key("k").start_revision(Revision::new(5));
    state.on(Input::Add(2, old), now, 0.5);
    let refused = Input::Message(WatchResponse {
        header: header(200),
        created: true,
        canceled: true,
        compact_revision: 7,
        ..Default::default()
    });
    let actions = state.on(refused, now, 0.5);
    assert_eq!(last_error(&actions), Some(ErrorKind::Compacted));
}

#[test]
fn a_watch_that_the_store_has_reached_stays() {
    let (mut state, now) = one_live_and_one_ahead();
    state.on(events(0, 101, &[101], false), now, 0.5);
    state.on(Input::Progress(1), now, 0.5);
    let actions = state.on(Input::Tick, now + SOON, 0.5);
    assert_eq!((asks(&actions), cancels(&actions)), (1, vec![]));
}

#[test]
fn a_compaction_before_its_start_does_not_end_it_and_one_after_it_does() {
    for (compacted, end) in [(50, None), (101, None), (102, Some(ErrorKind::Compacted))] {
        let (mut state, now) = one_live_and_one_ahead();
        state.on(Input::Progress(1), now, 0.5);
        state.on(Input::Tick, now + SOON, 0.5);
        state.on(created(2, 11), now + SOON, 0.5);
        let compaction = |watch_id| {
            Input::Message(WatchResponse {
                header: header(200),
                watch_id,
                compact_revision: compacted,
                ..Default::default()
            })
        };
        let actions = state.on(compaction(2), now + SOON, 0.5);
        assert_eq!(last_error(&actions), end);
        if end.is_none() {
            assert_eq!(starts(&actions), [101]);
            // A server that goes on is believed.
            state.on(created(3, 200), now + SOON, 0.5);
            let actions = state.on(compaction(3), now + SOON, 0.5);
            assert_eq!(last_error(&actions), Some(ErrorKind::Compacted));
        }
    }
}

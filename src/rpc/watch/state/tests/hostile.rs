//! Messages that violate the protocol.

use proptest::prelude::*;

use super::*;

// Fault: F32
#[test]
fn streams_with_invalid_messages_are_abandoned() {
    let nonsense = [
        created(3, 10),
        events(0, 20, &[0], false),
        events(0, 20, &[-4], false),
        events(0, 20, &[i64::MAX], false),
        events(0, 20, &[13, 12], false),
        Input::Message(WatchResponse {
            events: vec![Default::default()],
            ..Default::default()
        }),
    ];
    for input in nonsense {
        let (mut state, now) = one_live(Watch::key("k"));
        let actions = state.on(input, now, 0.5);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Close(_))),
            "{actions:?}"
        );
    }
}

#[test]
fn progress_has_a_revision_after_which_there_are_others() {
    let (mut state, now) = one_live(Watch::key("k").progress_notify());
    for (revision, is_delivered) in [(i64::MAX, false), (i64::MAX - 1, true)] {
        let progress = Input::Message(WatchResponse {
            header: header(revision),
            ..Default::default()
        });
        let actions = state.on(progress, now, 0.5);
        let delivers = |action: &Action| matches!(action, Action::Deliver { .. });
        assert_eq!(actions.iter().any(delivers), is_delivered, "{actions:?}");
    }
}

fn any_message() -> impl Strategy<Value = WatchResponse> {
    let number = || prop_oneof![-2i64..6, any::<i64>()];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let reason = prop_oneof![Just(""), Just("etcdserver: no leader"), Just("x")];
    let list = prop::collection::vec(prop_oneof![1i64..20, any::<i64>()], 0..4);
    (number(), number(), flags, number(), reason, list).prop_map(
        |(watch_id, revision, (created, canceled, fragment, headed), compact, reason, list)| {
            WatchResponse {
                header: headed.then(|| header(revision)).flatten(),
                watch_id,
                created,
                canceled: canceled && created,
                compact_revision: if canceled { compact } else { 0 },
                cancel_reason: reason.into(),
                fragment,
                events: list
                    .into_iter()
                    .map(|revision| event(revision, "k"))
                    .collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn no_message_causes_a_panic_or_events_out_of_order(
        messages in prop::collection::vec(any_message(), 1..40),
    ) {
        let (mut state, mut now) = one_live(Watch::key("k"));
        let mut told = 0;
        for message in messages {
            now += Duration::from_millis(700);
            let mut inputs = vec![Input::Message(message)];
            while let Some(input) = inputs.pop() {
                for action in state.on(input, now, 0.5) {
                    match action {
                        Action::Open => inputs.push(Input::Opened),
                        Action::Read(_) => inputs.push(Input::Read(Ok(i64::MAX))),
                        Action::Deliver { id: 1, response, .. } => {
                            prop_assert!(response.revision().get() >= told);
                            told = response.revision().get();
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

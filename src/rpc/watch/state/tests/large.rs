//! Responses that are too large for a message, and the streams of their watches.

use super::*;
use crate::rpc::watch::state::{SHARED, StreamNo, Streams};

fn too_large(outline: WatchResponse, events: usize) -> Input {
    let bytes = 1 << 21;
    Input::TooLarge {
        outline,
        events,
        bytes,
    }
}

/// A response to the watch with this id that is too large.
fn oversized(watch_id: i64, events: usize) -> Input {
    let outline = WatchResponse {
        header: header(20),
        watch_id,
        ..Default::default()
    };
    too_large(outline, events)
}

type Actions = Vec<(StreamNo, Action)>;

/// The actions of one stream.
fn of(actions: Actions, stream: StreamNo) -> Vec<Action> {
    let actions = actions.into_iter().filter(|(of, _)| *of == stream);
    actions.map(|(_, action)| action).collect()
}

/// The streams of a client with watches 1 to `n`, which start at 11 and have the ids 0 to `n - 1` on the server.
struct Client {
    streams: Streams,
    now: Instant,
}

impl Client {
    fn new(n: u64) -> Self {
        let now = Instant::now();
        let streams = Streams::new(1 << 20, now);
        let mut client = Client { streams, now };
        for id in 1..=n {
            let watch = Watch::key("k").start_revision(Revision::new(11));
            client.on(SHARED, Input::Add(id, watch));
        }
        client.on(SHARED, Input::Opened);
        let orders_progress = true;
        client.on(SHARED, Input::Version { orders_progress });
        for wire in 0..n {
            client.on(SHARED, created(i64::try_from(wire).unwrap(), 20));
        }
        client
    }

    fn on(&mut self, stream: StreamNo, input: Input) -> Actions {
        self.streams.on(stream, input, self.now, 0.0)
    }

    /// A client whose only watch is live on stream 1, with id 0.
    fn with_own() -> Self {
        let mut client = Client::new(1);
        client.on(SHARED, oversized(0, 9));
        client.on(1, Input::Opened);
        client.on(1, Input::Read(Ok(20)));
        client.on(1, created(0, 20));
        client
    }
}

#[test]
fn a_watch_moves_to_a_stream_with_fragments_and_returns_once_it_is_past_the_response() {
    let mut client = Client::new(2);
    assert!(client.streams.has_stream(SHARED) && !client.streams.has_stream(1));
    let actions = client.on(SHARED, oversized(0, 9));
    assert!(matches!(of(actions, 1)[..], [Action::Open]));
    assert!(client.streams.has_stream(1) && !client.streams.has_stream(2));
    assert_eq!([1, 2].map(|id| client.streams.stream_of(id)), [1, SHARED]);
    let actions = client.on(1, Input::Opened);
    assert!(matches!(of(actions, 1)[..], [Action::Read(_)]));
    let actions = of(client.on(1, Input::Read(Ok(20))), 1);
    assert_eq!(starts(&actions), [11]);
    client.on(1, created(0, 20));
    // Before the response it is created there again.
    client.on(1, Input::Ended(StreamEnd::Eof));
    assert_eq!(client.streams.stream_of(1), 1);
    client.on(1, Input::Opened);
    let actions = of(client.on(1, Input::Read(Ok(20))), 1);
    assert_eq!(starts(&actions), [11]);
    client.on(1, created(0, 20));
    client.on(1, events(0, 20, &[11, 12], true));
    let actions = of(client.on(1, events(0, 20, &[13], false)), 1);
    assert!(
        matches!(&actions[0], Action::Deliver { id: 1, response, .. } if response.events().len() == 3)
    );
    assert_eq!(client.streams.stream_of(1), 1, "it is live");
    // After it, it returns.
    let actions = client.on(1, Input::Ended(StreamEnd::Eof));
    assert_eq!(client.streams.stream_of(1), SHARED);
    assert!(!client.streams.has_stream(1));
    assert!(matches!(of(actions, SHARED)[..], [Action::Read(_)]));
    let actions = client.on(SHARED, Input::Read(Ok(20)));
    assert_eq!(starts(&of(actions, SHARED)), [14]);
    let actions = client.on(1, Input::Tick);
    assert!(actions.is_empty(), "of a stream that is gone");
}

#[test]
fn four_streams_are_shared_by_all_further_watches_evenly() {
    let mut client = Client::new(10);
    for (wire, stream) in [1, 2, 3, 4, 1, 2, 3, 4, 1].into_iter().enumerate() {
        let actions = client.on(SHARED, oversized(i64::try_from(wire).unwrap(), 9));
        let opens = of(actions, stream);
        assert_eq!(matches!(opens[..], [Action::Open]), wire < 4, "{opens:?}");
        let id = u64::try_from(wire).unwrap() + 1;
        assert_eq!(client.streams.stream_of(id), stream);
    }
    // The number of a stream that is gone is not used again.
    for id in [2, 6] {
        client.on(2, Input::Remove(id));
    }
    assert!(!client.streams.has_stream(2));
    client.on(SHARED, oversized(9, 9));
    assert_eq!(client.streams.stream_of(10), 5);
}

#[test]
fn a_watch_is_created_again_at_most_five_times_for_a_response_without_fragments() {
    let mut client = Client::with_own();
    for wire in 0..5 {
        let actions = of(client.on(1, oversized(wire, 2)), 1);
        assert_eq!(
            (cancels(&actions), starts(&actions)),
            (vec![wire], vec![11])
        );
        client.on(1, created(wire + 1, 20));
    }
    let actions = of(client.on(1, oversized(5, 2)), 1);
    assert_eq!(last_error(&actions), Some(ErrorKind::TooLarge));
    assert_eq!(cancels(&actions), [5]);
}

#[test]
fn an_event_that_is_too_large_alone_ends_its_watch() {
    let mut client = Client::with_own();
    let actions = of(client.on(1, oversized(0, 1)), 1);
    assert_eq!(last_error(&actions), Some(ErrorKind::TooLarge));
    assert!(!client.streams.has_stream(1), "it had no other watch");
}

#[test]
fn an_oversized_message_that_is_no_events_is_handled_as_any_other() {
    let response = |message: WatchResponse| WatchResponse {
        header: header(20),
        ..message
    };
    let messages = [
        WatchResponse {
            watch_id: 1,
            created: true,
            ..Default::default()
        },
        WatchResponse {
            canceled: true,
            cancel_reason: "x".into(),
            ..Default::default()
        },
        WatchResponse {
            compact_revision: 15,
            ..Default::default()
        },
    ];
    for message in messages.map(response) {
        let handled = [
            Input::Message(message.clone()),
            too_large(message.clone(), 0),
        ]
        .map(|input| {
            let (mut state, now) = one_live(Watch::key("k"));
            let watch = Watch::key("x").start_revision(Revision::new(5));
            state.on(Input::Add(2, watch), now, 0.5);
            format!("{:?}", state.on(input, now, 0.5))
        });
        assert_eq!(handled[0], handled[1]);
        assert!(handled[0].contains("Created") || handled[0].contains("Finish"));
    }
}

//! Files of `src/grpc/connect`, and their models.

#[path = "../../../../src/grpc/connect/connection_state.rs"]
mod connection_state;
#[path = "../../../../src/grpc/connect/single_flight.rs"]
mod single_flight;

use std::sync::Arc;

use stand_ins::{block_on, thread};

use self::connection_state::ConnectionState;
use self::single_flight::SingleFlight;
use crate::harness::Model;
use crate::util::atomic::{AtomicUsize, Ordering::SeqCst};

/// The failure of an attempt, without what an error of h2 says.
pub(crate) mod connect_error {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum RequestSent {
        No,
        Maybe,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct ConnectError {
        pub(crate) sent: RequestSent,
        pub(crate) text: String,
    }

    impl ConnectError {
        pub(crate) fn unconnected(text: impl Into<String>) -> Self {
            ConnectError {
                sent: RequestSent::No,
                text: text.into(),
            }
        }
    }

    impl std::fmt::Display for ConnectError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.text)
        }
    }
}

/// The slots of a connection: here only that they can be closed.
mod stream_slots {
    #[derive(Clone, Debug, Default)]
    pub(crate) struct StreamSlots;

    impl StreamSlots {
        pub(crate) fn close(&self) {}
    }
}

pub(super) fn models() -> Vec<Model> {
    vec![
        Model::interrupted(
            "single flight: two requests and a later one",
            2,
            single_flight,
        ),
        Model::every_order(
            "connection: a stream is opened while it comes to rest",
            rest,
        ),
        Model::every_order("connection: its end reaches who waits", end),
    ]
}

/// Two requests share a run or have one each; a request after the result of a run gets a newer one.
fn single_flight() {
    let flights = SingleFlight::new("model");
    let started = Arc::new(AtomicUsize::new(0));
    let request = |flights: &Arc<SingleFlight<u8, usize>>, started: &Arc<AtomicUsize>| {
        let started = Arc::clone(started);
        let work = move || {
            let run = started.fetch_add(1, SeqCst) + 1;
            thread::yield_now();
            assert_eq!(started.load(SeqCst), run, "one run at a time");
            run
        };
        block_on(flights.run(1, work)).unwrap()
    };
    let (there, counted) = (Arc::clone(&flights), Arc::clone(&started));
    let other = thread::spawn(move || request(&there, &counted));
    let first = request(&flights, &started);
    let second = request(&flights, &started);
    let other = other.join().unwrap();
    let runs = started.load(SeqCst);
    assert!(
        first < second && second <= runs && other <= runs,
        "{first} {second} {other} {runs}"
    );
    assert!(runs <= 3);
}

/// A stream that is opened while the connection is recorded as idle requests a check.
fn rest() {
    let state = ConnectionState::new();
    let there = Arc::clone(&state);
    let opening = thread::spawn(move || there.stream_opened());
    state.rest();
    block_on(state.busy.notified());
    assert!(state.is_busy());
    opening.join().unwrap();
}

fn end() {
    let state = ConnectionState::new();
    let there = Arc::clone(&state);
    let ending = thread::spawn(move || there.ended("first"));
    let there = Arc::clone(&state);
    let waiting = thread::spawn(move || {
        block_on(there.until_ended());
        there.why_ended().unwrap()
    });
    state.ended("second");
    let why = waiting.join().unwrap();
    ending.join().unwrap();
    assert_eq!(state.why_ended(), Some(why), "the first reason stays");
}

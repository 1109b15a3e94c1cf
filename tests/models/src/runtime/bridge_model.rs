//! Callers, the runtime thread and a close: every call ends, with its result or with `Closed`.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use stand_ins::{Timeouts, thread};

use super::bridge::Bridge;
use super::driver::DriveMode;
use super::pending::LostRequest;
use crate::error::{ErrorKind, Result};
use crate::harness::Model;

pub(super) const MODELS: &[Model] = &[
    Model::interrupted("bridge: the thread drives, two callers", 3, || {
        two_callers(DriveMode::Thread)
    }),
    Model::interrupted("bridge: callers drive, two of them", 2, || {
        two_callers(DriveMode::Caller)
    }),
    Model::interrupted("bridge: a lone caller drove, then two", 2, || {
        two_callers(DriveMode::Auto)
    }),
    Model::interrupted("bridge: the thread drives, close", 3, || {
        close(DriveMode::Thread)
    }),
    Model::interrupted("bridge: callers drive, close", 3, || {
        close(DriveMode::Caller)
    }),
    Model::interrupted("bridge: a lone caller drove, close", 3, || {
        close(DriveMode::Auto)
    }),
    Model::interrupted("bridge: two callers and a close", 2, two_callers_and_close),
    Model::interrupted("bridge: the thread drives, close ends a call", 3, || {
        close_hanging(DriveMode::Thread, called)
    }),
    Model::interrupted("bridge: a caller drives, close ends its call", 3, || {
        close_hanging(DriveMode::Auto, called)
    }),
    Model::interrupted("bridge: close ends a wait", 3, || {
        close_hanging(DriveMode::Auto, submitted)
    }),
    Model::interrupted("bridge: close ends a channel", 3, || {
        close_hanging(DriveMode::Auto, submitted_to_channel)
    }),
    Model::interrupted(
        "bridge: a submitted request and a call",
        2,
        submitted_and_call,
    ),
    Model::interrupted(
        "bridge: nobody waits for a submitted request",
        3,
        nobody_waits,
    ),
];

/// How many lone calls precede the change to a driving caller.
const LONE_CALLS: usize = 32;

/// A bridge. In the adaptive mode, so many calls were made that the next lone caller drives. No order of that is run.
fn bridge(mode: DriveMode) -> Arc<Bridge> {
    loom::stop_exploring();
    let bridge = Bridge::start("model", mode).unwrap();
    if mode == DriveMode::Auto {
        for _ in 0..LONE_CALLS {
            bridge.call(async { Ok(()) }).unwrap();
        }
    }
    loom::explore();
    Arc::new(bridge)
}

/// A request whose answer arrives by another turn of the runtime.
async fn request(executed: Arc<AtomicUsize>, value: usize) -> Result<usize> {
    let mut is_sent = false;
    poll_fn(|cx| match std::mem::replace(&mut is_sent, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    executed.fetch_add(1, Relaxed);
    Ok(value)
}

fn two_callers(mode: DriveMode) {
    let bridge = bridge(mode);
    let executed = Arc::new(AtomicUsize::new(0));
    let (there, counted) = (Arc::clone(&bridge), Arc::clone(&executed));
    let caller = thread::spawn(move || there.call(request(counted, 1)));
    assert_eq!(bridge.call(request(Arc::clone(&executed), 2)).unwrap(), 2);
    assert_eq!(caller.join().unwrap().unwrap(), 1);
    assert_eq!(executed.load(Relaxed), 2);
    bridge.close().unwrap();
}

fn is_closed<T: PartialEq + std::fmt::Debug>(result: Result<T>, value: T) -> bool {
    match result {
        Ok(got) => {
            assert_eq!(got, value);
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Closed);
            true
        }
    }
}

fn close(mode: DriveMode) {
    let bridge = bridge(mode);
    let executed = Arc::new(AtomicUsize::new(0));
    let (there, counted) = (Arc::clone(&bridge), Arc::clone(&executed));
    let caller = thread::spawn(move || there.call(request(counted, 1)));
    bridge.close().unwrap();
    let closed = is_closed(caller.join().unwrap(), 1);
    assert!(closed || executed.load(Relaxed) == 1);
    assert!(is_closed(bridge.call(async { Ok(3) }), 3), "it is closed");
}

fn two_callers_and_close() {
    let bridge = bridge(DriveMode::Auto);
    let callers = [1, 2].map(|value| {
        let there = Arc::clone(&bridge);
        thread::spawn(move || is_closed(there.call(request(Arc::default(), value)), value))
    });
    bridge.close().unwrap();
    for caller in callers {
        caller.join().unwrap();
    }
}

/// The answer never arrives; the close ends the call.
fn close_hanging(mode: DriveMode, call: fn(&Bridge) -> Result<u8>) {
    let bridge = bridge(mode);
    let there = Arc::clone(&bridge);
    let caller = thread::spawn(move || call(&there));
    bridge.close().unwrap();
    assert_eq!(
        caller.join().unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
}

fn called(bridge: &Bridge) -> Result<u8> {
    bridge.call(std::future::pending())
}

fn submitted(bridge: &Bridge) -> Result<u8> {
    bridge
        .submit_or(LostRequest::default(), std::future::pending())
        .wait()
}

fn submitted_to_channel(bridge: &Bridge) -> Result<u8> {
    let reply = bridge.submit_or(LostRequest::default(), std::future::pending());
    reply.receiver().recv().unwrap()
}

fn submitted_and_call() {
    let bridge = bridge(DriveMode::Auto);
    let executed = Arc::new(AtomicUsize::new(0));
    let (there, counted) = (Arc::clone(&bridge), Arc::clone(&executed));
    let caller = thread::spawn(move || {
        there
            .submit_or(LostRequest::default(), request(counted, 1))
            .wait()
    });
    assert_eq!(bridge.call(request(Arc::clone(&executed), 2)).unwrap(), 2);
    assert_eq!(caller.join().unwrap().unwrap(), 1);
    assert_eq!(executed.load(Relaxed), 2);
    bridge.close().unwrap();
}

/// The runtime thread stands aside. It takes over when a time has passed without a driver.
fn nobody_waits() {
    let bridge = bridge(DriveMode::Auto);
    Timeouts::AtOnce.set();
    let executed = Arc::new(AtomicUsize::new(0));
    let reply = bridge.submit_or(LostRequest::default(), request(Arc::clone(&executed), 1));
    // A thread that waits for the channel cannot drive.
    assert_eq!(reply.receiver().recv().unwrap().unwrap(), 1);
    bridge.close().unwrap();
}

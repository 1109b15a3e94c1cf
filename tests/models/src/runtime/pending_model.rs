//! A reply reaches its reader once, however the reader waits for it.

use std::task::{Context, Poll};
use std::time::Duration;

use stand_ins::{block_on, thread};

use super::pending::{LostRequest, Pending, Promise, pending};
use crate::ErrorKind;
use crate::harness::Model;

pub(super) const MODELS: &[Model] = &[
    Model::every_order("pending: a reader waits", reader_waits),
    Model::every_order("pending: the promise is dropped", promise_dropped),
    Model::every_order("pending: a reader polled, then waits", reader_polled),
    Model::every_order("pending: a reader has a waker", reader_has_waker),
    Model::every_order("pending: the channel is requested", channel_requested),
    Model::every_order("pending: two readers", two_readers),
    Model::interrupted(
        "pending: a reader waits, another has the channel",
        3,
        reader_and_channel,
    ),
];

/// Never passes in a model.
const LONG: Duration = Duration::from_secs(3600);

fn request() -> (Promise<u8>, Pending<u8>) {
    pending(LostRequest::default(), None)
}

fn reader_waits() {
    let (promise, reply) = request();
    let reader = thread::spawn(move || reply.wait());
    promise.keep(Ok(7));
    assert_eq!(reader.join().unwrap().unwrap(), 7);
}

fn promise_dropped() {
    let (promise, reply) = request();
    let reader = thread::spawn(move || reply.wait());
    drop(promise);
    assert_eq!(
        reader.join().unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
}

/// The reader drove the runtime until the bridge was closed, and left its waker in the slot.
fn reader_polled() {
    let (promise, reply) = request();
    let writer = thread::spawn(move || promise.keep(Ok(7)));
    let mut polled = false;
    block_on(std::future::poll_fn(|cx| {
        if !std::mem::replace(&mut polled, true) {
            reply.wake_when_ready(cx.waker());
        }
        Poll::Ready(())
    }));
    assert_eq!(reply.wait().unwrap(), 7);
    writer.join().unwrap();
}

fn reader_has_waker() {
    let (promise, reply) = request();
    let writer = thread::spawn(move || promise.keep(Ok(7)));
    let value = block_on(std::future::poll_fn(|cx: &mut Context<'_>| {
        match reply.try_wait() {
            Some(reply) => Poll::Ready(reply),
            None => {
                reply.wake_when_ready(cx.waker());
                Poll::Pending
            }
        }
    }));
    assert_eq!(value.unwrap(), 7);
    writer.join().unwrap();
}

fn channel_requested() {
    let (promise, reply) = request();
    let writer = thread::spawn(move || promise.keep(Ok(7)));
    assert_eq!(reply.receiver().recv().unwrap().unwrap(), 7);
    assert!(reply.receiver().recv().is_err(), "it has one item");
    writer.join().unwrap();
}

/// One of them gets the reply, and the other learns that it was taken.
fn two_readers() {
    let (promise, reply) = request();
    let reply = std::sync::Arc::new(reply);
    let other = std::sync::Arc::clone(&reply);
    let other = thread::spawn(move || other.wait_timeout(LONG));
    let writer = thread::spawn(move || promise.keep(Ok(7)));
    let replies = [reply.wait_timeout(LONG), other.join().unwrap()];
    writer.join().unwrap();
    let taken = replies
        .into_iter()
        .filter(|reply| matches!(reply, Some(Ok(7))))
        .count();
    assert_eq!(taken, 1);
}

/// The reply goes into the channel, and one of the two takes it from there.
fn reader_and_channel() {
    let (promise, reply) = request();
    let reply = std::sync::Arc::new(reply);
    let other = std::sync::Arc::clone(&reply);
    let other = thread::spawn(move || other.wait_timeout(LONG));
    let writer = thread::spawn(move || promise.keep(Ok(7)));
    let here = reply.receiver().recv().is_ok();
    let there = matches!(other.join().unwrap(), Some(Ok(7)));
    writer.join().unwrap();
    assert_ne!(here, there);
}

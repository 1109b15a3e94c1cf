//! `Notify` of tokio: a permit, and a queue of those that wait for it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::Mutex;

#[derive(Debug, Default)]
pub struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    permit: bool,
    next: u64,
    /// How often all were notified.
    rounds: u64,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    is_notified: bool,
    waker: Option<Waker>,
}

/// Waits for a notification.
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    rounds: u64,
    /// The number in the queue, from the first poll until the end.
    number: Option<u64>,
    is_over: bool,
}

impl Notify {
    pub fn new() -> Self {
        Notify::default()
    }

    pub fn notify_one(&self) {
        let mut state = self.0.lock();
        let waker = state.notify_next();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn notify_waiters(&self) {
        let mut state = self.0.lock();
        state.rounds += 1;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters
            .into_iter()
            .filter_map(|waiter| waiter.waker)
            .for_each(Waker::wake);
    }

    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            rounds: self.0.lock().rounds,
            number: None,
            is_over: false,
        }
    }
}

impl State {
    /// Notifies the next one, or keeps the permit.
    fn notify_next(&mut self) -> Option<Waker> {
        match self.waiters.iter_mut().find(|waiter| !waiter.is_notified) {
            Some(waiter) => {
                waiter.is_notified = true;
                waiter.waker.take()
            }
            None => {
                self.permit = true;
                None
            }
        }
    }
}

impl Notified<'_> {
    /// Queues it, so that it gets a notification from now on. Returns whether it has one.
    pub fn enable(mut self: Pin<&mut Self>) -> bool {
        self.advance(None).is_ready()
    }

    fn advance(&mut self, waker: Option<&Waker>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        let mut state = self.notify.0.lock();
        let number = *self.number.get_or_insert_with(|| {
            state.next += 1;
            let number = state.next;
            let is_notified = std::mem::take(&mut state.permit);
            state.waiters.push(Waiter {
                number,
                is_notified,
                waker: None,
            });
            number
        });
        let place = state
            .waiters
            .iter()
            .position(|waiter| waiter.number == number);
        let is_notified = match place {
            Some(place) => state.waiters[place].is_notified,
            None => true,
        };
        if is_notified || state.rounds != self.rounds {
            state.waiters.retain(|waiter| waiter.number != number);
            self.is_over = true;
            return Poll::Ready(());
        }
        if let (Some(place), Some(waker)) = (place, waker) {
            state.waiters[place].waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.advance(Some(cx.waker()))
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let (Some(number), false) = (self.number, self.is_over) else {
            return;
        };
        let mut state = self.notify.0.lock();
        let unused = state
            .waiters
            .iter()
            .any(|waiter| waiter.number == number && waiter.is_notified);
        state.waiters.retain(|waiter| waiter.number != number);
        // A notification that was not seen goes to the next one.
        let waker = if unused { state.notify_next() } else { None };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

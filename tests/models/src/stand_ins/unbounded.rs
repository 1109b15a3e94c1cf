//! `tokio::sync::mpsc`, without a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::Mutex;

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    has_sender: bool,
    has_receiver: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub struct UnboundedSender<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
pub struct UnboundedReceiver<T>(Arc<Mutex<State<T>>>);

/// The receiver was dropped.
#[derive(Debug)]
pub struct SendError<T>(pub T);

pub fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    let state = Arc::new(Mutex::new(State {
        items: VecDeque::new(),
        has_sender: true,
        has_receiver: true,
        waker: None,
    }));
    (
        UnboundedSender(Arc::clone(&state)),
        UnboundedReceiver(state),
    )
}

impl<T> UnboundedSender<T> {
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut state = self.0.lock();
        if !state.has_receiver {
            drop(state);
            return Err(SendError(item));
        }
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl<T> Drop for UnboundedSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_sender = false;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> UnboundedReceiver<T> {
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            match state.items.pop_front() {
                Some(item) => Poll::Ready(Some(item)),
                None if !state.has_sender => Poll::Ready(None),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Drop for UnboundedReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_receiver = false;
        let items = std::mem::take(&mut state.items);
        drop(state);
        // Without the lock: a drop may run code that sends.
        drop(items);
    }
}

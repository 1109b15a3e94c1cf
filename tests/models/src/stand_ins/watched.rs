//! `tokio::sync::watch`: one value, and receivers that wait for it.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::{Mutex, MutexGuard};

#[derive(Debug)]
struct State<T> {
    value: T,
    is_ended: bool,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<State<T>>>);

/// The value, which does not change while it is borrowed.
#[derive(Debug)]
pub struct Ref<'a, T>(MutexGuard<'a, State<T>>);

/// The sender was dropped.
#[derive(Debug)]
pub struct RecvError;

pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

fn wake_all<T>(mut state: MutexGuard<'_, State<T>>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

impl<T> Sender<T> {
    pub fn new(value: T) -> Self {
        let state = State {
            value,
            is_ended: false,
            wakers: Vec::new(),
        };
        Sender(Arc::new(Mutex::new(state)))
    }

    pub fn subscribe(&self) -> Receiver<T> {
        Receiver(Arc::clone(&self.0))
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.lock())
    }

    pub fn send_replace(&self, value: T) -> T {
        let mut state = self.0.lock();
        let old = std::mem::replace(&mut state.value, value);
        wake_all(state);
        old
    }

    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let mut state = self.0.lock();
        let is_modified = modify(&mut state.value);
        if is_modified {
            wake_all(state);
        }
        is_modified
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_ended = true;
        wake_all(state);
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Receiver<T> {
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.lock())
    }

    /// Waits until the value is as wanted.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvError> {
        let found = std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            if wanted(&state.value) {
                return Poll::Ready(Ok(()));
            }
            if state.is_ended {
                return Poll::Ready(Err(RecvError));
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        found.map(|()| self.borrow())
    }
}

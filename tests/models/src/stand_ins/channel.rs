//! The channels of crossbeam.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::parker::Parker;
use crate::{Condvar, Mutex};

#[derive(Debug)]
struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    room: usize,
    senders: usize,
    receivers: usize,
    /// The threads that select on the channel.
    selecting: Vec<Arc<Parker>>,
}

#[derive(Debug)]
pub struct Sender<T>(Arc<Channel<T>>);

#[derive(Debug)]
pub struct Receiver<T>(Arc<Channel<T>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    Empty,
    Disconnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

impl RecvTimeoutError {
    pub fn is_timeout(&self) -> bool {
        *self == RecvTimeoutError::Timeout
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError<T>(pub T);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

/// A channel with room for some items.
pub fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        state: Mutex::new(State {
            items: VecDeque::new(),
            room,
            senders: 1,
            receivers: 1,
            selecting: Vec::new(),
        }),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Channel<T> {
    fn change<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let selecting = state.selecting.clone();
        drop(state);
        self.changed.notify_all();
        selecting.iter().for_each(|parker| parker.unpark());
        result
    }
}

impl<T> Sender<T> {
    /// Sends without a wait: the modelled files never wait for room.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.try_send(item).map_err(|error| match error {
            TrySendError::Disconnected(item) => SendError(item),
            TrySendError::Full(_) => unreachable!("the channel has no bound"),
        })
    }

    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.0.change(|state| {
            if state.receivers == 0 {
                return Err(TrySendError::Disconnected(item));
            }
            if state.items.len() >= state.room {
                return Err(TrySendError::Full(item));
            }
            state.items.push_back(item);
            Ok(())
        })
    }

    pub fn len(&self) -> usize {
        self.0.state.lock().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        let state = self.0.state.lock();
        state.items.len() >= state.room
    }

    pub(crate) fn is_ready(&self) -> bool {
        let state = self.0.state.lock();
        state.items.len() < state.room || state.receivers == 0
    }

    pub(crate) fn select(&self, parker: &Arc<Parker>) {
        self.0.state.lock().selecting.push(Arc::clone(parker));
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.change(|state| match state.items.pop_front() {
            Some(item) => Ok(item),
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        })
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => {}
            }
            let mut state = self.0.state.lock();
            while state.items.is_empty() && state.senders > 0 {
                self.0.changed.wait(&mut state);
            }
        }
    }

    pub fn recv_deadline(&self, _: Instant) -> Result<T, RecvTimeoutError> {
        self.recv()
            .map_err(|RecvError| RecvTimeoutError::Disconnected)
    }

    pub fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        self.recv()
            .map_err(|RecvError| RecvTimeoutError::Disconnected)
    }

    pub fn len(&self) -> usize {
        self.0.state.lock().items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_ready(&self) -> bool {
        let state = self.0.state.lock();
        !state.items.is_empty() || state.senders == 0
    }

    pub(crate) fn select(&self, parker: &Arc<Parker>) {
        self.0.state.lock().selecting.push(Arc::clone(parker));
    }
}

/// The items until the senders are gone.
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().receivers += 1;
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.change(|state| state.senders -= 1);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let items = self.0.change(|state| {
            state.receivers -= 1;
            match state.receivers {
                0 => std::mem::take(&mut state.items),
                _ => VecDeque::new(),
            }
        });
        // Without the lock: a drop may run code that sends.
        drop(items);
    }
}

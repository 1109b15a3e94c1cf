//! `Select` of crossbeam: waits until one of several channels is ready.

use std::sync::Arc;
use std::time::Instant;

use crate::parker::Parker;
use crate::{Receiver, Sender};

/// The channels, and the token of the thread that waits for them.
#[derive(Default)]
pub struct Select<'a> {
    parker: Arc<Parker>,
    is_ready: Vec<Box<dyn Fn() -> bool + 'a>>,
}

impl std::fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Select")
    }
}

/// The time is over; it never is here.
#[derive(Debug)]
pub struct ReadyTimeoutError;

impl<'a> Select<'a> {
    pub fn new() -> Self {
        Select::default()
    }

    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        receiver.select(&self.parker);
        self.is_ready.push(Box::new(|| receiver.is_ready()));
        self.is_ready.len() - 1
    }

    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        sender.select(&self.parker);
        self.is_ready.push(Box::new(|| sender.is_ready()));
        self.is_ready.len() - 1
    }

    /// Waits until a channel is ready, and returns its number.
    pub fn ready(&mut self) -> usize {
        loop {
            if let Some(ready) = self.is_ready.iter().position(|is_ready| is_ready()) {
                return ready;
            }
            self.parker.park();
        }
    }

    pub fn ready_deadline(&mut self, _: Instant) -> Result<usize, ReadyTimeoutError> {
        Ok(self.ready())
    }
}

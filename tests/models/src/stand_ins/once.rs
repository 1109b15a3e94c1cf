//! `OnceLock` of std. Threads that meet in `get_or_init` wait as threads of loom.

use std::sync;

use crate::{Condvar, Mutex};

#[derive(Debug)]
pub struct OnceLock<T> {
    value: sync::OnceLock<T>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Empty,
    Running,
    Set,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> OnceLock<T> {
    pub fn new() -> Self {
        OnceLock {
            value: sync::OnceLock::new(),
            state: Mutex::new(State::Empty),
            changed: Condvar::new(),
        }
    }

    pub fn get(&self) -> Option<&T> {
        match *self.state.lock() {
            State::Set => self.value.get(),
            State::Empty | State::Running => None,
        }
    }

    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let mut state = self.state.lock();
        while *state == State::Running {
            self.changed.wait(&mut state);
        }
        if *state == State::Empty {
            *state = State::Running;
            drop(state);
            let value = init();
            state = self.state.lock();
            self.value
                .set(value)
                .unwrap_or_else(|_| unreachable!("one thread sets it"));
            *state = State::Set;
            self.changed.notify_all();
        }
        drop(state);
        self.value.get().expect("it is set")
    }
}

//! Waiting for several registrations to leave, each with an outcome of its own.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// What waits until every ticket of it has an outcome.
#[derive(Debug)]
pub(super) struct LeaveGroup(Arc<Shared>);

/// Stands for one registration that is to leave. A ticket that is dropped without an outcome counts
/// as [`Closed`](crate::ErrorKind::Closed): whoever held it is gone, and never said that it is done.
#[derive(Debug)]
pub(super) struct LeaveTicket {
    group: Arc<Shared>,
    has_outcome: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    failed: usize,
    first: Option<Error>,
}

/// How far a group came.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Every ticket has an outcome, and none is a failure.
    Left,
    /// Every ticket has an outcome: so many failed, and why the first of them did.
    Failed(usize, Error),
    /// So many have none yet.
    Open(usize),
}

impl LeaveGroup {
    /// A group and its first ticket.
    pub(super) fn new() -> (Self, LeaveTicket) {
        let shared = Arc::new(Shared::default());
        let ticket = LeaveTicket::new(&shared);
        (LeaveGroup(shared), ticket)
    }

    /// Blocks until every ticket has an outcome, or until `deadline`.
    pub(super) fn wait(&self, deadline: Instant) -> Outcome {
        let mut state = self.0.state.lock();
        let is_open = |state: &mut State| state.open > 0;
        self.0
            .changed
            .wait_while_until(&mut state, is_open, deadline);
        match (state.open, state.first.clone()) {
            (0, None) => Outcome::Left,
            (0, Some(first)) => Outcome::Failed(state.failed, first),
            (open, _) => Outcome::Open(open),
        }
    }
}

impl LeaveTicket {
    fn new(group: &Arc<Shared>) -> Self {
        group.state.lock().open += 1;
        LeaveTicket {
            group: Arc::clone(group),
            has_outcome: false,
        }
    }

    /// Another ticket of the same group.
    pub(super) fn another(&self) -> Self {
        LeaveTicket::new(&self.group)
    }

    /// Says what became of the registration.
    pub(super) fn done(mut self, outcome: Result<()>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Result<()>) {
        if std::mem::replace(&mut self.has_outcome, true) {
            return;
        }
        let mut state = self.group.state.lock();
        state.open -= 1;
        if let Err(error) = outcome {
            state.failed += 1;
            state.first.get_or_insert(error);
        }
        if state.open == 0 {
            self.group.changed.notify_all();
        }
    }
}

impl Drop for LeaveTicket {
    fn drop(&mut self) {
        self.settle(Err(Error::closed()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn a_group_ends_with_its_last_ticket() {
        let (group, first) = LeaveGroup::new();
        let second = first.another();
        first.done(Ok(()));
        assert!(matches!(
            group.wait(Instant::now() + SHORT),
            Outcome::Open(1)
        ));
        let (sender, outcome) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let far = Instant::now() + Duration::from_secs(3600);
            sender.send(group.wait(far)).unwrap();
        });
        // Time for it to wait; if it does not by then, the test proves less and does not fail.
        assert!(outcome.recv_timeout(SHORT).is_err());
        second.done(Ok(()));
        let outcome = outcome.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(outcome, Outcome::Left), "{outcome:?}");
        waiting.join().unwrap();
    }

    #[test]
    fn a_ticket_that_is_lost_is_no_success() {
        let (group, first) = LeaveGroup::new();
        let (second, third) = (first.another(), first.another());
        first.done(Ok(()));
        drop(second);
        third.done(Err(Error::invalid("not this")));
        match group.wait(Instant::now()) {
            Outcome::Failed(2, error) => assert_eq!(error.kind(), ErrorKind::Closed),
            other => panic!("{other:?}"),
        }
    }
}

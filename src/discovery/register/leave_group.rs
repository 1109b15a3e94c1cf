//! Waits for several registrations to leave, each with an outcome of its own.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Waits until each of its replies has an outcome.
#[derive(Debug)]
pub(super) struct LeaveGroup(Arc<Shared>);

/// Carries the outcome of one registration to its group. A reply that is dropped without an outcome
/// counts as [`Closed`](crate::ErrorKind::Closed).
#[derive(Debug)]
pub(super) struct LeaveReply {
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

/// The state of a group when the wait for it ended.
#[derive(Debug)]
pub(super) enum LeaveOutcome {
    /// Every registration has left.
    Left,
    /// Every registration has an outcome: the number of failures, and the first error.
    Failed(usize, Error),
    /// This many registrations have no outcome yet.
    Open(usize),
}

impl LeaveGroup {
    /// Creates a group and its first reply.
    pub(super) fn new() -> (Self, LeaveReply) {
        let shared = Arc::new(Shared::default());
        let reply = LeaveReply::new(&shared);
        (LeaveGroup(shared), reply)
    }

    /// Blocks until every reply has an outcome, or until `deadline`.
    pub(super) fn wait(&self, deadline: Instant) -> LeaveOutcome {
        let mut state = self.0.state.lock();
        let is_open = |state: &mut State| state.open > 0;
        self.0
            .changed
            .wait_while_until(&mut state, is_open, deadline);
        match (state.open, state.first.clone()) {
            (0, None) => LeaveOutcome::Left,
            (0, Some(first)) => LeaveOutcome::Failed(state.failed, first),
            (open, _) => LeaveOutcome::Open(open),
        }
    }
}

impl LeaveReply {
    fn new(group: &Arc<Shared>) -> Self {
        group.state.lock().open += 1;
        LeaveReply {
            group: Arc::clone(group),
            has_outcome: false,
        }
    }

    /// Creates another reply of the same group.
    pub(super) fn another(&self) -> Self {
        LeaveReply::new(&self.group)
    }

    /// Sets the outcome of the registration.
    pub(super) fn complete(mut self, outcome: Result<()>) {
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

impl Drop for LeaveReply {
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
    fn a_group_ends_with_its_last_reply() {
        let (group, first) = LeaveGroup::new();
        let second = first.another();
        first.complete(Ok(()));
        assert!(matches!(
            group.wait(Instant::now() + SHORT),
            LeaveOutcome::Open(1)
        ));
        let (sender, outcome) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let far = Instant::now() + Duration::from_secs(3600);
            sender.send(group.wait(far)).unwrap();
        });
        // Gives the thread time to wait. If it does not wait by then, the test proves less and does
        // not fail.
        assert!(outcome.recv_timeout(SHORT).is_err());
        second.complete(Ok(()));
        let outcome = outcome.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(outcome, LeaveOutcome::Left), "{outcome:?}");
        waiting.join().unwrap();
    }

    #[test]
    fn a_dropped_reply_counts_as_a_failure() {
        let (group, first) = LeaveGroup::new();
        let (second, third) = (first.another(), first.another());
        first.complete(Ok(()));
        drop(second);
        third.complete(Err(Error::invalid("not this")));
        match group.wait(Instant::now()) {
            LeaveOutcome::Failed(2, error) => assert_eq!(error.kind(), ErrorKind::Closed),
            other => panic!("{other:?}"),
        }
    }
}

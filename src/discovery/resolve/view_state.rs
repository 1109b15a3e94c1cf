//! The state of a view, shared by its handle and the worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::freshness::{Freshness, SourceStates};
use super::instance_list::InstanceList;
use super::service_list::ListUpdate;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::Revision;

/// The instances of a view.
#[derive(Debug)]
pub(super) struct SharedView {
    list: Mutex<ShownList>,
    changed: Condvar,
    balancer: Balancer,
    position: Arc<SharedPosition>,
}

#[derive(Debug, Default)]
struct ShownList {
    instances: InstanceList,
    /// The number of instances that can be picked.
    pickable: usize,
}

/// How far a view follows etcd. The views of a catalog share one.
#[derive(Debug)]
pub(super) struct SharedPosition {
    state: Mutex<Position>,
    changed: Condvar,
}

#[derive(Debug)]
pub(super) struct Position {
    /// The epoch of the store whose revision it is.
    pub(super) epoch: u64,
    pub(super) revision: Revision,
    pub(super) sources: SourceStates,
    ended: Option<Error>,
}

impl SharedView {
    pub(super) fn new(balancer: Balancer, position: Arc<SharedPosition>) -> Self {
        SharedView {
            list: Mutex::default(),
            changed: Condvar::new(),
            balancer,
            position,
        }
    }

    pub(super) fn snapshot(&self) -> Arc<[Arc<Instance>]> {
        self.list.lock().instances.snapshot()
    }

    pub(super) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    pub(super) fn position(&self) -> &SharedPosition {
        &self.position
    }

    /// Publishes an update of the instances.
    pub(super) fn publish(&self, update: ListUpdate) {
        self.balancer.update(&update.picks);
        let pickable = self.balancer.pickable();
        let mut list = self.list.lock();
        for edit in update.edits {
            list.instances.edit(edit);
        }
        list.pickable = pickable;
        drop(list);
        self.changed.notify_all();
    }

    /// Wakes those that wait for instances, after the view has ended.
    pub(super) fn ended(&self) {
        // With the lock, so that nobody is between the check and the wait.
        let list = self.list.lock();
        self.changed.notify_all();
        drop(list);
    }

    /// Blocks until `n` instances can be picked, and returns the snapshot.
    pub(super) fn wait_for(
        &self,
        service: &str,
        n: usize,
        timeout: Duration,
    ) -> Result<Arc<[Arc<Instance>]>> {
        let deadline = Instant::now().checked_add(timeout);
        let about = || Operation::about("wait for service", service);
        let mut list = self.list.lock();
        loop {
            if list.pickable >= n {
                return Ok(list.instances.snapshot());
            }
            if let Some(ended) = self.position.end_reason() {
                return Err(ended.operation(about()));
            }
            let late = wait(&self.changed, &mut list, deadline);
            if late && list.pickable < n {
                let pickable = list.pickable;
                let reason = format!("{pickable} of {n} instances are up after {timeout:?}");
                return Err(Error::new(ErrorKind::Timeout, reason).operation(about()));
            }
        }
    }
}

impl Position {
    /// Returns whether the view has this revision of the store with this epoch, or any list of a later store.
    pub(super) fn has_reached(&self, epoch: u64, revision: Revision) -> bool {
        (self.epoch, self.revision) >= (epoch, revision)
    }
}

impl SharedPosition {
    pub(super) fn new(sources: SourceStates) -> Self {
        SharedPosition {
            state: Mutex::new(Position {
                epoch: 0,
                revision: Revision::NONE,
                sources,
                ended: None,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    pub(super) fn has_reached(&self, epoch: u64, revision: Revision) -> bool {
        self.state.lock().has_reached(epoch, revision)
    }

    pub(super) fn stale_since(&self) -> Option<Instant> {
        self.state.lock().sources.stale_since()
    }

    pub(super) fn freshness(&self, now: Instant) -> Freshness {
        self.state.lock().sources.freshness(now)
    }

    pub(super) fn end_reason(&self) -> Option<Error> {
        self.state.lock().ended.clone()
    }

    /// Publishes the position, after the instances. `reported` is the epoch of the store and a revision, or `None`
    /// while the list is not complete up to a later one.
    pub(super) fn publish(&self, reported: Option<(u64, Revision)>, sources: &SourceStates) {
        let mut state = self.state.lock();
        if let Some(reported) = reported {
            (state.epoch, state.revision) = reported;
        }
        state.sources.clone_from(sources);
        drop(state);
        self.changed.notify_all();
    }

    /// Records the end of the view; the first reason is kept.
    pub(super) fn end(&self, why: Error) {
        self.state.lock().ended.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Blocks until `done`.
    pub(super) fn wait(
        &self,
        service: &str,
        timeout: Duration,
        done: impl Fn(&Position) -> bool,
        why: impl FnOnce(&Position) -> String,
    ) -> Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        let about = || Operation::about("wait for service", service);
        let mut state = self.state.lock();
        loop {
            if done(&state) {
                return Ok(());
            }
            if let Some(ended) = &state.ended {
                return Err(ended.clone().operation(about()));
            }
            let late = wait(&self.changed, &mut state, deadline);
            if late && !done(&state) {
                return Err(Error::new(ErrorKind::Timeout, why(&state)).operation(about()));
            }
        }
    }
}

/// Waits for a change. Returns whether the time is over.
fn wait<T>(
    changed: &Condvar,
    guard: &mut parking_lot::MutexGuard<'_, T>,
    deadline: Option<Instant>,
) -> bool {
    match deadline {
        Some(deadline) => changed.wait_until(guard, deadline).timed_out(),
        None => {
            changed.wait(guard);
            false
        }
    }
}

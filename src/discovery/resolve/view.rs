//! The view of one service, which the worker keeps up to date.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use parking_lot::{Condvar, Mutex};

use super::change::Change;
use super::change_queue::{ChangeChannel, ChangeQueue};
use super::directory::{ChangeRecord, Directory, DirectoryUpdate, KeyEvent};
use super::instance_list::InstanceList;
use crate::client::Client;
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::replica::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause};
use crate::rpc::lease::{TimeToLive, TimeToLiveResponse};
use crate::runtime::Pending;
use crate::types::{LeaseId, Revision};
use crate::worker::{AT_ONCE, NextWork, Part, PartHandle, Worker};

/// The time limit of a lease query. After it, the cause of a removal is unknown.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The most queries that are sent at a time.
const MAX_QUERIES: usize = 128;

/// The time for which a view keeps its last list after the store lost its data. Instances that still run register
/// again in this time.
const RECOVERY_TIME: Duration = Duration::from_secs(1);

/// The instances of one service, kept up to date.
///
/// A view keeps its last list: while etcd is unreachable it returns the instances that it knew, and
/// since when they may be outdated; after etcd lost its data, the instances have 1 s to register again.
/// A view is created with its first list, so an empty list always means that there are no instances.
///
/// A view ends only when it is dropped or the client is closed. Any error, such as an outage or a
/// withdrawn permission, makes it [stale](ServiceView::staleness) with a
/// [reason](ServiceView::last_error). It is live again once it can read.
///
/// All views of a client share one thread with its registrars. Dropping a view does not block.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Discovery};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let api = Discovery::new(&client).service("api")?;
/// api.wait_for(1, Duration::from_secs(10))?;
/// if let Some(instance) = api.pick() {
///     println!("calling {}", instance.addr);
/// }
/// for change in api.changes() {
///     println!("{change:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ServiceView {
    service: String,
    shared: Arc<Shared>,
    changes: Arc<ChangeChannel>,
    mirror: Arc<Mirror>,
    part: PartHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<ViewState>,
    changed: Condvar,
    balancer: Balancer,
}

#[derive(Debug)]
struct ViewState {
    instances: InstanceList,
    /// How many of them the balancer picks from.
    pickable: usize,
    revision: Revision,
    stale_since: Option<Instant>,
    ended: Option<Error>,
}

impl ServiceView {
    pub(super) fn open(
        client: &Client,
        format: Format,
        balancer: Balancer,
        service: &str,
    ) -> Result<Self> {
        let about = || Operation::about("discover", service);
        let worker = Worker::of(client).map_err(|error| error.operation(about()))?;
        let mirror = client
            .mirror(format.range(service))
            .map_err(|error| error.operation(about()))?;
        // Requested before the list is read, so that no change after the list is lost.
        mirror.request_changes();
        let mirror = Arc::new(mirror);
        let state = ViewState {
            instances: InstanceList::default(),
            pickable: 0,
            revision: Revision::NONE,
            stale_since: None,
            ended: None,
        };
        let (queue, changes) = ChangeQueue::new();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            balancer,
        });
        let mut part = ViewTask {
            client: client.with_timeout(QUERY_TIMEOUT),
            mirror: Arc::clone(&mirror),
            directory: Directory::new(format),
            shared: Arc::clone(&shared),
            queue,
            pending_changes: Vec::new(),
            queries: VecDeque::new(),
            replies: Vec::new(),
            rewound: None,
        };
        // The view is returned with the first list.
        part.list_again();
        part.publish();
        let part = worker.serve(Box::new(part));
        Ok(ServiceView {
            service: service.to_owned(),
            shared,
            changes,
            mirror,
            part,
        })
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Returns all instances, sorted by id. It does not block, and sends no request.
    pub fn snapshot(&self) -> Arc<[Arc<Instance>]> {
        self.shared.state.lock().instances.snapshot()
    }

    /// Returns the revision up to which the snapshot is complete.
    ///
    /// It advances when the service changes, and during [`wait_revision`](ServiceView::wait_revision).
    pub fn revision(&self) -> Revision {
        self.shared.state.lock().revision
    }

    /// Returns the channel of changes. The first change is a [`Change::Reset`] with all instances.
    ///
    /// Reading is optional; a view whose changes are never requested stores none. The channel is
    /// bounded: further changes are reduced to the newest one of each instance, with the cause of its
    /// removal. The channel ends with the view; see [`ended`](ServiceView::ended).
    pub fn changes(&self) -> &Receiver<Change> {
        let (changes, is_first) = self.changes.request();
        if is_first {
            self.part.wake();
        }
        changes
    }

    /// Returns for how long the view may have been outdated, or `None` while it is live.
    pub fn staleness(&self) -> Option<Duration> {
        self.shared
            .state
            .lock()
            .stale_since
            .map(|since| since.elapsed())
    }

    /// Returns why the view is [stale](ServiceView::staleness), or `None` while it is live. It does not
    /// block.
    pub fn last_error(&self) -> Option<Error> {
        self.mirror.last_error()
    }

    /// Returns why the view ended, or `None` while it has not: it ends when the client is closed.
    pub fn ended(&self) -> Option<Error> {
        self.shared.state.lock().ended.clone()
    }

    pub(in crate::discovery) fn balancer(&self) -> &Balancer {
        &self.shared.balancer
    }

    /// Blocks until at least `n` instances can be picked, and returns the snapshot.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) after `timeout`; [`Closed`](ErrorKind::Closed) or another kind
    /// when the view has ended.
    pub fn wait_for(&self, n: usize, timeout: Duration) -> Result<Arc<[Arc<Instance>]>> {
        self.wait(
            timeout,
            |state| state.pickable >= n,
            |state| {
                let pickable = state.pickable;
                format!("{pickable} of {n} instances are up after {timeout:?}")
            },
        )
    }

    /// Blocks until the snapshot is complete up to `revision`, and returns it.
    ///
    /// With the [revision](crate::Registration::revision) of a registration it waits until that instance
    /// is in the snapshot. The service need not change at `revision`.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](ServiceView::wait_for).
    pub fn wait_revision(
        &self,
        revision: Revision,
        timeout: Duration,
    ) -> Result<Arc<[Arc<Instance>]>> {
        let begun = Instant::now();
        if self.revision() < revision && self.mirror.wait_queued(revision, timeout).is_ok() {
            self.part.wake();
        }
        self.wait(
            timeout.saturating_sub(begun.elapsed()),
            |state| state.revision >= revision,
            |state| {
                format!(
                    "the view is at revision {} and not {revision} after {timeout:?}",
                    state.revision
                )
            },
        )
    }

    fn wait(
        &self,
        timeout: Duration,
        done: impl Fn(&ViewState) -> bool,
        why: impl FnOnce(&ViewState) -> String,
    ) -> Result<Arc<[Arc<Instance>]>> {
        let deadline = Instant::now().checked_add(timeout);
        let about = || Operation::about("wait for service", &self.service);
        let mut state = self.shared.state.lock();
        loop {
            if done(&state) {
                return Ok(state.instances.snapshot());
            }
            if let Some(ended) = &state.ended {
                return Err(ended.clone().operation(about()));
            }
            let late = match deadline {
                Some(deadline) => self
                    .shared
                    .changed
                    .wait_until(&mut state, deadline)
                    .timed_out(),
                None => {
                    self.shared.changed.wait(&mut state);
                    false
                }
            };
            if late && !done(&state) {
                return Err(Error::new(ErrorKind::Timeout, why(&state)).operation(about()));
            }
        }
    }
}

/// The worker's side of a view.
#[derive(Debug)]
struct ViewTask {
    client: Client,
    mirror: Arc<Mirror>,
    directory: Directory,
    shared: Arc<Shared>,
    queue: ChangeQueue,
    /// The changes to report after the snapshot is published, so that a reader of a change finds it in
    /// the snapshot.
    pending_changes: Vec<ChangeRecord>,
    /// The queries that are not sent yet, and those that are not answered yet.
    queries: VecDeque<LeaseId>,
    replies: Vec<(LeaseId, Pending<TimeToLiveResponse>)>,
    /// The time until which the last list is kept after the store lost its data.
    rewound: Option<Instant>,
}

impl ViewTask {
    fn list_again(&mut self) {
        let snapshot = self.mirror.snapshot();
        let update = self
            .directory
            .reset(snapshot.iter().cloned(), snapshot.revision());
        self.apply_update(update);
    }

    fn follow(&mut self) -> Result<()> {
        // Read first: once the queue is empty, all events up to this revision were received.
        let queued = self.mirror.queued();
        for _ in 0..AT_ONCE {
            match self.mirror.try_next() {
                Ok(Ok(event)) => self.event(event),
                Ok(Err(error)) => return Err(error),
                Err(TryRecvError::Empty) => {
                    if self.rewound.is_none() {
                        self.directory.advance(queued);
                    }
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => return Err(Error::closed()),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: MirrorEvent) {
        match event {
            MirrorEvent::Reset {
                cause: ResetCause::Rewound,
                ..
            } => {
                self.rewound = Some(Instant::now() + RECOVERY_TIME);
            }
            // The list that ends the recovery contains these events.
            _ if self.rewound.is_some() => {}
            MirrorEvent::Reset { revision, .. } => {
                // The first list was read when the view was opened.
                if self.directory.revision() != Some(revision) {
                    self.list_again();
                }
            }
            MirrorEvent::Changed { revision, changes } => {
                // A later list may contain these changes.
                if self.directory.revision() < Some(revision) {
                    let events = changes.into_iter().map(|change| match change {
                        KeyChange::Put { kv, .. } => KeyEvent::Put(kv),
                        KeyChange::Deleted { prev, .. } => KeyEvent::Delete(prev.key().clone()),
                    });
                    let update = self.directory.apply(events, revision);
                    self.apply_update(update);
                }
            }
            MirrorEvent::Stale { since } => {
                self.pending_changes
                    .extend(self.directory.down(since).map(ChangeRecord::from));
            }
            MirrorEvent::Live => {
                self.pending_changes
                    .extend(self.directory.up().map(ChangeRecord::from));
            }
        }
    }

    /// Ends the recovery after a loss of data, when all instances are back or the time is over.
    fn end_recovery(&mut self, now: Instant) {
        let Some(until) = self.rewound else { return };
        let snapshot = self.mirror.snapshot();
        let all_back = self.directory.keys().all(|key| snapshot.get(key).is_some());
        if !all_back && now < until {
            return;
        }
        self.rewound = None;
        self.list_again();
        let change = match self.mirror.staleness() {
            None => self.directory.up(),
            Some(stale) => self.directory.down(now.checked_sub(stale).unwrap_or(now)),
        };
        self.pending_changes.extend(change.map(ChangeRecord::from));
    }

    fn take_replies(&mut self) {
        let mut answered = Vec::new();
        self.replies
            .retain(|(lease, pending)| match pending.try_wait() {
                None => true,
                Some(answer) => {
                    answered.push((
                        *lease,
                        answer.ok().map(|answer| answer.remaining().is_some()),
                    ));
                    false
                }
            });
        for (lease, alive) in answered {
            let update = self.directory.lease_status(lease, alive);
            self.apply_update(update);
            if alive.is_none() {
                self.abandon_queries();
            }
        }
        self.ask();
    }

    /// Answers all waiting queries as unknown, after one had no answer: each of them would take as long.
    fn abandon_queries(&mut self) {
        for lease in std::mem::take(&mut self.queries) {
            let update = self.directory.lease_status(lease, None);
            self.apply_update(update);
        }
    }

    fn ask(&mut self) {
        while self.replies.len() < MAX_QUERIES
            && let Some(lease) = self.queries.pop_front()
        {
            let query = self.client.submit(TimeToLive::new(lease));
            self.replies.push((lease, query));
        }
    }

    fn apply_update(&mut self, update: DirectoryUpdate) {
        let leases = update.queries.iter().map(|query| query.lease);
        self.queries.extend(leases);
        self.pending_changes.extend(update.records());
    }

    fn publish(&mut self) {
        let edits = self.directory.take_edits();
        self.shared.balancer.update(&edits);
        let mut state = self.shared.state.lock();
        for edit in edits {
            state.instances.edit(edit);
        }
        state.pickable = self.shared.balancer.pickable();
        state.revision = self.directory.revision().unwrap_or_default();
        state.stale_since = self.directory.stale_since();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Part for ViewTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        let followed = self.follow();
        self.end_recovery(now);
        self.take_replies();
        self.publish();
        for record in self.pending_changes.drain(..) {
            self.queue.push(record);
        }
        self.queue.flush(&self.directory);
        if let Err(ended) = followed {
            self.shared.state.lock().ended = Some(ended);
            self.shared.changed.notify_all();
            return None;
        }
        Some(NextWork(self.rewound))
    }

    fn failed(&mut self, error: &Error) {
        self.shared.state.lock().ended = Some(error.clone());
        self.shared.changed.notify_all();
    }

    fn wait(&self, waker: &Waker) {
        self.mirror.wake_when_ready(waker);
        for (_, pending) in &self.replies {
            pending.wake_when_ready(waker);
        }
    }

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        self.queue.wait_for_room(select);
    }

    fn is_full(&self) -> bool {
        self.queue.is_full()
    }
}

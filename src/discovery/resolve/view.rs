//! What is known of one service, kept up to date.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded};
use parking_lot::{Condvar, Mutex};

use super::balancer::Balancer;
use super::change::Change;
use super::change_queue::{ChangeQueue, Wanted};
use super::directory::{ChangeRecord, Directory, Edit, Step};
use super::instance_list::InstanceList;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::replica::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause};
use crate::rpc::lease::{TimeToLive, TimeToLiveResponse};
use crate::runtime::Pending;
use crate::types::{LeaseId, Revision};
use crate::worker::{AT_ONCE, Next, Part, Worker};

/// How long etcd has to say whether a lease still lives, before the cause of a removal is unknown.
const VERDICT_WITHIN: Duration = Duration::from_secs(1);

/// So many leases are asked about at a time; the others wait for their turn.
const QUESTIONS: usize = 128;

/// How long a view waits for instances to come back after the store lost its data: those that still
/// run register anew at once, and until they have, the last good list is better than none.
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

/// The instances of one service, as etcd has them.
///
/// It never forgets the last good list: while etcd is away it shows what it knew, and says since
/// when that may be old; after etcd lost its data, it gives the instances a second to come back. It is
/// made with the first list already read, so "no instances" always means that there are none.
///
/// Only its owner ends a view, by dropping it or by closing the client. Whatever else happens, such as an
/// outage or a permission that is withdrawn, makes it [stale](ServiceView::staleness) with a
/// [reason](ServiceView::last_error), and it is live again by itself once it can read.
///
/// All views of a client share one thread with its registrars. Dropping it does not block.
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
    changes: Receiver<Change>,
    mirror: Arc<Mirror>,
    /// Wakes the worker's part, and ends it when it is dropped with the view.
    part: Sender<()>,
    _worker: Arc<Worker>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Shown>,
    changed: Condvar,
    balancer: Balancer,
    wanted: Arc<Wanted>,
}

#[derive(Debug)]
struct Shown {
    instances: InstanceList,
    revision: Revision,
    stale_since: Option<Instant>,
    ended: Option<Error>,
}

impl ServiceView {
    pub(super) fn open(
        client: &Client,
        codec: Codec,
        prefix: &str,
        balancer: Balancer,
        service: &str,
    ) -> Result<Self> {
        let about = || Operation::about("discover", service);
        let worker = Worker::of(client).map_err(|error| error.operation(about()))?;
        let mirror = client
            .mirror(codec.range(prefix, service))
            .map_err(|error| error.operation(about()))?;
        // Before it is listed: what happens from then on is in the changes.
        mirror.changes();
        let mirror = Arc::new(mirror);
        let shown = Shown {
            instances: InstanceList::default(),
            revision: Revision::NONE,
            stale_since: None,
            ended: None,
        };
        let (queue, changes, wanted) = ChangeQueue::new();
        let shared = Arc::new(Shared {
            state: Mutex::new(shown),
            changed: Condvar::new(),
            balancer,
            wanted,
        });
        let (poke, owner) = bounded(1);
        let mut part = ViewPart {
            client: client.with_timeout(VERDICT_WITHIN),
            mirror: Arc::clone(&mirror),
            directory: Directory::new(codec, prefix),
            shared: Arc::clone(&shared),
            queue,
            news: Vec::new(),
            questions: VecDeque::new(),
            verdicts: Vec::new(),
            rewound: None,
            owner,
        };
        // The first list is there: whoever asked for the view sees it at once.
        part.list_again();
        part.show();
        worker
            .serve(Box::new(part))
            .map_err(|error| error.operation(about()))?;
        Ok(ServiceView {
            service: service.to_owned(),
            shared,
            changes,
            mirror,
            part: poke,
            _worker: worker,
        })
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its instances, whatever their status, sorted by id. It does not block and does not ask etcd.
    pub fn snapshot(&self) -> Arc<[Arc<Instance>]> {
        self.shared.state.lock().instances.snapshot()
    }

    /// The revision that the snapshot shows: everything up to it is in it. It moves on when the service
    /// changes, or when somebody [waits](ServiceView::wait_revision).
    pub fn revision(&self) -> Revision {
        self.shared.state.lock().revision
    }

    /// What happens, from an empty service on: the first list is a [`Change::Reset`].
    ///
    /// Reading is optional, and a view whose changes nobody ever asks for keeps none. The channel is
    /// bounded; what has no room waits as the newest change of each instance, with the cause of its
    /// removal. It ends with the view: see [`ended`](ServiceView::ended).
    pub fn changes(&self) -> &Receiver<Change> {
        if self.shared.wanted.want() {
            // Full: the part is going to look anyway.
            let _ = self.part.try_send(());
        }
        &self.changes
    }

    /// For how long the view may have been behind; `None` while it follows.
    pub fn staleness(&self) -> Option<Duration> {
        self.shared
            .state
            .lock()
            .stale_since
            .map(|since| since.elapsed())
    }

    /// Why the view is [stale](ServiceView::staleness), as far as it is known; `None` while it follows. It
    /// does not block.
    pub fn last_error(&self) -> Option<Error> {
        self.mirror.last_error()
    }

    /// Why the view ended, once it has: the client was closed.
    pub fn ended(&self) -> Option<Error> {
        self.shared.state.lock().ended.clone()
    }

    /// The instance that gets the next call, by the [`Balance`](crate::Balance) of the
    /// [`Discovery`](crate::Discovery); `None` when none is [`Up`](crate::Status::Up).
    pub fn pick(&self) -> Option<Arc<Instance>> {
        self.shared.balancer.pick()
    }

    /// Blocks until at least `n` instances can be picked.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) after `timeout`; why the view ended, if it has.
    pub fn wait_for(&self, n: usize, timeout: Duration) -> Result<Arc<[Arc<Instance>]>> {
        self.wait(
            timeout,
            |shown| shown.instances.pickable() >= n,
            |shown| {
                format!(
                    "{} of {n} instances are up after {timeout:?}",
                    shown.instances.pickable()
                )
            },
        )
    }

    /// Blocks until the snapshot shows everything up to `revision`, also when no key of the service
    /// changed then.
    ///
    /// With the revision of a [`Registration`](crate::Registration): until that instance is in it.
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
            // Full: the part is going to look anyway.
            let _ = self.part.try_send(());
        }
        self.wait(
            timeout.saturating_sub(begun.elapsed()),
            |shown| shown.revision >= revision,
            |shown| {
                format!(
                    "the view is at revision {} and not {revision} after {timeout:?}",
                    shown.revision
                )
            },
        )
    }

    fn wait(
        &self,
        timeout: Duration,
        done: impl Fn(&Shown) -> bool,
        why: impl FnOnce(&Shown) -> String,
    ) -> Result<Arc<[Arc<Instance>]>> {
        let deadline = Instant::now().checked_add(timeout);
        let about = || Operation::about("wait for service", &self.service);
        let mut shown = self.shared.state.lock();
        loop {
            if done(&shown) {
                return Ok(shown.instances.snapshot());
            }
            if let Some(ended) = &shown.ended {
                return Err(ended.clone().operation(about()));
            }
            let late = match deadline {
                Some(deadline) => self
                    .shared
                    .changed
                    .wait_until(&mut shown, deadline)
                    .timed_out(),
                None => {
                    self.shared.changed.wait(&mut shown);
                    false
                }
            };
            if late && !done(&shown) {
                return Err(Error::new(ErrorKind::Timeout, why(&shown)).operation(about()));
            }
        }
    }
}

/// The worker's side of a view.
#[derive(Debug)]
struct ViewPart {
    client: Client,
    mirror: Arc<Mirror>,
    directory: Directory,
    shared: Arc<Shared>,
    queue: ChangeQueue,
    /// What to tell once it is shown: whoever hears of a change sees it in the snapshot.
    news: Vec<ChangeRecord>,
    /// The leases to ask about, and what is asked.
    questions: VecDeque<LeaseId>,
    verdicts: Vec<(LeaseId, Pending<TimeToLiveResponse>)>,
    /// The store lost its data: until then its instances may come back.
    rewound: Option<Instant>,
    owner: Receiver<()>,
}

impl ViewPart {
    fn list_again(&mut self) {
        let snapshot = self.mirror.snapshot();
        let step = self
            .directory
            .reset(snapshot.iter().cloned(), snapshot.revision());
        self.carry_out(step);
    }

    fn follow(&mut self) -> Result<()> {
        // Looked at first: once the queue is empty, everything up to there has come.
        let queued = self.mirror.queued();
        for _ in 0..AT_ONCE {
            match self.mirror.changes().try_recv() {
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
                self.rewound = Some(Instant::now() + COME_BACK_WITHIN);
            }
            // All of this will be in the list that is taken then.
            _ if self.rewound.is_some() => {}
            MirrorEvent::Reset { revision, .. } => {
                // The first one was read when the view was made.
                if self.directory.revision() != Some(revision) {
                    self.list_again();
                }
            }
            MirrorEvent::Changed { revision, changes } => {
                // A list that was taken later may show these already.
                if self.directory.revision() < Some(revision) {
                    let edits = changes.into_iter().map(|change| match change {
                        KeyChange::Put { kv, .. } => Edit::Put(kv),
                        KeyChange::Deleted { prev, .. } => Edit::Delete(prev.key().clone()),
                    });
                    let step = self.directory.apply(edits, revision);
                    self.carry_out(step);
                }
            }
            MirrorEvent::Stale { since } => {
                self.news
                    .extend(self.directory.down(since).map(ChangeRecord::from));
            }
            MirrorEvent::Live => {
                self.news
                    .extend(self.directory.up().map(ChangeRecord::from));
            }
        }
    }

    /// Takes over what the store has after it lost its data: when all are back, or time is up.
    fn come_back(&mut self, now: Instant) {
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
        self.news.extend(change.map(ChangeRecord::from));
    }

    fn take_verdicts(&mut self) {
        let mut heard = Vec::new();
        self.verdicts
            .retain(|(lease, pending)| match pending.try_wait() {
                None => true,
                Some(answer) => {
                    heard.push((
                        *lease,
                        answer.ok().map(|answer| answer.remaining().is_some()),
                    ));
                    false
                }
            });
        for (lease, alive) in heard {
            let step = self.directory.verdict(lease, alive);
            self.carry_out(step);
            if alive.is_none() {
                self.give_up_questions();
            }
        }
        self.ask();
    }

    /// One question had no answer: those that wait behind it would wait as long, each.
    fn give_up_questions(&mut self) {
        for lease in std::mem::take(&mut self.questions) {
            let step = self.directory.verdict(lease, None);
            self.carry_out(step);
        }
    }

    fn ask(&mut self) {
        while self.verdicts.len() < QUESTIONS
            && let Some(lease) = self.questions.pop_front()
        {
            let question = self.client.submit(TimeToLive::new(lease));
            self.verdicts.push((lease, question));
        }
    }

    fn carry_out(&mut self, step: Step) {
        let leases = step.suspects.iter().map(|suspect| suspect.lease);
        self.questions.extend(leases);
        self.news.extend(step.told());
    }

    fn show(&mut self) {
        let edits = self.directory.take_edits();
        self.shared.balancer.update(&edits);
        let mut shown = self.shared.state.lock();
        for edit in edits {
            shown.instances.edit(edit);
        }
        shown.revision = self.directory.revision().unwrap_or_default();
        shown.stale_since = self.directory.stale_since();
        drop(shown);
        self.shared.changed.notify_all();
    }
}

impl Part for ViewPart {
    fn work(&mut self, now: Instant) -> Option<Next> {
        loop {
            match self.owner.try_recv() {
                Ok(()) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        let followed = self.follow();
        self.come_back(now);
        self.take_verdicts();
        self.show();
        for told in self.news.drain(..) {
            self.queue.tell(told);
        }
        self.queue.flush(&self.directory);
        if let Err(ended) = followed {
            self.shared.state.lock().ended = Some(ended);
            self.shared.changed.notify_all();
            return None;
        }
        Some(Next(self.rewound))
    }

    fn failed(&mut self, error: &Error) {
        self.shared.state.lock().ended = Some(error.clone());
        self.shared.changed.notify_all();
    }

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.owner);
        select.recv(self.mirror.changes());
        self.queue.wait(select);
        for (_, pending) in &self.verdicts {
            select.recv(pending.receiver());
        }
    }
}

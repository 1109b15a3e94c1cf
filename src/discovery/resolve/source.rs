//! One source of a view: the mirror of the keys of one format, and the queries that its directory needs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use super::audit::{Audit, AuditAnswer, AuditResult, AuditStep, Summary};
use super::directory::{Directory, DirectoryUpdate, KeyEvent};
use crate::client::Client;
use crate::discovery::codec::Format;
use crate::error::{Error, ErrorKind, Result};
use crate::replica::mirror::{KeyChange, Mirror, MirrorEvent, ResetCause};
use crate::rpc::kv::{Get, GetResponse, SortOrder, SortTarget};
use crate::rpc::lease::{TimeToLive, TimeToLiveResponse};
use crate::runtime::Pending;
use crate::types::{KeyValue, LeaseId, Revision};
use crate::util::jitter;
use crate::worker::AT_ONCE;

/// The time limit of a lease query. After it, the cause of a removal is unknown.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The most queries that are sent at a time.
const MAX_QUERIES: usize = 128;

/// The time for which a view keeps its last list after the store lost its data. Instances that still run
/// register again in this time.
const RECOVERY_TIME: Duration = Duration::from_secs(1);

/// What a source reports to its view.
#[derive(Debug)]
pub(super) enum SourceEvent {
    /// The first list.
    Listed(DirectoryUpdate),
    /// Changes after the first list.
    Update(DirectoryUpdate),
    /// The source may be outdated since this time.
    Stale(Instant),
    /// The source is up to date again.
    Live,
    /// A lease has this time to live.
    Ttl(Duration),
}

/// The worker's side of one format.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    mirror: Arc<Mirror>,
    directory: Directory,
    /// The queries that are not sent yet, and those that are not answered yet.
    queries: VecDeque<LeaseId>,
    replies: Vec<(LeaseId, Pending<TimeToLiveResponse>)>,
    /// The query for the time to live of one lease, as an example for all.
    sample: Sample,
    /// The epoch of the store of the directory.
    epoch: u64,
    /// The time until which the last list is kept after the store lost its data.
    rewound: Option<Instant>,
    audit: Audit,
    audit_reply: Option<Pending<GetResponse>>,
    events: Vec<SourceEvent>,
}

#[derive(Debug)]
enum Sample {
    Wanted,
    Asked(Pending<TimeToLiveResponse>),
    Known,
}

impl Source {
    /// Creates the source of a mirror. `client` has the [`QUERY_TIMEOUT`].
    pub(super) fn new(
        client: Client,
        mirror: Arc<Mirror>,
        format: Format,
        audit_every: Option<Duration>,
    ) -> Self {
        // Requested before the list is read, so that no change after the list is lost.
        mirror.request_changes_without_differences();
        Source {
            client,
            mirror,
            directory: Directory::new(format),
            queries: VecDeque::new(),
            replies: Vec::new(),
            sample: Sample::Wanted,
            epoch: 0,
            rewound: None,
            audit: Audit::new(audit_every),
            audit_reply: None,
            events: Vec::new(),
        }
    }

    pub(super) fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The epoch of the store and the revision up to which every change was reported; `None` before the first list.
    pub(super) fn reported(&self) -> Option<(u64, Revision)> {
        Some((self.epoch, self.directory.reported()?))
    }

    /// Whether the store lost its data, and the last list is kept for a time.
    pub(super) fn is_recovering(&self) -> bool {
        self.rewound.is_some()
    }

    /// Reads the list of the mirror, if it has one.
    pub(super) fn list(&mut self) {
        let (snapshot, epoch) = self.mirror.contents();
        if snapshot.revision() == Revision::NONE {
            return;
        }
        self.epoch = epoch;
        let is_first = self.directory.revision().is_none();
        let update = self
            .directory
            .reset(snapshot.iter().cloned(), snapshot.revision());
        self.queue(update, is_first);
    }

    /// Does what is due. An error is the end of the mirror.
    pub(super) fn work(&mut self, now: Instant) -> Result<()> {
        let followed = self.follow();
        self.end_recovery(now);
        self.take_replies();
        self.sample();
        self.compare(now);
        followed
    }

    /// Takes the events since the last call.
    pub(super) fn take_events(&mut self) -> Vec<SourceEvent> {
        std::mem::take(&mut self.events)
    }

    /// The time of the next work, if no event comes earlier.
    pub(super) fn due(&self) -> Option<Instant> {
        self.rewound.into_iter().chain(self.audit.due()).min()
    }

    pub(super) fn wait(&self, waker: &Waker) {
        self.mirror.wake_when_ready(waker);
        for (_, pending) in &self.replies {
            pending.wake_when_ready(waker);
        }
        if let Sample::Asked(pending) = &self.sample {
            pending.wake_when_ready(waker);
        }
        if let Some(pending) = &self.audit_reply {
            pending.wake_when_ready(waker);
        }
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
            MirrorEvent::Reset {
                revision, cause, ..
            } => {
                // The first list was read when the view was opened.
                let is_known = self.directory.revision() == Some(revision);
                if cause != ResetCause::First || !is_known {
                    self.list();
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
                    self.queue(update, false);
                }
            }
            MirrorEvent::Stale { since } => {
                if self.directory.down(since).is_some() {
                    self.events.push(SourceEvent::Stale(since));
                }
            }
            MirrorEvent::Live => self.live(),
        }
    }

    fn live(&mut self) {
        if self.directory.up().is_some() {
            self.events.push(SourceEvent::Live);
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
        self.list();
        match self.mirror.staleness() {
            None => self.live(),
            Some(stale) => {
                let since = now.checked_sub(stale).unwrap_or(now);
                if self.directory.down(since).is_some() {
                    self.events.push(SourceEvent::Stale(since));
                }
            }
        }
    }

    fn take_replies(&mut self) {
        let mut answered = Vec::new();
        self.replies
            .retain(|(lease, pending)| match pending.try_wait() {
                None => true,
                Some(answer) => {
                    answered.push((*lease, answer.ok()));
                    false
                }
            });
        for (lease, answer) in answered {
            let alive = answer.as_ref().map(|answer| answer.remaining().is_some());
            self.learn(answer.as_ref());
            let update = self.directory.lease_status(lease, alive);
            self.queue(update, false);
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
            self.queue(update, false);
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

    /// Asks for the time to live of one lease. When leases have ended, their time to live is not known any
    /// more.
    fn sample(&mut self) {
        match &self.sample {
            Sample::Wanted => {
                if let Some(lease) = self.directory.any_lease() {
                    self.sample = Sample::Asked(self.client.submit(TimeToLive::new(lease)));
                }
            }
            Sample::Asked(pending) => {
                if let Some(answer) = pending.try_wait() {
                    // Without an answer, the view does without: a query of a removal may bring it.
                    self.sample = Sample::Known;
                    self.learn(answer.ok().as_ref());
                }
            }
            Sample::Known => {}
        }
    }

    fn learn(&mut self, answer: Option<&TimeToLiveResponse>) {
        if let Some(ttl) = answer.map(TimeToLiveResponse::granted)
            && !ttl.is_zero()
        {
            self.events.push(SourceEvent::Ttl(ttl));
        }
    }

    /// Compares the contents of the mirror with etcd from time to time.
    fn compare(&mut self, now: Instant) {
        if let Some(answer) = self.audit_reply.as_ref().and_then(Pending::try_wait) {
            self.audit_reply = None;
            let answer = match answer {
                Ok(answer) => AuditAnswer::Summary(Summary {
                    count: answer.count(),
                    newest: answer
                        .first()
                        .map(KeyValue::mod_revision)
                        .unwrap_or_default(),
                }),
                Err(error) if error.kind() == ErrorKind::Compacted => AuditAnswer::Compacted,
                Err(_) => AuditAnswer::Failed,
            };
            match self.audit.answered(answer, now) {
                Ok(AuditResult::Same) => self.client.telemetry().views.audited(),
                Ok(AuditResult::Different) => {
                    self.client.telemetry().views.audited();
                    self.client.telemetry().views.repaired(self.mirror.keys());
                    let reason = "an audit found a difference to etcd: the watch lost an event";
                    self.mirror
                        .list_again(Error::new(ErrorKind::Unavailable, reason));
                }
                Ok(AuditResult::Unknown) => {}
                Err(AuditStep::Progress | AuditStep::Ask) => self.mirror.request_progress(),
            }
        }
        let is_live = self.mirror.staleness().is_none() && self.rewound.is_none();
        match self.audit.step(now, is_live, jitter::fraction()) {
            None => {}
            Some(AuditStep::Progress) => self.mirror.request_progress(),
            Some(AuditStep::Ask) => {
                let snapshot = self.mirror.snapshot();
                let newest = snapshot.iter().map(KeyValue::mod_revision).max();
                self.audit.asked(Summary {
                    count: u64::try_from(snapshot.len()).unwrap_or(u64::MAX),
                    newest: newest.unwrap_or_default(),
                });
                let newest_key = Get::range(self.mirror.keys().clone())
                    .revision(snapshot.revision())
                    .sort(SortTarget::ModRevision, SortOrder::Descend)
                    .keys_only()
                    .limit(1);
                self.audit_reply = Some(self.client.submit(newest_key));
            }
        }
    }

    fn queue(&mut self, mut update: DirectoryUpdate, is_first: bool) {
        let queries = std::mem::take(&mut update.queries);
        self.queries
            .extend(queries.into_iter().map(|query| query.lease));
        self.events.push(match is_first {
            true => SourceEvent::Listed(update),
            false => SourceEvent::Update(update),
        });
    }
}

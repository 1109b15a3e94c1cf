//! The watches of one stream: handles every input, and delegates to the other files of the module.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::action::Action;
use super::catch_up::CatchUp;
use super::input::Input;
use super::pending_creates::PendingCreates;
use super::progress_requests::ProgressRequests;
use super::stream_backoff::StreamBackoff;
use super::token_refusals::TokenRefusals;
use super::watch_entry::WatchEntry;
use super::wire_ids::WireIds;
use crate::error::Error;
use crate::grpc::MemberCondition;
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::rpc::watch::watch_id::WatchId;

/// The state of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamState {
    Closed,
    Opening,
    Open {
        since: Instant,
    },
    /// Another stream is opened then.
    BackingOff {
        until: Instant,
    },
}

/// A read of the store's revision that is not answered yet.
#[derive(Debug)]
pub(super) struct RevisionRead {
    /// The watch whose key it reads.
    pub(super) key_of: WatchId,
    /// The watches that are created after it; they were added before it began.
    pub(super) watches: Vec<WatchId>,
    /// The watches whose progress was requested before it began.
    pub(super) progress: Vec<WatchId>,
    /// The highest revision of the store before it began.
    pub(super) highest: i64,
    /// It repeats a read whose result was lower than `highest`.
    pub(super) repeated: bool,
}

/// The properties of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamKind {
    /// The watches of the stream are created with `fragment`, because a response of theirs was too
    /// large.
    ///
    /// Fragments are used only where they are needed. etcd computes the size of the whole fragment
    /// again for each event that it adds, so the cost grows with the square of the number of events:
    /// 100,000 small ones take minutes.
    pub(crate) fragments: bool,
    /// The largest message that is accepted, and the largest revision, in bytes.
    pub(crate) limit: usize,
}

/// A watch that moves from one stream to another.
#[derive(Debug)]
pub(super) struct MovingWatch {
    pub(super) id: WatchId,
    pub(super) entry: Box<WatchEntry>,
    /// Its reader has requested progress.
    pub(super) progress_wanted: bool,
}

/// The watches of one stream. [`Streams`](super::streams::Streams) holds all streams.
#[derive(Debug)]
pub(crate) struct Watches {
    pub(super) kind: StreamKind,
    /// Boxed, because the nodes of a tree are half empty when the ids ascend.
    pub(super) entries: BTreeMap<WatchId, Box<WatchEntry>>,
    /// Watches that belong on another stream.
    pub(super) moving: Vec<MovingWatch>,
    pub(super) stream: StreamState,
    /// The number of streams that were opened.
    pub(super) stream_count: u64,
    pub(super) backoff: StreamBackoff,
    pub(super) token_refusals: TokenRefusals,
    /// Watches that need a read before they can be created.
    pub(super) needs_read: Vec<WatchId>,
    /// Watches whose progress needs a read.
    pub(super) progress_reads: Vec<WatchId>,
    pub(super) reading: Option<RevisionRead>,
    /// Watches that can be created.
    pub(super) queue: VecDeque<WatchId>,
    pub(super) creating: PendingCreates,
    pub(super) wire_ids: WireIds,
    /// The highest revision of the store that was seen.
    pub(super) highest: i64,
    /// The epoch of the store.
    pub(super) store_epoch: u64,
    /// The reason why the store counts as replaced, until the watches that followed the old one have ended.
    pub(super) replaced: Option<String>,
    /// Whether answers to progress requests are reliable; `None` until the version is known.
    pub(super) orders_progress: Option<bool>,
    /// The header of the last message.
    pub(super) header: Option<pb::ResponseHeader>,
    /// Watches whose readers have requested progress.
    pub(super) progress_wanted: BTreeSet<WatchId>,
    pub(super) catch_up: CatchUp,
    pub(super) progress_requests: ProgressRequests,
    pub(super) last_message_at: Instant,
    /// The time at which bytes of a message last arrived.
    pub(super) last_bytes_at: Option<Instant>,
    /// The number of consecutive streams that were closed because the server never answered a
    /// progress request.
    pub(super) unanswered_streams: u32,
    pub(super) actions: Vec<Action>,
}

impl Watches {
    pub(crate) fn new(kind: StreamKind, now: Instant) -> Self {
        Watches {
            kind,
            entries: BTreeMap::new(),
            moving: Vec::new(),
            stream: StreamState::Closed,
            stream_count: 0,
            backoff: StreamBackoff::new(),
            token_refusals: TokenRefusals::default(),
            needs_read: Vec::new(),
            progress_reads: Vec::new(),
            reading: None,
            queue: VecDeque::new(),
            creating: PendingCreates::new(now),
            wire_ids: WireIds::default(),
            highest: 0,
            store_epoch: 0,
            replaced: None,
            orders_progress: None,
            header: None,
            progress_wanted: BTreeSet::new(),
            catch_up: CatchUp::new(now),
            progress_requests: ProgressRequests::new(),
            last_message_at: now,
            last_bytes_at: None,
            unanswered_streams: 0,
            actions: Vec::new(),
        }
    }

    /// Handles an input and returns the actions. `random` is in 0..1.
    pub(crate) fn on(&mut self, input: Input, now: Instant, random: f64) -> Vec<Action> {
        let ended = match input {
            Input::Add(id, watch) => {
                self.add(id, watch);
                Ok(())
            }
            Input::Remove(id) => {
                self.remove(id);
                Ok(())
            }
            Input::Full(id, next) => {
                self.pause(id, next);
                Ok(())
            }
            Input::Room(id) => {
                self.unpause(id);
                Ok(())
            }
            Input::Progress(id) => {
                self.request_progress(id);
                Ok(())
            }
            Input::Opened => {
                self.opened(now);
                Ok(())
            }
            Input::Version { orders_progress } => {
                self.orders_progress = Some(orders_progress);
                self.assume_caught_up();
                Ok(())
            }
            Input::Replaced { epoch, why } => {
                self.store_epoch = epoch;
                self.replaced = Some(why);
                // The revisions seen so far are those of the old store.
                self.highest = 0;
                Ok(())
            }
            Input::Read(Ok(revision)) => {
                self.read(revision);
                Ok(())
            }
            Input::Read(Err(ending)) => self.read_failed(ending),
            Input::Message(message) => self.message(message, now),
            Input::TooLarge {
                outline,
                events,
                bytes,
            } => self.too_large(outline, events, bytes, now),
            Input::Arriving => {
                self.last_bytes_at = Some(now);
                Ok(())
            }
            Input::Ended(ending) => Err(ending),
            Input::Tick => Ok(()),
        };
        // Deadlines are checked at every input, because a `Tick` may come late.
        if let Err(ending) = ended.and_then(|()| self.overdue(now)) {
            self.end(&ending, now, random);
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// Opens or closes the stream, and sends the requests that are ready.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.kind.fragments {
            self.return_to_shared();
        }
        if self.entries.is_empty() && self.stream != StreamState::Closed {
            self.reset_stream();
            self.stream = StreamState::Closed;
            // Without watches, an open stream would only cost pings.
            self.actions.push(Action::Close(MemberCondition::Healthy));
        }
        match self.stream {
            StreamState::Closed if !self.entries.is_empty() => self.open(),
            // An input may arrive before the `Tick` of this time.
            StreamState::BackingOff { until } if until <= now => self.open(),
            StreamState::Open { .. } => {
                self.start_read();
                self.send_creates(now);
                self.send_progress_request_if_due(now);
            }
            StreamState::Closed | StreamState::Opening | StreamState::BackingOff { .. } => {}
        }
    }

    /// The time at which the next `Tick` is due, if no other input comes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stream {
            StreamState::BackingOff { until } => Some(until),
            StreamState::Open { .. } => self.stream_deadline(),
            StreamState::Closed | StreamState::Opening => None,
        }
    }

    /// The time from which a tick performs the step of the deadline.
    pub(crate) fn tick_from(&self) -> Option<Instant> {
        let deadline = self.deadline()?;
        match self.stream {
            StreamState::Open { .. } => Some(self.due_from(deadline)),
            _ => Some(deadline),
        }
    }

    pub(super) fn finish(&mut self, id: WatchId, error: Error) {
        if let Some(entry) = self.entries.remove(&id) {
            self.progress_wanted.remove(&id);
            self.catch_up.remove(id);
            self.actions.push(Action::Finish(id, entry.explain(error)));
        }
    }

    pub(super) fn send(&mut self, request: pb::watch_request::RequestUnion) {
        self.actions.push(Action::Send(pb::WatchRequest {
            request_union: Some(request),
        }));
    }
}

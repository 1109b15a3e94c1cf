//! The watches of one stream: what to do about everything that happens. [`Streams`] is all of them.
//!
//! It has no clock, no socket and no randomness: the task gives it inputs and carries out its
//! actions, in order, before the next input. Requests that create watches are answered in their
//! order, so answers are told apart by order alone: etcd before 3.5.6 puts the id of another
//! watch into its refusals.

mod fragments;
mod incoming;
mod requests;
mod store;
mod stream;
mod streams;
#[cfg(test)]
mod tests;
mod watch_entry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::event::WatchResponse;
use super::request::Watch;
use crate::error::{Error, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::util::backoff::Backoff;
pub(crate) use streams::{SHARED, StreamNo, Streams};
use watch_entry::WatchEntry;

/// Names a watch of this process, for its whole life; the server's ids change with every stream.
pub(crate) type Id = u64;

/// The waits between streams that do not hold; the first retry comes at once.
const BETWEEN_STREAMS: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Somebody wants a watch.
    Add(Id, Watch),
    /// Nobody wants it any more.
    Remove(Id),
    /// A response was not taken: deliver from revision `next` on, later.
    Full(Id, i64),
    /// The reader has caught up.
    Room(Id),
    /// Somebody wants to know how far a watch is.
    Progress(Id),
    /// The stream can be written to.
    Opened,
    /// Whether the server sends the answer to a progress request after the events it speaks of.
    Version { orders_progress: bool },
    /// The store was replaced, and this is its epoch now; the next read is of that store.
    Replaced { epoch: u64, why: String },
    /// The revision of the store, by the linearizable read that was asked for.
    Read(Result<i64, Ending>),
    /// The server said something on the stream.
    Message(pb::WatchResponse),
    /// A message came that is over the client's limit: what it says besides its events, how many
    /// those are, and its size.
    TooLarge {
        outline: pb::WatchResponse,
        events: usize,
        bytes: usize,
    },
    /// A part of a message arrived since the last look.
    Arriving,
    /// There is no stream, or no more.
    Ended(Ending),
    /// The deadline passed.
    Tick,
}

/// How a stream ends, or an attempt to have one.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// There is no connection.
    Unconnected(String),
    /// There is no connection, and none to wait for: TLS fails at every endpoint.
    Refused(String),
    /// The connection broke, or what came over it made no sense.
    Broken(String),
    /// No answer.
    Silent(String),
    /// The server ended it with this status.
    Answer(ServerError),
    /// The server ended it without a reason.
    Eof,
}

/// What the end of a stream says about the member at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing.
    None,
    /// It may be dead.
    Silent,
    /// It cannot serve now.
    Unable,
    /// It is a learner.
    Learner,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a stream.
    Open,
    /// The token of the stream was refused like this: the next one needs another.
    Renew(ServerError),
    /// Let go of the stream, of the attempt to open one, and of the read.
    Close(Doubt),
    /// Send this on the stream.
    Send(pb::WatchRequest),
    /// Read the store's revision, linearizable, by this key; over the stream's connection.
    Read(Bytes),
    /// The server has the watch, for the first time.
    Created(Id),
    /// Hand this to the reader, and with `up` the word that the watch is up to date again. If it has
    /// no room: `Full` with `undo`.
    Deliver {
        id: Id,
        response: WatchResponse,
        size: usize,
        undo: i64,
        up: bool,
    },
    /// The watch is cut off from its server.
    Down(Id),
    /// It is there again, and what was missed meanwhile has arrived.
    Up(Id),
    /// The watch is over; this is its last item.
    Finish(Id, Error),
}

/// The stream, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamPhase {
    Closed,
    Opening,
    Open { since: Instant },
    Waiting { until: Instant },
}

/// The read that is on its way.
#[derive(Debug)]
struct Reading {
    /// The watch whose key it reads.
    by: Id,
    /// The watches that were there when it began.
    covered: Vec<Id>,
    /// Watches whose progress was asked for before it began.
    questions: Vec<Id>,
    /// What the store had before it began.
    highest: i64,
    /// The read before it said that the store is behind that.
    doubted: bool,
}

/// What makes one stream different from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The stream is for watches of which a response was too large: etcd sends theirs in fragments.
    ///
    /// It is never done without need. etcd computes the size of a whole fragment again for each
    /// event that it adds, so the cost grows with the square of the number of events: 100,000 small
    /// ones take minutes.
    pub(crate) fragments: bool,
    /// The largest message that is taken, and the largest revision.
    pub(crate) limit: usize,
}

/// A watch on its way from one stream to another.
#[derive(Debug)]
struct Moving {
    id: Id,
    one: WatchEntry,
    /// Somebody asked for its progress.
    asking: bool,
}

/// A request to create a watch that is not answered yet.
#[derive(Debug)]
struct Creating {
    /// `None` when nobody wants the watch any more.
    id: Option<Id>,
    /// The progress requests sent before it.
    asked: u64,
}

/// The state.
#[derive(Debug)]
pub(crate) struct Watches {
    kind: Kind,
    ones: BTreeMap<Id, WatchEntry>,
    /// Watches that belong on another stream.
    moving: Vec<Moving>,
    line: StreamPhase,
    /// Counts the streams.
    epoch: u64,
    backoff: Backoff,
    /// Streams in a row that did not hold.
    lost: u32,
    /// The stream has delivered events.
    delivered: bool,
    /// Tokens in a row that were refused, and since when.
    refused: Option<(u32, Instant)>,
    /// Watches that need a read before they can be created.
    unread: Vec<Id>,
    /// Watches that want to know the store's revision for their progress.
    questions: Vec<Id>,
    reading: Option<Reading>,
    /// Watches that can be created.
    queue: VecDeque<Id>,
    creating: VecDeque<Creating>,
    /// When the server last answered a request to create a watch, and the messages since that were no
    /// such answer.
    created_at: Instant,
    uncreated: u32,
    /// The server's ids on this stream.
    by_wire: BTreeMap<i64, Id>,
    /// Ids that we have cancelled on this stream.
    disowned: BTreeSet<i64>,
    /// The highest revision that the store was seen at.
    highest: i64,
    /// The epoch of the store.
    store: u64,
    /// How it was replaced, until the watches that followed the old one have ended.
    replaced: Option<String>,
    /// Whether answers to progress requests can be believed; `None` until the version is known.
    orders_progress: Option<bool>,
    /// Who is at the other end.
    header: Option<pb::ResponseHeader>,
    /// Watches whose progress somebody asked for.
    asking: BTreeSet<Id>,
    /// Watches whose readers know that they are cut off, and that have yet to catch up.
    behind: BTreeSet<Id>,
    /// When one of them last began or got events.
    behind_heard: Instant,
    /// Progress requests sent and answers received on this stream.
    asked: u64,
    answered: u64,
    asked_at: Option<Instant>,
    ask_again: Duration,
    heard: Instant,
    /// When a part of a message last arrived.
    arriving: Option<Instant>,
    /// Streams in a row that were given up because they never answered a progress request.
    mute: u32,
    actions: Vec<Action>,
}

impl Watches {
    pub(crate) fn new(kind: Kind, now: Instant) -> Self {
        Watches {
            kind,
            ones: BTreeMap::new(),
            moving: Vec::new(),
            line: StreamPhase::Closed,
            epoch: 0,
            backoff: BETWEEN_STREAMS,
            lost: 0,
            delivered: false,
            refused: None,
            unread: Vec::new(),
            questions: Vec::new(),
            reading: None,
            queue: VecDeque::new(),
            creating: VecDeque::new(),
            created_at: now,
            uncreated: 0,
            by_wire: BTreeMap::new(),
            disowned: BTreeSet::new(),
            highest: 0,
            store: 0,
            replaced: None,
            orders_progress: None,
            header: None,
            asking: BTreeSet::new(),
            behind: BTreeSet::new(),
            behind_heard: now,
            asked: 0,
            answered: 0,
            asked_at: None,
            ask_again: requests::ASK_AGAIN,
            heard: now,
            arriving: None,
            mute: 0,
            actions: Vec::new(),
        }
    }

    /// What to do about `input`; `random` is in 0..1.
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
                self.want_progress(id);
                Ok(())
            }
            Input::Opened => {
                self.opened(now);
                Ok(())
            }
            Input::Version { orders_progress } => {
                self.orders_progress = Some(orders_progress);
                self.believe_untold();
                Ok(())
            }
            Input::Replaced { epoch, why } => {
                self.store = epoch;
                self.replaced = Some(why);
                // What was seen was of the store before.
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
                self.arriving = Some(now);
                Ok(())
            }
            Input::Ended(ending) => Err(ending),
            Input::Tick => Ok(()),
        };
        if let Err(ending) = ended.and_then(|()| self.overdue(now)) {
            self.end(&ending, now, random);
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// Starts whatever can be started.
    fn settle(&mut self, now: Instant) {
        if self.kind.fragments {
            self.send_home();
        }
        if self.ones.is_empty() && self.line != StreamPhase::Closed {
            self.forget_stream();
            self.line = StreamPhase::Closed;
            self.actions.push(Action::Close(Doubt::None));
        }
        match self.line {
            StreamPhase::Closed if !self.ones.is_empty() => self.open(),
            StreamPhase::Waiting { until } if until <= now => self.open(),
            StreamPhase::Open { .. } => {
                self.start_read();
                self.send_creates(now);
                self.ask_progress(now);
            }
            StreamPhase::Closed | StreamPhase::Opening | StreamPhase::Waiting { .. } => {}
        }
    }

    /// When to be told `Tick` if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.line {
            StreamPhase::Waiting { until } => Some(until),
            StreamPhase::Open { .. } => self.stream_deadline(),
            StreamPhase::Closed | StreamPhase::Opening => None,
        }
    }

    fn finish(&mut self, id: Id, error: Error) {
        if let Some(one) = self.ones.remove(&id) {
            self.asking.remove(&id);
            self.behind.remove(&id);
            self.actions.push(Action::Finish(id, one.explain(error)));
        }
    }

    fn send(&mut self, request: pb::watch_request::RequestUnion) {
        self.actions.push(Action::Send(pb::WatchRequest {
            request_union: Some(request),
        }));
    }
}

//! The client of the targets: performs the actions of the state machine, and checks what each reader receives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::rpc::watch::event::WatchResponse;
use crate::rpc::watch::state::{Action, Input, SHARED, StreamNo, Streams};
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_request::Watch;
use crate::types::Revision;
use crate::types::key_range::KeyRange;

/// The responses that a reader has room for.
const ROOM: usize = 3;

/// The most streams at a time: the shared one, and those for responses that are too large.
const STREAMS: usize = 5;

/// The reader of a watch.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) range: KeyRange,
    pub(super) start: Option<i64>,
    /// The revision of the store when the watch was added, and when it was created.
    pub(super) asked_at: i64,
    pub(super) created_at: Option<i64>,
    /// The events, by revision and key.
    pub(super) got: Vec<(i64, Bytes)>,
    /// The last revision that was delivered, by events or by progress.
    told: i64,
    queued: usize,
    pub(super) is_stalled: bool,
    is_down: bool,
    pub(super) error: Option<ErrorKind>,
}

/// An open stream: the requests on it that the server has not read.
#[derive(Debug, Default)]
pub(super) struct OpenStream {
    pub(super) requests: VecDeque<RequestUnion>,
    pub(super) reading: bool,
}

#[derive(Debug)]
pub(super) struct Readers {
    state: Streams,
    pub(super) now: Instant,
    pub(super) opening: BTreeSet<StreamNo>,
    pub(super) open: BTreeMap<StreamNo, OpenStream>,
    pub(super) readers: BTreeMap<WatchId, Reader>,
    next_id: WatchId,
    /// The revision of the store, as far as there is one.
    pub(super) revision: i64,
}

impl Readers {
    pub(super) fn new(limit: usize) -> Self {
        let now = Instant::now();
        Readers {
            state: Streams::new(limit, now),
            now,
            opening: BTreeSet::new(),
            open: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_id: 1,
            revision: 0,
        }
    }

    pub(super) fn add(&mut self, range: KeyRange, start: Option<i64>, progress: bool) {
        let start = start.filter(|start| *start > 0);
        let mut watch = Watch::range(range.clone());
        if let Some(start) = start {
            watch = watch.start_revision(Revision::new(start));
        }
        if progress {
            watch = watch.progress_notify();
        }
        let id = self.next_id;
        self.next_id += 1;
        let reader = Reader {
            range,
            start,
            asked_at: self.revision,
            created_at: None,
            got: Vec::new(),
            told: 0,
            queued: 0,
            is_stalled: false,
            is_down: false,
            error: None,
        };
        self.readers.insert(id, reader);
        self.feed(SHARED, Input::Add(id, watch));
    }

    /// One of the watches that have not ended.
    pub(super) fn any(&self, index: usize) -> Option<WatchId> {
        let alive = self.readers.iter().filter(|one| one.1.error.is_none());
        alive
            .map(|(id, _)| *id)
            .nth(index % self.readers.len().max(1))
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        self.readers.remove(&id);
        self.feed_watch(id, Input::Remove(id));
    }

    pub(super) fn request_progress(&mut self, id: WatchId) {
        self.feed_watch(id, Input::Progress(id));
    }

    /// The reader reads everything in its queue.
    pub(super) fn drain(&mut self, id: WatchId) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.queued = 0;
            if std::mem::take(&mut reader.is_stalled) {
                self.feed_watch(id, Input::Room(id));
            }
        }
    }

    pub(super) fn connect(&mut self, no: StreamNo, orders_progress: bool) {
        if self.opening.remove(&no) {
            self.open.insert(no, OpenStream::default());
            self.feed(no, Input::Opened);
            self.feed(no, Input::Version { orders_progress });
        }
    }

    /// Lets time pass, and performs what is due then.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now += span;
        let due = self.state.deadlines().filter(|(_, due)| *due <= self.now);
        for (no, _) in due.collect::<Vec<_>>() {
            self.feed(no, Input::Tick);
        }
        // Otherwise the task would turn without a wait.
        for (no, due) in self.state.deadlines() {
            assert!(due > self.now, "stream {no} is still due");
        }
    }

    fn feed_watch(&mut self, id: WatchId, input: Input) {
        self.feed(self.state.stream_of(id), input);
    }

    pub(super) fn feed(&mut self, no: StreamNo, input: Input) {
        let mut inputs = VecDeque::from([(no, input)]);
        while let Some((no, input)) = inputs.pop_front() {
            let actions = self.state.on(no, input, self.now, 0.5);
            // A watch has a few actions for each input, and so has a stream.
            let most = 8 * (self.readers.len() + STREAMS);
            assert!(actions.len() <= most, "{} actions", actions.len());
            for (no, action) in actions {
                let full = self.act(no, action);
                inputs.extend(full.map(|input| (no, input)));
            }
        }
    }

    fn act(&mut self, no: StreamNo, action: Action) -> Option<Input> {
        match action {
            Action::Open => {
                assert!(!self.open.contains_key(&no), "it is open");
                assert!(self.opening.insert(no), "it is being opened");
                assert!(self.open.len() + self.opening.len() <= STREAMS);
            }
            Action::RenewToken(_) => {}
            Action::Close(_) => {
                self.opening.remove(&no);
                self.open.remove(&no);
            }
            Action::Send(request) => {
                let open = self.open.get_mut(&no).expect("sends on a stream only");
                open.requests
                    .push_back(request.request_union.expect("a request"));
            }
            Action::Read(key) => {
                assert!(!key.is_empty());
                let open = self.open.get_mut(&no).expect("reads beside a stream only");
                assert!(!open.reading, "one read at a time");
                open.reading = true;
            }
            Action::Created(id) => {
                let revision = self.revision;
                let created = self.reader(id).created_at.replace(revision);
                assert!(created.is_none(), "created once");
            }
            Action::Deliver {
                id,
                response,
                undo,
                up,
                size,
            } => {
                assert!(size >= response.events().len());
                let full = self.deliver(id, response, undo);
                if up && full.is_none() {
                    self.up(id);
                }
                return full;
            }
            Action::Down(id) => {
                let was_down = std::mem::replace(&mut self.reader(id).is_down, true);
                assert!(!was_down, "down once");
            }
            Action::Up(id) => self.up(id),
            Action::Finish(id, error) => {
                let reader = self.readers.get_mut(&id).expect("of a reader");
                let before = reader.error.replace(error.kind());
                assert!(before.is_none(), "one last item");
            }
        }
        None
    }

    /// The reader of a watch that has not ended.
    fn reader(&mut self, id: WatchId) -> &mut Reader {
        let reader = self.readers.get_mut(&id).expect("of a reader");
        assert!(reader.error.is_none(), "nothing after the last item");
        reader
    }

    fn up(&mut self, id: WatchId) {
        let was_down = std::mem::take(&mut self.reader(id).is_down);
        assert!(was_down, "up after down");
    }

    fn deliver(&mut self, id: WatchId, response: WatchResponse, undo: i64) -> Option<Input> {
        let reader = self.reader(id);
        assert!(reader.created_at.is_some(), "after it was created");
        if response.is_progress() {
            let told = response.revision().get();
            assert!(told >= reader.told, "progress never goes back");
            reader.told = told;
            return None;
        }
        assert!(!reader.is_stalled, "a paused watch delivers nothing");
        if reader.queued >= ROOM {
            reader.is_stalled = true;
            return Some(Input::Full(id, undo));
        }
        reader.queued += 1;
        let events = response.into_events().into_iter();
        let events: Vec<(i64, Bytes)> = events
            .map(|event| (event.revision().get(), event.key().clone()))
            .collect();
        assert!(events.is_sorted_by_key(|(revision, _)| *revision));
        let (first, last) = (events.first()?.0, events.last()?.0);
        assert!(
            first > reader.told,
            "{first} after {}: nothing twice, no revision in two items",
            reader.told
        );
        assert!(reader.start.is_none_or(|start| first >= start));
        assert!(events.iter().all(|(_, key)| reader.range.contains(key)));
        reader.told = last;
        reader.got.extend(events);
        None
    }
}

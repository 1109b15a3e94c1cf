//! A model of server, network and readers, which act at random around the state machine.
//!
//! A seed is one history. It begins with faults and ends without; then every guarantee must hold.

mod guarantees;
mod reader;
mod server;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::grpc::MemberCondition;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::rpc::watch::state::{Action, Input, SHARED, StreamEnd, StreamNo, Streams};
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_request::Watch;
use crate::types::Revision;
use crate::types::key_range::KeyRange;
use reader::Reader;
use server::Stream;
pub(in crate::rpc::watch) use store::event;
use store::{KEYS, Store};

/// The faults of a history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) cuts: bool,
    pub(crate) compaction: bool,
    pub(crate) wipes: bool,
    pub(crate) resent: bool,
    pub(crate) expiry: bool,
    /// Responses may be too large for a message.
    pub(crate) large: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    rng: Rng,
    faults: Faults,
    rewinds: bool,
    pub(crate) state: Streams,
    now: Instant,
    store: Store,
    opening: BTreeSet<StreamNo>,
    streams: BTreeMap<StreamNo, Stream>,
    pub(crate) readers: BTreeMap<WatchId, Reader>,
    removed: usize,
    next_id: WatchId,
    /// The highest revision that the client has seen.
    shown: i64,
    /// A store was lost and the client could not detect it: the new one had as many revisions.
    pub(crate) void: bool,
    wiped: bool,
    /// Whether headers show that a store was lost, and how often they did.
    identified: bool,
    epoch: u64,
    /// The epoch that was reported to each stream.
    told: BTreeMap<StreamNo, u64>,
    pub(crate) opens: usize,
    pub(crate) creates: usize,
    pub(crate) pauses: usize,
    pub(crate) too_large: usize,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        let mut world = World {
            rng: Rng::with_seed(seed),
            faults,
            rewinds: faults.wipes,
            state: Streams::new(usize::MAX, now),
            now,
            store: Store::default(),
            opening: BTreeSet::new(),
            streams: BTreeMap::new(),
            readers: BTreeMap::new(),
            removed: 0,
            next_id: 1,
            shown: 0,
            void: false,
            wiped: false,
            identified: seed.is_multiple_of(2),
            epoch: 0,
            told: BTreeMap::new(),
            opens: 0,
            creates: 0,
            pauses: 0,
            too_large: 0,
        };
        for _ in 0..world.rng.usize(0..20) {
            world.store.change(&mut world.rng);
        }
        world
    }

    /// Runs a number of steps with faults, then some without.
    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.faults = Faults::default();
        self.calm();
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..12 => self.store.change(&mut self.rng),
            12..16 => self.add(),
            16..18 => self.remove(),
            18..32 => self.server_takes(),
            32..46 => self.server_sends(),
            46..49 => self.server_progress(),
            49..72 => self.client_receives(),
            72..78 => self.answer_read(),
            78..84 => self.connect(),
            84..92 => self.read_some(),
            92..93 => self.ask_progress(),
            93..95 if self.faults.cuts => self.cut(),
            95..96 if self.faults.compaction => {
                let revision = self.rng.i64(1..=self.store.revision());
                self.store.compacted = self.store.compacted.max(revision);
            }
            96 if self.faults.wipes && self.rng.u32(0..4) == 0 => self.wipe(),
            97 if self.faults.resent => self.server_sends_again(),
            _ => self.pass_time(),
        }
    }

    /// Runs without faults: all messages arrive, and readers read.
    fn calm(&mut self) {
        self.store.change(&mut self.rng);
        for _ in 0..400 {
            self.connect();
            self.answer_read();
            for _ in 0..8 {
                self.server_takes();
                self.server_sends();
                self.client_receives();
                self.client_receives();
            }
            for id in self.readers.keys().copied().collect::<Vec<_>>() {
                self.drain(id);
            }
            // A server leaves no watch without its events for seconds.
            self.server_sends_all();
            self.pass_time();
        }
    }

    fn add(&mut self) {
        let range = match self.rng.u32(0..3) {
            0 => KeyRange::key(KEYS[self.rng.usize(0..4)]),
            1 => KeyRange::range("b", "d"),
            _ => KeyRange::all(),
        };
        let revision = self.store.revision();
        let start = match self.rng.u32(0..4) {
            0 => Some(self.rng.i64(1..=revision)),
            1 => Some(revision + self.rng.i64(1..4)),
            _ => None,
        };
        self.add_watch(range, start, false);
    }

    pub(crate) fn add_watch(
        &mut self,
        range: KeyRange,
        start: Option<i64>,
        never_reads: bool,
    ) -> WatchId {
        let mut watch = Watch::range(range.clone());
        if let Some(start) = start {
            watch = watch.start_revision(Revision::new(start));
        }
        if self.rng.bool() {
            watch = watch.progress_notify();
        }
        let id = self.next_id;
        self.next_id += 1;
        let reader = Reader {
            range,
            start,
            asked_at: self.store.revision(),
            created_at: None,
            got: Vec::new(),
            told: 0,
            queue: 0,
            stalled: false,
            never_reads,
            error: None,
            down: None,
        };
        self.readers.insert(id, reader);
        self.feed(SHARED, Input::Add(id, watch));
        id
    }

    fn any_reader(&mut self) -> Option<WatchId> {
        let alive = self
            .readers
            .iter()
            .filter(|(_, reader)| reader.error.is_none());
        let ids: Vec<WatchId> = alive.map(|(id, _)| *id).collect();
        self.rng.choice(ids)
    }

    fn remove(&mut self) {
        if let Some(id) = self.any_reader() {
            self.readers.remove(&id);
            self.removed += 1;
            self.feed_watch(id, Input::Remove(id));
        }
    }

    fn ask_progress(&mut self) {
        if let Some(id) = self.any_reader() {
            self.feed_watch(id, Input::Progress(id));
        }
    }

    fn read_some(&mut self) {
        if let Some(id) = self.any_reader() {
            self.drain(id);
        }
    }

    fn drain(&mut self, id: WatchId) {
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        if reader.never_reads {
            return;
        }
        reader.queue = 0;
        if std::mem::replace(&mut reader.stalled, false) {
            self.feed_watch(id, Input::Room(id));
        }
    }

    fn connect(&mut self) {
        let Some(no) = self.rng.choice(self.opening.clone()) else {
            return;
        };
        self.opening.remove(&no);
        if self.faults.cuts && self.rng.u32(0..4) == 0 {
            let ending = StreamEnd::Unconnected("refused".into());
            return self.feed(no, Input::Ended(ending));
        }
        self.streams.insert(no, Stream::default());
        for (id, reader) in &mut self.readers {
            if reader.down.is_some() && self.state.stream_of(*id) == no {
                reader.down = Some(self.store.revision());
            }
        }
        self.feed(no, Input::Opened);
        let orders_progress = true;
        self.feed(no, Input::Version { orders_progress });
    }

    fn any_stream(&mut self) -> Option<StreamNo> {
        self.rng.choice(self.streams.keys().copied())
    }

    fn cut(&mut self) {
        let Some(no) = self.any_stream() else { return };
        self.streams.remove(&no);
        let ending = match self.rng.bool() {
            true => StreamEnd::Eof,
            false => StreamEnd::Broken("reset".into()),
        };
        self.feed(no, Input::Ended(ending));
    }

    fn wipe(&mut self) {
        self.store = Store::default();
        self.wiped = true;
        while !self.streams.is_empty() {
            self.cut();
        }
    }

    fn answer_read(&mut self) {
        let Some(no) = self.any_stream() else { return };
        let revision = self.store.revision();
        let Some(stream) = self.streams.get_mut(&no).filter(|stream| stream.reading) else {
            return;
        };
        stream.reading = false;
        let noticed = std::mem::replace(&mut stream.doubted, self.wiped);
        if self.identified && std::mem::take(&mut self.wiped) {
            self.shown = 0;
            self.epoch += 1;
        }
        if self.told.insert(no, self.epoch).unwrap_or(0) != self.epoch {
            let (epoch, why) = (self.epoch, "its raft term fell".into());
            self.feed(no, Input::Replaced { epoch, why });
        }
        // Otherwise two reads of one stream detect a loss, unless the store has grown back.
        if self.wiped && revision >= self.shown {
            self.void = true;
        } else if self.wiped && noticed {
            self.wiped = false;
            self.shown = 0;
        }
        self.shown = self.shown.max(revision);
        self.feed(no, Input::Read(Ok(revision)));
    }

    fn client_receives(&mut self) {
        let Some(no) = self.any_stream() else { return };
        let Some(stream) = self.streams.get_mut(&no) else {
            return;
        };
        if let Some(input) = stream.responses.pop_front() {
            let (Input::Message(response)
            | Input::TooLarge {
                outline: response, ..
            }) = &input
            else {
                panic!("{input:?} is no response");
            };
            let revision = response.header.as_ref().map_or(0, |h| h.revision);
            self.shown = self.shown.max(revision);
            self.too_large += usize::from(matches!(input, Input::TooLarge { .. }));
            self.feed(no, input);
        }
    }

    fn pass_time(&mut self) {
        let step = Duration::from_millis(self.rng.u64(1..400));
        self.now += step;
        let due = self.state.deadlines().filter(|(_, due)| *due <= self.now);
        for (no, _) in due.collect::<Vec<_>>() {
            self.feed(no, Input::Tick);
        }
    }

    fn feed_watch(&mut self, id: WatchId, input: Input) {
        self.feed(self.state.stream_of(id), input);
    }

    pub(crate) fn feed(&mut self, no: StreamNo, input: Input) {
        let mut inputs = VecDeque::from([(no, input)]);
        while let Some((no, input)) = inputs.pop_front() {
            let random = self.rng.f64();
            for (no, action) in self.state.on(no, input, self.now, random) {
                let outcome = self.act(no, action);
                inputs.extend(outcome.map(|input| (no, input)));
            }
        }
    }

    fn act(&mut self, no: StreamNo, action: Action) -> Option<Input> {
        match action {
            Action::Open => {
                assert!(!self.streams.contains_key(&no), "it is open");
                assert!(self.opening.insert(no), "it is being opened");
                let all = self.streams.len() + self.opening.len();
                assert!(all <= 1 + 4, "few streams at a time");
                self.opens += 1;
            }
            Action::RenewToken(_) => assert!(self.streams.contains_key(&no), "of a stream"),
            Action::Close(doubt) => {
                assert!(matches!(
                    doubt,
                    MemberCondition::Healthy | MemberCondition::Silent
                ));
                self.opening.remove(&no);
                self.streams.remove(&no);
            }
            Action::Send(request) => {
                let create = matches!(request.request_union, Some(RequestUnion::CreateRequest(_)));
                self.creates += usize::from(create);
                let stream = self.streams.get_mut(&no).expect("sends on a stream only");
                stream.requests.push_back(request);
            }
            Action::Read(key) => {
                assert!(!key.is_empty());
                let stream = self
                    .streams
                    .get_mut(&no)
                    .expect("reads beside a stream only");
                assert!(!stream.reading, "one read at a time");
                stream.reading = true;
            }
            Action::Created(id) => {
                let revision = self.store.revision();
                let reader = self.readers.get_mut(&id).expect("of a reader");
                assert!(
                    reader.created_at.replace(revision).is_none(),
                    "created once"
                );
            }
            Action::Deliver {
                id,
                response,
                undo,
                up,
                ..
            } => {
                let full = self.deliver(id, response, undo);
                if up && full.is_none() {
                    self.up(id);
                }
                return full;
            }
            Action::Down(id) => {
                let revision = self.store.revision();
                let reader = self.readers.get_mut(&id).expect("of a reader");
                assert!(reader.down.replace(revision).is_none(), "down once");
            }
            Action::Up(id) => self.up(id),
            Action::Finish(id, error) => self.finish(id, &error),
        }
        None
    }
}

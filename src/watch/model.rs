//! A server, a network and readers that do everything they may, at random, around the state.
//!
//! One seed is one history. It begins with faults and ends without: then everything that was
//! promised must have come true.

mod promises;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::event::{Event, WatchResponse};
use super::request::Watch;
use super::state::{Action, Doubt, Ending, Id, Input, Watches};
use crate::error::{Error, ErrorKind};
use crate::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::etcd_rs_proto::etcdserverpb::{self as pb, ResponseHeader};
use crate::key::KeyRange;
use crate::types::Revision;
pub(super) use store::event;
use store::{KEYS, Store};

#[derive(Debug)]
struct Remote {
    range: KeyRange,
    next: i64,
}

/// The server's half of a stream, and what is on the way in both directions.
#[derive(Debug, Default)]
struct Stream {
    requests: VecDeque<pb::WatchRequest>,
    responses: VecDeque<pb::WatchResponse>,
    watches: BTreeMap<i64, Remote>,
    next_wire: i64,
    reading: bool,
    doubted: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    range: KeyRange,
    start: Option<i64>,
    asked_at: i64,
    created_at: Option<i64>,
    pub(super) got: Vec<(i64, String)>,
    told: i64,
    queue: usize,
    stalled: bool,
    pub(super) never_reads: bool,
    pub(super) error: Option<ErrorKind>,
    down: bool,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) cuts: bool,
    pub(super) compaction: bool,
    pub(super) wipes: bool,
    pub(super) resent: bool,
    pub(super) expiry: bool,
}

#[derive(Debug)]
pub(super) struct World {
    rng: Rng,
    faults: Faults,
    rewinds: bool,
    pub(super) state: Watches,
    now: Instant,
    store: Store,
    opening: bool,
    stream: Option<Stream>,
    pub(super) readers: BTreeMap<Id, Reader>,
    removed: usize,
    next_id: Id,
    /// The highest revision the client was shown.
    shown: i64,
    /// A store was lost and nobody could notice: it had grown back.
    pub(super) void: bool,
    wiped: bool,
    /// Whether headers show that a store was lost, and how often they did.
    identified: bool,
    epoch: u64,
    pub(super) opens: usize,
    pub(super) creates: usize,
    pub(super) pauses: usize,
}

const CAPACITY: usize = 3;

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        let mut world = World {
            rng: Rng::with_seed(seed),
            faults,
            rewinds: faults.wipes,
            state: Watches::new(now),
            now,
            store: Store::default(),
            opening: false,
            stream: None,
            readers: BTreeMap::new(),
            removed: 0,
            next_id: 1,
            shown: 0,
            void: false,
            wiped: false,
            identified: seed % 2 == 0,
            epoch: 0,
            opens: 0,
            creates: 0,
            pauses: 0,
        };
        for _ in 0..world.rng.usize(0..20) {
            world.store.change(&mut world.rng);
        }
        world
    }

    /// A while of faults, then a while without.
    pub(super) fn run(&mut self, steps: usize) {
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

    /// No more faults: everything on the way arrives, and readers read.
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

    pub(super) fn add_watch(
        &mut self,
        range: KeyRange,
        start: Option<i64>,
        never_reads: bool,
    ) -> Id {
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
            down: false,
        };
        self.readers.insert(id, reader);
        self.feed(Input::Add(id, watch));
        id
    }

    fn any_reader(&mut self) -> Option<Id> {
        let alive = self
            .readers
            .iter()
            .filter(|(_, reader)| reader.error.is_none());
        let ids: Vec<Id> = alive.map(|(id, _)| *id).collect();
        self.rng.choice(ids)
    }

    fn remove(&mut self) {
        if let Some(id) = self.any_reader() {
            self.readers.remove(&id);
            self.removed += 1;
            self.feed(Input::Remove(id));
        }
    }

    fn ask_progress(&mut self) {
        if let Some(id) = self.any_reader() {
            self.feed(Input::Progress(id));
        }
    }

    fn read_some(&mut self) {
        if let Some(id) = self.any_reader() {
            self.drain(id);
        }
    }

    fn drain(&mut self, id: Id) {
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        if reader.never_reads {
            return;
        }
        reader.queue = 0;
        if std::mem::replace(&mut reader.stalled, false) {
            self.feed(Input::Room(id));
        }
    }

    fn connect(&mut self) {
        if !std::mem::replace(&mut self.opening, false) {
            return;
        }
        if self.faults.cuts && self.rng.u32(0..4) == 0 {
            let ending = Ending::Unconnected("refused".into());
            return self.feed(Input::Ended(ending));
        }
        self.stream = Some(Stream::default());
        self.feed(Input::Opened);
        self.feed(Input::Version {
            orders_progress: true,
        });
    }

    fn cut(&mut self) {
        if self.stream.take().is_some() {
            let ending = match self.rng.bool() {
                true => Ending::Eof,
                false => Ending::Broken("reset".into()),
            };
            self.feed(Input::Ended(ending));
        }
    }

    fn wipe(&mut self) {
        self.store = Store::default();
        self.wiped = true;
        self.cut();
    }

    fn answer_read(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if !std::mem::replace(&mut stream.reading, false) {
            return;
        }
        let revision = self.store.revision();
        let noticed = std::mem::replace(&mut stream.doubted, self.wiped);
        if self.identified && std::mem::take(&mut self.wiped) {
            self.shown = 0;
            self.epoch += 1;
            let (epoch, why) = (self.epoch, "its raft term fell".into());
            self.feed(Input::Replaced { epoch, why });
        }
        // Otherwise a loss is noticed by two reads of one stream, and never once the store has grown back.
        if self.wiped && revision >= self.shown {
            self.void = true;
        } else if self.wiped && noticed {
            self.wiped = false;
            self.shown = 0;
        }
        self.shown = self.shown.max(revision);
        self.feed(Input::Read(Ok(revision)));
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.store.revision(),
            ..ResponseHeader::default()
        })
    }

    fn respond(&mut self, response: pb::WatchResponse) {
        let header = self.header();
        if let Some(stream) = &mut self.stream {
            stream
                .responses
                .push_back(pb::WatchResponse { header, ..response });
        }
    }

    fn server_takes(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let Some(request) = stream.requests.pop_front() else {
            return;
        };
        match request.request_union.expect("a request") {
            RequestUnion::CreateRequest(create) => {
                assert!(create.start_revision > 0, "a start of 0 is a race");
                assert!(create.fragment && create.watch_id == 0);
                if self.faults.expiry && self.rng.u8(0..8) == 0 {
                    return self.respond(store::refused());
                }
                let wire = stream.next_wire;
                stream.next_wire += 1;
                let range = KeyRange::range(create.key, create.range_end);
                let next = create.start_revision;
                stream.watches.insert(wire, Remote { range, next });
                self.respond(pb::WatchResponse {
                    watch_id: wire,
                    created: true,
                    ..Default::default()
                });
            }
            RequestUnion::CancelRequest(cancel) => {
                if stream.watches.remove(&cancel.watch_id).is_some() {
                    self.respond(pb::WatchResponse {
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..Default::default()
                    });
                }
            }
            RequestUnion::ProgressRequest(_) => {
                let revision = self.store.revision();
                if stream.watches.values().all(|remote| remote.next > revision) {
                    self.respond(pb::WatchResponse {
                        watch_id: -1,
                        ..Default::default()
                    });
                }
            }
        }
    }

    fn any_remote(&mut self) -> Option<i64> {
        let wires: Vec<i64> = self.stream.as_ref()?.watches.keys().copied().collect();
        self.rng.choice(wires)
    }

    /// Brings one watch nearer to the store's revision: whole revisions, maybe in fragments.
    fn server_sends(&mut self) {
        let Some(wire) = self.any_remote() else {
            return;
        };
        let (revision, compacted) = (self.store.revision(), self.store.compacted);
        let Some(stream) = &mut self.stream else {
            return;
        };
        let Some(remote) = stream.watches.get_mut(&wire) else {
            return;
        };
        if remote.next < compacted {
            stream.watches.remove(&wire);
            return self.respond(pb::WatchResponse {
                watch_id: wire,
                canceled: true,
                compact_revision: compacted,
                ..Default::default()
            });
        }
        if remote.next > revision {
            return;
        }
        let to = self.rng.i64(remote.next..=revision);
        let events = self.store.events(&remote.range, remote.next, to);
        remote.next = to + 1;
        self.send_events(wire, events);
    }

    /// What servers with old bugs do.
    fn server_sends_again(&mut self) {
        let Some(wire) = self.any_remote() else {
            return;
        };
        let Some(remote) = self.stream.as_ref().and_then(|s| s.watches.get(&wire)) else {
            return;
        };
        let to = (remote.next - 1).min(self.store.revision());
        if to >= 2 {
            let from = self.rng.i64(2..=to);
            let events = self.store.events(&remote.range, from, to);
            self.send_events(wire, events);
        }
    }

    fn send_events(&mut self, wire: i64, mut events: Vec<(i64, &'static str)>) {
        while !events.is_empty() {
            let cut = match self.rng.u32(0..3) {
                0 => self.rng.usize(1..=events.len()),
                _ => events.len(),
            };
            let rest = events.split_off(cut);
            let piece = std::mem::replace(&mut events, rest);
            self.respond(pb::WatchResponse {
                watch_id: wire,
                fragment: !events.is_empty(),
                events: piece
                    .into_iter()
                    .map(|(revision, key)| event(revision, key))
                    .collect(),
                ..Default::default()
            });
        }
    }

    fn server_progress(&mut self) {
        let Some(wire) = self.any_remote() else {
            return;
        };
        let revision = self.store.revision();
        let synced = self.stream.as_ref().and_then(|s| s.watches.get(&wire));
        if synced.is_some_and(|remote| remote.next > revision) {
            self.respond(pb::WatchResponse {
                watch_id: wire,
                ..Default::default()
            });
        }
    }

    fn client_receives(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if let Some(response) = stream.responses.pop_front() {
            let revision = response.header.as_ref().map_or(0, |h| h.revision);
            self.shown = self.shown.max(revision);
            self.feed(Input::Message(response));
        }
    }

    fn pass_time(&mut self) {
        let step = Duration::from_millis(self.rng.u64(1..400));
        self.now += step;
        if self.state.deadline().is_some_and(|due| due <= self.now) {
            self.feed(Input::Tick);
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let random = self.rng.f64();
            for action in self.state.on(input, self.now, random) {
                inputs.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Open => {
                assert!(
                    !self.opening && self.stream.is_none(),
                    "one stream at a time"
                );
                self.opening = true;
                self.opens += 1;
            }
            Action::Renew(_) => assert!(self.stream.is_some(), "of a stream"),
            Action::Close(doubt) => {
                assert!(matches!(doubt, Doubt::None | Doubt::Silent));
                self.opening = false;
                self.stream = None;
            }
            Action::Send(request) => {
                let create = matches!(request.request_union, Some(RequestUnion::CreateRequest(_)));
                self.creates += usize::from(create);
                let stream = self.stream.as_mut().expect("sends on a stream only");
                stream.requests.push_back(request);
            }
            Action::Read(key) => {
                assert!(!key.is_empty());
                let stream = self.stream.as_mut().expect("reads beside a stream only");
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
                id, response, undo, ..
            } => return self.deliver(id, response, undo),
            Action::Down(id) => {
                let reader = self.readers.get_mut(&id).expect("of a reader");
                assert!(!std::mem::replace(&mut reader.down, true), "down once");
            }
            Action::Up(id) => {
                let reader = self.readers.get_mut(&id).expect("of a reader");
                assert!(std::mem::replace(&mut reader.down, false), "up after down");
            }
            Action::Finish(id, error) => self.finish(id, &error),
        }
        None
    }

    fn deliver(&mut self, id: Id, response: WatchResponse, undo: i64) -> Option<Input> {
        let reader = self.readers.get_mut(&id).expect("of a reader");
        assert!(reader.error.is_none() && reader.created_at.is_some() && !reader.down);
        if response.is_progress() {
            // It claims that everything up to there was delivered, or is in this very queue.
            let told = response.revision().get();
            assert!(told >= reader.told, "progress never goes back");
            reader.told = told;
            return None;
        }
        assert!(!reader.stalled, "a paused watch delivers nothing");
        if reader.queue >= CAPACITY {
            reader.stalled = true;
            self.pauses += 1;
            return Some(Input::Full(id, undo));
        }
        reader.queue += 1;
        let revisions = response.events().iter().map(|event| event.revision().get());
        assert!(revisions.clone().is_sorted());
        let (first, last) = (revisions.clone().min()?, revisions.max()?);
        assert!(
            first > reader.told,
            "nothing twice, no revision in two items"
        );
        reader.told = last;
        let names = response.into_events().into_iter();
        reader.got.extend(names.map(|event: Event| {
            let key = String::from_utf8(event.key().to_vec()).expect("ours");
            (event.revision().get(), key)
        }));
        None
    }

    fn finish(&mut self, id: Id, error: &Error) {
        let (compacted, revision) = (self.store.compacted, self.store.revision());
        let reader = self.readers.get_mut(&id).expect("of a reader");
        assert!(
            reader.error.replace(error.kind()).is_none(),
            "one last item"
        );
        match error.kind() {
            ErrorKind::Compacted => {
                let next = reader.told.max(reader.start.unwrap_or(0).max(2) - 1) + 1;
                assert!(
                    next <= compacted || self.void,
                    "compacted at {compacted}, next is {next}"
                );
            }
            ErrorKind::Rewound => {
                assert!(self.rewinds && reader.created_at.is_some(), "at {revision}");
            }
            kind => panic!("{kind:?}: {error}"),
        }
    }
}

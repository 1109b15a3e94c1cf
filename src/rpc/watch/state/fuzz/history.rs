//! A server that keeps its promises, over a network that fails.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::readers::{Reader, Readers};
use crate::error::ErrorKind;
use crate::fuzz::input::Input as Bytes;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::grpc::etcd_rs_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use crate::grpc::etcd_rs_proto::mvccpb::{Event, KeyValue};
use crate::rpc::watch::state::{Input, SHARED, StreamEnd, StreamNo};
use crate::types::key_range::KeyRange;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// The most watches.
const WATCHES: usize = 6;

/// The number of events that fit into a message without fragments.
const FIT: usize = 4;

/// The rounds without faults, after which every watch must have everything.
const ROUNDS: usize = 200;

/// Runs the history in `data`, then one without faults. Then every watch that has not ended has each event of its
/// range once, and one that ended has all events up to its last one.
pub(crate) fn history(data: &[u8]) {
    let mut data = Bytes::new(data);
    let mut world = World {
        client: Readers::new(usize::MAX),
        history: Vec::new(),
        compacted: 0,
        streams: BTreeMap::new(),
    };
    world.change(1);
    while !data.is_empty() {
        world.step(&mut data);
    }
    world.change(15);
    let done = (0..ROUNDS).any(|_| {
        world.round();
        world.is_done()
    });
    assert!(done, "it waits for ever: {world:#?}");
    world.check();
}

/// A watch on the server.
#[derive(Debug)]
struct Remote {
    range: KeyRange,
    next: i64,
    fragments: bool,
}

/// A stream on the server.
#[derive(Debug, Default)]
struct Stream {
    watches: BTreeMap<i64, Remote>,
    next_wire: i64,
    /// What the client receives next.
    responses: VecDeque<Input>,
}

#[derive(Debug)]
struct World {
    client: Readers,
    /// The keys that each revision changed, as bits. Revision 1 is the empty store.
    history: Vec<u8>,
    compacted: i64,
    streams: BTreeMap<StreamNo, Stream>,
}

impl World {
    fn change(&mut self, keys: u8) {
        self.history.push(keys);
        self.client.revision = self.revision();
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.history.len()).expect("few") + 1
    }

    fn events(&self, range: &KeyRange, from: i64, to: i64) -> Vec<(i64, &'static str)> {
        let revisions = (2..).zip(&self.history);
        let revisions = revisions.filter(|(revision, _)| (from..=to).contains(revision));
        let events = revisions.flat_map(|(revision, keys)| {
            let changed = (0..).zip(KEYS).filter(move |(bit, _)| keys & 1 << bit != 0);
            changed.map(move |(_, key)| (revision, key))
        });
        events
            .filter(|(_, key)| range.contains(key.as_bytes()))
            .collect()
    }

    fn step(&mut self, data: &mut Bytes<'_>) {
        let no = StreamNo::from(data.byte() & 3);
        match data.below(16) {
            0 | 1 => self.change(data.byte() % 15 + 1),
            2 if self.client.readers.len() < WATCHES => {
                let range = match data.below(3) {
                    0 => KeyRange::key("a"),
                    1 => KeyRange::range("b", "d"),
                    _ => KeyRange::all(),
                };
                let start = data.flag().then(|| i64::from(data.byte()) % 40);
                self.client.add(range, start, data.flag());
            }
            3 => {
                if let Some(id) = self.client.any(data.below(WATCHES)) {
                    match data.flag() {
                        true => self.client.remove(id),
                        false => self.client.request_progress(id),
                    }
                }
            }
            4 => {
                let id = self.client.any(data.below(WATCHES));
                id.into_iter().for_each(|id| self.client.drain(id));
            }
            5 if data.flag() && self.client.opening.remove(&no) => {
                let end = StreamEnd::Unconnected("refused".into());
                self.client.feed(no, Input::Ended(end));
            }
            5 | 6 => self.connect(no),
            7 => self.answer_read(no),
            8 | 9 => self.take(no),
            10 => self.send(no, data.below(8), data.byte().into()),
            11 | 12 => self.receive(no),
            13 if self.client.open.remove(&no).is_some() => {
                self.streams.remove(&no);
                let end = match data.flag() {
                    true => StreamEnd::Eof,
                    false => StreamEnd::Broken("reset".into()),
                };
                self.client.feed(no, Input::Ended(end));
            }
            14 if data.byte() & 7 == 0 => {
                let revision = i64::from(data.byte()) % self.revision() + 1;
                self.compacted = self.compacted.max(revision);
            }
            14 => self.send_again(no, data.below(8), data.byte().into()),
            _ => self.client.pass(Duration::from_millis(data.short().into())),
        }
        self.forget_closed();
    }

    /// One round without faults.
    fn round(&mut self) {
        let streams = || SHARED..SHARED + 64;
        for no in streams()
            .filter(|no| self.client.opening.contains(no))
            .collect::<Vec<_>>()
        {
            self.connect(no);
        }
        let open: Vec<StreamNo> = self.client.open.keys().copied().collect();
        for no in open {
            self.answer_read(no);
            for _ in 0..3 * WATCHES {
                self.take(no);
            }
            let watches = self
                .streams
                .get(&no)
                .map_or(0, |stream| stream.watches.len());
            for index in 0..watches {
                self.send(no, index, 8);
            }
            for _ in 0..8 * WATCHES {
                self.receive(no);
            }
        }
        for id in self.client.readers.keys().copied().collect::<Vec<_>>() {
            self.client.drain(id);
        }
        self.client.pass(Duration::from_millis(300));
        self.forget_closed();
    }

    /// Forgets the streams that the client has closed.
    fn forget_closed(&mut self) {
        let open = &self.client.open;
        self.streams.retain(|no, _| open.contains_key(no));
    }

    fn connect(&mut self, no: StreamNo) {
        if self.client.opening.contains(&no) {
            self.streams.insert(no, Stream::default());
            self.client.connect(no, true);
        }
    }

    fn answer_read(&mut self, no: StreamNo) {
        let revision = self.revision();
        if let Some(open) = self.client.open.get_mut(&no)
            && std::mem::take(&mut open.reading)
        {
            self.client.feed(no, Input::Read(Ok(revision)));
        }
    }

    fn respond(&mut self, no: StreamNo, response: WatchResponse) {
        let header = Some(ResponseHeader {
            revision: self.revision(),
            ..ResponseHeader::default()
        });
        let response = WatchResponse { header, ..response };
        let events = response.events.len();
        let input = match events > FIT {
            true => Input::TooLarge {
                outline: WatchResponse {
                    events: Vec::new(),
                    ..response
                },
                events,
                bytes: 1 << 20,
            },
            false => Input::Message(response),
        };
        if let Some(stream) = self.streams.get_mut(&no) {
            stream.responses.push_back(input);
        }
    }

    /// The server reads the next request.
    fn take(&mut self, no: StreamNo) {
        let requests = self.client.open.get_mut(&no);
        let request = requests.and_then(|open| open.requests.pop_front());
        match request {
            Some(RequestUnion::CreateRequest(create)) => self.create(no, create),
            Some(RequestUnion::CancelRequest(cancel)) => {
                let watches = self.streams.get_mut(&no).map(|stream| &mut stream.watches);
                if watches.is_some_and(|of| of.remove(&cancel.watch_id).is_some()) {
                    let response = WatchResponse {
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..WatchResponse::default()
                    };
                    self.respond(no, response);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                let revision = self.revision();
                let stream = self.streams.get(&no);
                let synced = |stream: &Stream| {
                    let mut watches = stream.watches.values();
                    watches.all(|remote| remote.next > revision)
                };
                if stream.is_some_and(synced) {
                    let response = WatchResponse {
                        watch_id: -1,
                        ..WatchResponse::default()
                    };
                    self.respond(no, response);
                }
            }
            None => {}
        }
    }

    fn create(&mut self, no: StreamNo, create: WatchCreateRequest) {
        assert!(create.start_revision > 0, "a start of 0 is a race");
        assert_eq!(create.fragment, no != SHARED, "only where it must be");
        let Some(stream) = self.streams.get_mut(&no) else {
            return;
        };
        let wire = stream.next_wire;
        stream.next_wire += 1;
        let remote = Remote {
            range: KeyRange::range(create.key, create.range_end),
            next: create.start_revision,
            fragments: create.fragment,
        };
        stream.watches.insert(wire, remote);
        let response = WatchResponse {
            watch_id: wire,
            created: true,
            ..WatchResponse::default()
        };
        self.respond(no, response);
    }

    /// Sends the events of up to `revisions` revisions to one watch, or its progress if there are none.
    fn send(&mut self, no: StreamNo, index: usize, revisions: i64) {
        let (revision, compacted) = (self.revision(), self.compacted);
        let Some(stream) = self.streams.get_mut(&no) else {
            return;
        };
        let index = index % stream.watches.len().max(1);
        let Some((&wire, remote)) = stream.watches.iter_mut().nth(index) else {
            return;
        };
        if remote.next < compacted {
            stream.watches.remove(&wire);
            let response = WatchResponse {
                watch_id: wire,
                canceled: true,
                compact_revision: compacted,
                ..WatchResponse::default()
            };
            return self.respond(no, response);
        }
        if remote.next > revision {
            let response = WatchResponse {
                watch_id: wire,
                ..WatchResponse::default()
            };
            return self.respond(no, response);
        }
        let (from, to) = (remote.next, revision.min(remote.next + revisions));
        remote.next = to + 1;
        self.send_range(no, wire, from, to);
    }

    /// Sends events again, as servers with known faults do.
    fn send_again(&mut self, no: StreamNo, index: usize, revisions: i64) {
        let Some(stream) = self.streams.get(&no) else {
            return;
        };
        let index = index % stream.watches.len().max(1);
        if let Some((&wire, remote)) = stream.watches.iter().nth(index) {
            let to = (remote.next - 1).min(self.revision());
            self.send_range(no, wire, to - revisions, to);
        }
    }

    fn send_range(&mut self, no: StreamNo, wire: i64, from: i64, to: i64) {
        let remote = self.streams.get(&no).and_then(|s| s.watches.get(&wire));
        let Some(remote) = remote else { return };
        let events = self.events(&remote.range, from, to);
        let size = if remote.fragments {
            FIT - 1
        } else {
            usize::MAX
        };
        let count = events.len().div_ceil(size);
        for (number, piece) in (1..).zip(events.chunks(size)) {
            let event = |(revision, key): &(i64, &'static str)| Event {
                kv: Some(KeyValue {
                    key: bytes::Bytes::from_static(key.as_bytes()),
                    mod_revision: *revision,
                    ..KeyValue::default()
                }),
                ..Event::default()
            };
            let response = WatchResponse {
                watch_id: wire,
                fragment: number < count,
                events: piece.iter().map(event).collect(),
                ..WatchResponse::default()
            };
            self.respond(no, response);
        }
    }

    fn receive(&mut self, no: StreamNo) {
        let stream = self.streams.get_mut(&no);
        if let Some(input) = stream.and_then(|stream| stream.responses.pop_front()) {
            self.client.feed(no, input);
        }
    }

    /// The events that a reader must have. `None` if it was never created.
    fn expected(&self, reader: &Reader) -> Option<Vec<(i64, &'static str)>> {
        let created_at = reader.created_at?;
        let first = reader.got.first().map(|(revision, _)| *revision);
        let start = match (reader.start, first) {
            (Some(start), _) => start,
            // What is written while the watch is created may be delivered.
            (None, Some(first)) => first.min(created_at + 1),
            (None, None) => created_at + 1,
        };
        let end = match reader.error {
            None => self.revision(),
            Some(_) => reader.got.last().map_or(0, |(revision, _)| *revision),
        };
        Some(self.events(&reader.range, start, end))
    }

    fn is_done(&self) -> bool {
        self.client.readers.values().all(|reader| {
            let expected = self.expected(reader).map(|expected| expected.len());
            reader.error.is_some() || expected.is_some_and(|count| reader.got.len() >= count)
        })
    }

    fn check(&self) {
        for (id, reader) in &self.client.readers {
            match reader.error {
                None => assert!(reader.created_at.is_some()),
                Some(kind) => assert_eq!(kind, ErrorKind::Compacted),
            }
            if let (None, Some((first, _))) = (reader.start, reader.got.first()) {
                assert!(*first > reader.asked_at, "{id} has what was there before");
            }
            let got = reader.got.iter();
            let got: Vec<_> = got
                .map(|(revision, key)| (*revision, String::from_utf8_lossy(key)))
                .collect();
            let expected = self.expected(reader).unwrap_or_default();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(revision, key)| (revision, key.into()))
                .collect();
            assert_eq!(got, expected, "{id}");
        }
    }
}

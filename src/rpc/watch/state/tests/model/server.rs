//! The server of the model: handles requests and sends events.

use std::collections::{BTreeMap, VecDeque};

use super::store::{self, event};
use super::{StreamNo, World};
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader;
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::rpc::watch::state::{Input, SHARED};
use crate::types::key_range::KeyRange;

/// The number of events that fit into a message when responses may be too large.
const FIT: usize = 4;

#[derive(Debug)]
struct Remote {
    range: KeyRange,
    start: i64,
    next: i64,
    fragments: bool,
}

/// A stream on the server, and the messages in transit in both directions.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) requests: VecDeque<pb::WatchRequest>,
    /// The inputs that the client receives next.
    pub(super) responses: VecDeque<Input>,
    watches: BTreeMap<i64, Remote>,
    next_wire: i64,
    pub(super) reading: bool,
    pub(super) doubted: bool,
}

impl Stream {
    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }
}

impl World {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.store.revision(),
            ..ResponseHeader::default()
        })
    }

    fn respond(&mut self, no: StreamNo, response: pb::WatchResponse) {
        let header = self.header();
        let response = pb::WatchResponse { header, ..response };
        let events = response.events.len();
        let input = match self.faults.large && events > FIT {
            true => Input::TooLarge {
                outline: pb::WatchResponse {
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

    pub(super) fn server_takes(&mut self) {
        let Some(no) = self.any_stream() else { return };
        let Some(stream) = self.streams.get_mut(&no) else {
            return;
        };
        let Some(request) = stream.requests.pop_front() else {
            return;
        };
        match request.request_union.expect("a request") {
            RequestUnion::CreateRequest(create) => {
                assert!(create.start_revision > 0, "a start of 0 is a race");
                assert_eq!(create.watch_id, 0);
                assert_eq!(
                    create.fragment,
                    no != SHARED,
                    "fragments only where they must be"
                );
                if self.faults.expiry && self.rng.u8(0..8) == 0 {
                    return self.respond(no, store::refused());
                }
                let wire = stream.next_wire;
                stream.next_wire += 1;
                let range = KeyRange::range(create.key, create.range_end);
                let next = create.start_revision;
                let fragments = create.fragment;
                let remote = Remote {
                    range,
                    start: next,
                    next,
                    fragments,
                };
                stream.watches.insert(wire, remote);
                self.respond(
                    no,
                    pb::WatchResponse {
                        watch_id: wire,
                        created: true,
                        ..Default::default()
                    },
                );
            }
            RequestUnion::CancelRequest(cancel) => {
                if stream.watches.remove(&cancel.watch_id).is_some() {
                    self.respond(
                        no,
                        pb::WatchResponse {
                            watch_id: cancel.watch_id,
                            canceled: true,
                            ..Default::default()
                        },
                    );
                }
            }
            RequestUnion::ProgressRequest(_) => {
                let revision = self.store.revision();
                let is_synced =
                    |remote: &Remote| remote.next > revision && remote.start <= revision;
                if stream.watches.values().all(is_synced) {
                    self.respond(
                        no,
                        pb::WatchResponse {
                            watch_id: -1,
                            ..Default::default()
                        },
                    );
                }
            }
        }
    }

    fn any_remote(&mut self) -> Option<(StreamNo, i64)> {
        let no = self.any_stream()?;
        let wires: Vec<i64> = self.streams.get(&no)?.watches.keys().copied().collect();
        Some((no, self.rng.choice(wires)?))
    }

    /// Sends the next events of one watch: whole revisions, maybe in fragments.
    pub(super) fn server_sends(&mut self) {
        if let Some((no, wire)) = self.any_remote() {
            self.server_sends_to(no, wire);
        }
    }

    /// Sends the next events of all watches.
    pub(super) fn server_sends_all(&mut self) {
        let all = self.streams.iter();
        let all = all.flat_map(|(no, stream)| stream.watches.keys().map(|wire| (*no, *wire)));
        for (no, wire) in all.collect::<Vec<_>>() {
            self.server_sends_to(no, wire);
        }
    }

    fn server_sends_to(&mut self, no: StreamNo, wire: i64) {
        let (revision, compacted) = (self.store.revision(), self.store.compacted);
        let Some(stream) = self.streams.get_mut(&no) else {
            return;
        };
        let Some(remote) = stream.watches.get_mut(&wire) else {
            return;
        };
        if remote.next < compacted {
            stream.watches.remove(&wire);
            return self.respond(
                no,
                pb::WatchResponse {
                    watch_id: wire,
                    canceled: true,
                    compact_revision: compacted,
                    ..Default::default()
                },
            );
        }
        if remote.next > revision {
            return;
        }
        let to = self.rng.i64(remote.next..=revision);
        let events = self.store.events(&remote.range, remote.next, to);
        remote.next = to + 1;
        let fragments = remote.fragments;
        self.send_events(no, wire, events, fragments);
    }

    /// Sends old events again, as servers with known bugs do.
    pub(super) fn server_sends_again(&mut self) {
        let Some((no, wire)) = self.any_remote() else {
            return;
        };
        let Some(remote) = self.streams.get(&no).and_then(|s| s.watches.get(&wire)) else {
            return;
        };
        let to = (remote.next - 1).min(self.store.revision());
        if to >= 2 {
            let from = self.rng.i64(2..=to);
            let events = self.store.events(&remote.range, from, to);
            let fragments = remote.fragments;
            self.send_events(no, wire, events, fragments);
        }
    }

    fn send_events(
        &mut self,
        no: StreamNo,
        wire: i64,
        mut events: Vec<(i64, &'static str)>,
        fragments: bool,
    ) {
        // A response that was ready before the watch was created comes in one piece.
        let fragments = fragments && self.rng.u32(0..16) > 0;
        while !events.is_empty() {
            let cut = match fragments {
                true => self.rng.usize(1..=events.len().min(FIT)),
                false => events.len(),
            };
            let rest = events.split_off(cut);
            let piece = std::mem::replace(&mut events, rest);
            self.respond(
                no,
                pb::WatchResponse {
                    watch_id: wire,
                    fragment: !events.is_empty(),
                    events: piece
                        .into_iter()
                        .map(|(revision, key)| event(revision, key))
                        .collect(),
                    ..Default::default()
                },
            );
        }
    }

    pub(super) fn server_progress(&mut self) {
        let Some((no, wire)) = self.any_remote() else {
            return;
        };
        let revision = self.store.revision();
        let synced = self.streams.get(&no).and_then(|s| s.watches.get(&wire));
        if synced.is_some_and(|remote| remote.next > revision) {
            self.respond(
                no,
                pb::WatchResponse {
                    watch_id: wire,
                    ..Default::default()
                },
            );
        }
    }
}

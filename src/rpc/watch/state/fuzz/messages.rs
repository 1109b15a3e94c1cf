//! A server that sends anything, at any time.

use std::time::Duration;

use prost::Message as _;

use super::readers::Readers;
use crate::error::ServerError;
use crate::fuzz::input::Input as Bytes;
use crate::grpc::etcd_rs_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::grpc::etcd_rs_proto::mvccpb::{Event, KeyValue};
use crate::rpc::watch::state::{Input, StreamEnd, StreamNo};
use crate::types::key_range::KeyRange;

/// The largest message, and the largest revision, in bytes.
const LIMIT: usize = 400;

/// The most watches.
const WATCHES: usize = 6;

/// Reasons to cancel a watch that are handled in different ways.
const REASONS: [&str; 8] = [
    "",
    "x",
    "etcdserver: no leader",
    "etcdserver: invalid auth token",
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    "etcdserver: rpc not supported for learner",
    "mvcc: required revision has been compacted",
    "etcdserver: too many requests",
];

/// Feeds the responses in `data` to the watches of a client. No reader receives an event twice, out of order, outside
/// of its range or after its last item.
pub(crate) fn messages(data: &[u8]) {
    let mut data = Bytes::new(data);
    let mut client = Readers::new(LIMIT);
    while !data.is_empty() {
        step(&mut client, &mut data);
    }
}

fn step(client: &mut Readers, data: &mut Bytes<'_>) {
    let no = StreamNo::from(data.byte() & 3);
    match data.below(16) {
        0 if client.readers.len() < WATCHES => {
            let range = match data.below(3) {
                0 => KeyRange::key("k"),
                1 => KeyRange::prefix("a"),
                _ => KeyRange::all(),
            };
            let start = data.flag().then(|| data.number());
            client.add(range, start, data.flag());
        }
        1 => {
            let id = client.any(data.below(WATCHES));
            id.into_iter().for_each(|id| client.remove(id));
        }
        2 => {
            let id = client.any(data.below(WATCHES));
            id.into_iter().for_each(|id| client.request_progress(id));
        }
        3 => {
            let id = client.any(data.below(WATCHES));
            id.into_iter().for_each(|id| client.drain(id));
        }
        4 | 5 => client.connect(no, data.flag()),
        6 => {
            if let Some(open) = client.open.get_mut(&no)
                && std::mem::take(&mut open.reading)
            {
                let read = match data.byte() {
                    0 => Err(end(data)),
                    _ => Ok(data.number()),
                };
                client.feed(no, Input::Read(read));
            }
        }
        7 if client.opening.remove(&no) || client.open.remove(&no).is_some() => {
            let end = end(data);
            client.feed(no, Input::Ended(end));
        }
        8 => client.pass(Duration::from_millis(data.short().into())),
        9 if client.open.contains_key(&no) => {
            let outline = WatchResponse {
                events: Vec::new(),
                ..response(data)
            };
            let (events, bytes) = (data.below(4), LIMIT + 1);
            let input = Input::TooLarge {
                outline,
                events,
                bytes,
            };
            client.feed(no, input);
        }
        10 if client.open.contains_key(&no) => {
            if let Ok(message) = WatchResponse::decode(data.bytes(LIMIT)) {
                client.feed(no, Input::Message(message));
            }
        }
        11 if client.open.contains_key(&no) => {
            let epoch = data.byte().into();
            let why = "its cluster id changed".into();
            client.feed(no, Input::Replaced { epoch, why });
        }
        _ if client.open.contains_key(&no) => {
            let message = response(data);
            client.feed(no, Input::Message(message));
        }
        _ => {}
    }
}

fn end(data: &mut Bytes<'_>) -> StreamEnd {
    match data.below(6) {
        0 => StreamEnd::Unconnected("refused".into()),
        1 => StreamEnd::TlsFailed("unknown authority".into()),
        2 => StreamEnd::Broken("reset".into()),
        3 => StreamEnd::Silent("no answer".into()),
        4 => {
            let code = data.below(17);
            let text = REASONS.get(data.below(REASONS.len()));
            let code = i32::try_from(code).unwrap_or_default();
            StreamEnd::Answer(ServerError::read(code, text.unwrap_or(&"")))
        }
        _ => StreamEnd::Eof,
    }
}

/// A response: its ids and revisions are mostly small, so that they meet those of other responses.
fn response(data: &mut Bytes<'_>) -> WatchResponse {
    let flags = data.byte();
    let has = |bit: u8| flags & 1 << bit != 0;
    let header = (!has(0)).then(|| ResponseHeader {
        revision: data.number(),
        ..ResponseHeader::default()
    });
    let watch_id = match data.byte() {
        id @ 0..=127 => i64::from(id & 7),
        255 => -1,
        _ => data.number(),
    };
    let created = has(1);
    let canceled = has(2);
    let compact_revision = if has(3) { data.number() } else { 0 };
    let reason = if has(4) { data.below(REASONS.len()) } else { 0 };
    let mut revision = data.number();
    let count = data.below(6);
    let events = (0..count).map(|_| {
        let kind = data.byte();
        revision = match kind & 7 {
            7 => data.number(),
            step @ 0..=3 => revision.saturating_add(step.into()),
            _ => revision,
        };
        let key = [&b"k"[..], b"a", b"ab", b"z"][usize::from(kind >> 3 & 3)];
        let kv = KeyValue {
            key: bytes::Bytes::from_static(key),
            mod_revision: revision,
            value: vec![0; usize::from(kind >> 5) * 20].into(),
            ..KeyValue::default()
        };
        Event {
            r#type: i32::from(kind >> 7),
            kv: Some(kv).filter(|_| kind != 0xff),
            ..Event::default()
        }
    });
    WatchResponse {
        events: events.collect(),
        header,
        watch_id,
        created,
        canceled,
        compact_revision,
        cancel_reason: REASONS.get(reason).unwrap_or(&"").to_string(),
        fragment: has(5),
    }
}

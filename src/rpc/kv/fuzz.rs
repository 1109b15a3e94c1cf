//! The fuzz target of paged reads.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use bytes::Bytes;

use super::get::{Get, GetResponse};
use super::paging::Paging;
use super::range_stream::KeyOrderCheck;
use crate::error::{Error, ErrorKind};
use crate::fuzz::input::Input;
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::grpc::etcd_rs_proto::mvccpb;
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;

/// The most keys of the store.
const KEYS: usize = 40;

/// Reads a store in pages: each key once, in order, however large the pages are. Then reads what a server sends that
/// keeps no promise: each page begins after the last key of the one before it, and an empty page ends the read.
pub(crate) fn pages(data: &[u8]) {
    let mut data = Input::new(data);
    let range = match data.below(4) {
        0 => KeyRange::prefix("k"),
        1 => KeyRange::range("a", "m"),
        2 => KeyRange::from_key("\x01"),
        _ => KeyRange::all(),
    };
    let size = u32::from(data.byte() % 16) + 1;
    let mut keys: Vec<&[u8]> = (0..data.below(KEYS)).map(|_| data.bytes(3)).collect();
    keys.retain(|key| !key.is_empty());
    keys.sort_unstable();
    keys.dedup();
    honest(&range, size, &keys, &mut data);
    hostile(&range, size, &mut data);
}

fn kv(key: &[u8]) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(key),
        ..mvccpb::KeyValue::default()
    }
}

fn answer(keys: &[&[u8]], revision: i64, more: bool) -> GetResponse {
    let header = ResponseHeader {
        revision,
        ..ResponseHeader::default()
    };
    RangeResponse {
        header: Some(header),
        kvs: keys.iter().map(|key| kv(key)).collect(),
        more,
        count: 0,
    }
    .into()
}

fn honest(range: &KeyRange, size: u32, keys: &[&[u8]], data: &mut Input<'_>) {
    let mut paging = Paging::new(Get::range(range.clone()), size).expect("a plain read");
    let mut read = Vec::new();
    let mut refused = 0;
    while let Some(next) = paging.next() {
        let limit = usize::try_from(next.pb.limit).unwrap();
        assert!((1..=usize::try_from(size).unwrap()).contains(&limit));
        // The response can be over the limit of the client, a few times.
        if refused < 8 && data.byte() & 7 == 7 {
            refused += 1;
            let shrinks = paging.shrink(&Error::new(ErrorKind::TooLarge, "too large"));
            assert_eq!(shrinks, limit > 1);
            continue;
        }
        let rest = KeyRange::range(next.pb.key.clone(), next.pb.range_end.clone());
        let found: Vec<&[u8]> = keys
            .iter()
            .copied()
            .filter(|key| rest.contains(key))
            .collect();
        let page = &found[..limit.min(found.len())];
        let page = paging.take(answer(page, 5, found.len() > limit));
        read.extend(page.into_iter().map(|kv| kv.key().clone()));
        assert_eq!(paging.revision().map(|revision| revision.get()), Some(5));
    }
    let expected = keys.iter().filter(|key| range.contains(key));
    assert!(read.iter().eq(expected), "{read:?}");
}

fn hostile(range: &KeyRange, size: u32, data: &mut Input<'_>) {
    let mut paging = Paging::new(Get::range(range.clone()), size).expect("a plain read");
    let mut order = KeyOrderCheck::new(range.clone());
    let mut ordered: Vec<Bytes> = Vec::new();
    let mut is_ordered = true;
    for _ in 0..64 {
        if data.is_empty() || paging.is_done() {
            break;
        }
        let keys: Vec<&[u8]> = (0..data.below(4)).map(|_| data.bytes(4)).collect();
        let more = data.byte() > 8;
        let page = paging.take(answer(&keys, data.number(), more));
        assert_eq!(page.len(), keys.len());
        // The end of the range never moves, and an empty page is the last one.
        if let Some(next) = paging.next() {
            assert_eq!(next.pb.range_end, range.range_end());
            assert!(next.pb.key > keys[keys.len() - 1]);
        } else {
            assert!(!more || keys.is_empty());
        }
        let kvs: Vec<KeyValue> = keys.iter().map(|key| kv(key).into()).collect();
        is_ordered = is_ordered && order.accept(&kvs);
        if is_ordered {
            ordered.extend(kvs.iter().map(|kv| kv.key().clone()));
        }
    }
    assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    assert!(ordered.iter().all(|key| range.contains(key)));
}

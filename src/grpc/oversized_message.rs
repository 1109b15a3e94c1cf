//! Scans a protobuf message that is too large to keep, and keeps only its small fields. Pure.
//!
//! The scanner accepts the message in pieces of any size. It keeps numbers and field 1, which is
//! the header in every response of etcd; it skips strings, lists and nested messages. The kept
//! bytes are a message of the same type.

use bytes::Bytes;

/// The longest header that is kept; etcd's has about 40 bytes.
const LONGEST_HEADER: u64 = 256;

/// The most bytes that are kept. Messages of etcd have tens of fields that are not repeated; a
/// message with more is malformed.
const MOST_KEPT: usize = 1024;

/// The longest tag followed by a length or a number: two varints.
const LONGEST_HEAD: usize = 20;

/// The number of the header field in every response of etcd.
const HEADER: u64 = 1;

/// The message is not valid protobuf, or not a message of etcd.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Scans an oversized message as it arrives.
#[derive(Debug, Default)]
pub(super) struct OversizedScanner {
    kept: Vec<u8>,
    /// The tag of the current field with its length or number, as far as received.
    head: Vec<u8>,
    /// The remaining bytes of the current field, and whether they are kept.
    left: u64,
    keeping: bool,
    /// How many strings, lists and messages were skipped.
    passed: usize,
}

/// The payload that follows the head of a field.
#[derive(Debug, PartialEq, Eq)]
struct Payload {
    length: u64,
    keep: bool,
}

impl OversizedScanner {
    /// Scans the next bytes of the message.
    pub(super) fn push(&mut self, mut data: &[u8]) -> Result<(), Malformed> {
        while let Some((first, rest)) = data.split_first() {
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (payload, rest) = data.split_at(length.min(data.len()));
                self.left = self.left.saturating_sub(payload.len() as u64);
                if self.keeping {
                    self.keep(payload)?;
                }
                data = rest;
                continue;
            }
            data = rest;
            self.head.push(*first);
            if let Some(Payload { length, keep }) = payload(&self.head)? {
                (self.left, self.keeping) = (length, keep);
                let head = std::mem::take(&mut self.head);
                if keep {
                    self.keep(&head)?;
                } else {
                    self.passed += 1;
                }
            } else if self.head.len() >= LONGEST_HEAD {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// Returns the message without its skipped fields, and how many were skipped. Fails when the
    /// message is incomplete.
    pub(super) fn finish(self) -> Result<(Bytes, usize), Malformed> {
        match self.head.is_empty() && self.left == 0 {
            true => Ok((self.kept.into(), self.passed)),
            false => Err(Malformed),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.kept.len() + bytes.len() > MOST_KEPT {
            return Err(Malformed);
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }
}

/// The payload after this head; `None` while the head is incomplete.
fn payload(head: &[u8]) -> Result<Option<Payload>, Malformed> {
    let Some((tag, rest)) = varint(head) else {
        return Ok(None);
    };
    let scalar = |length| Some(Payload { length, keep: true });
    Ok(match tag & 7 {
        0 => varint(rest).and_then(|_| scalar(0)),
        1 => scalar(8),
        2 => varint(rest).map(|(length, _)| Payload {
            length,
            keep: tag >> 3 == HEADER && length <= LONGEST_HEADER,
        }),
        5 => scalar(4),
        _ => return Err(Malformed),
    })
}

/// Decodes a varint, and returns it with the bytes that follow.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::etcd_rs_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use crate::grpc::etcd_rs_proto::mvccpb::{Event, KeyValue};

    fn response(watch_id: i64) -> WatchResponse {
        let kv = KeyValue {
            key: "k".into(),
            value: vec![b'v'; 5000].into(),
            ..KeyValue::default()
        };
        let event = Event {
            kv: Some(kv),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision: 1 << 40,
                cluster_id: u64::MAX,
                ..ResponseHeader::default()
            }),
            watch_id,
            fragment: true,
            events: vec![event; 3],
            ..WatchResponse::default()
        }
    }

    fn outline(bytes: &[u8], pieces: usize) -> Result<(Bytes, usize), Malformed> {
        let mut outline = OversizedScanner::default();
        for piece in bytes.chunks(pieces) {
            outline.push(piece)?;
        }
        outline.finish()
    }

    #[test]
    fn the_outline_is_the_message_without_lists_for_any_size_of_pieces() {
        for watch_id in [0, 1, 300, i64::MAX, -1] {
            let whole = response(watch_id);
            let bytes = whole.encode_to_vec();
            let expected = WatchResponse {
                events: Vec::new(),
                ..whole
            };
            for pieces in [1, 2, 3, 7, 100, 5001, bytes.len()] {
                let (kept, passed) = outline(&bytes, pieces).unwrap();
                assert_eq!(passed, 3);
                assert!(kept.len() < 200);
                assert_eq!(WatchResponse::decode(kept).unwrap(), expected);
            }
        }
    }

    #[test]
    fn the_order_of_the_fields_does_not_matter() {
        let events = WatchResponse {
            header: None,
            watch_id: 0,
            fragment: false,
            ..response(0)
        };
        let rest = WatchResponse {
            events: Vec::new(),
            ..response(9)
        };
        let bytes = [events.encode_to_vec(), rest.encode_to_vec()].concat();
        let kept = WatchResponse::decode(outline(&bytes, 11).unwrap().0).unwrap();
        assert_eq!((kept.watch_id, kept.header), (9, rest.header));
    }

    #[test]
    fn a_truncated_message_and_a_field_without_end_are_malformed() {
        let bytes = response(3).encode_to_vec();
        for end in [1, 5, bytes.len() - 1] {
            assert_eq!(outline(&bytes[..end], 9), Err(Malformed), "{end}");
        }
        assert_eq!(outline(&[0xff; 30], 4), Err(Malformed));
        // A group, which etcd does not use.
        assert_eq!(outline(&[0x0b], 1), Err(Malformed));
    }

    #[test]
    fn the_outline_of_a_message_of_numbers_is_bounded() {
        let numbers = |bytes| [0x10, 0x01].repeat(bytes / 2);
        assert_eq!(outline(&numbers(2 * MOST_KEPT), 64), Err(Malformed));
        assert_eq!(outline(&numbers(MOST_KEPT + 2), 64), Err(Malformed));
        let most = numbers(MOST_KEPT);
        assert_eq!(outline(&most, 64), Ok((most.into(), 0)));
    }

    #[test]
    fn numbers_of_every_width_are_kept_and_everything_else_but_the_header_is_skipped() {
        let varint = &[0x10, 0x96, 0x01][..];
        let eight = &[0x19, 1, 2, 3, 4, 5, 6, 7, 8];
        let four = &[0x25, 1, 2, 3, 4];
        let header = &[0x0a, 2, 0x18, 7];
        let short = &[0x32, 3, b'a', b'b', b'c'];
        // A header that is longer than any of etcd.
        let long = [&[0x0a, 0x81, 0x02][..], &[b'x'; 257]].concat();
        let longest = [&[0x0a, 0x80, 0x02][..], &[b'y'; 256]].concat();
        let all = [varint, eight, short, four, &long, header, &longest].concat();
        let kept = [varint, eight, four, header, &longest].concat();
        for pieces in [1, 2, 5, all.len()] {
            assert_eq!(outline(&all, pieces), Ok((kept.clone().into(), 2)));
        }
    }
}

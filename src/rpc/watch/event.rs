//! The items of a watch, and the events in them.

use bytes::Bytes;

use crate::grpc::etcd_rs_proto::mvccpb;
use crate::rpc::namespace::Namespace;
use crate::types::{KeyValue, ResponseHeader, Revision};

/// The size of a buffer that small messages share: see `grpc/message_splitter`.
const SHARED_BUFFER: usize = 64 * 1024;

/// The responses of a queue that may retain such buffers: 8 MiB at most.
const SHARING: usize = 128;

/// One item of a watch: the changes of one or more whole revisions, in order; or progress.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for response in &client.watch_prefix("config/")? {
///     let response = response?;
///     println!("{} changes up to {:?}", response.events().len(), response.revision());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct WatchResponse {
    header: ResponseHeader,
    events: Vec<Event>,
}

impl WatchResponse {
    pub(crate) fn new(header: ResponseHeader, events: Vec<Event>) -> Self {
        WatchResponse { header, events }
    }

    /// The header of the response. Its revision is that of the store when the response was sent, and
    /// may be far ahead of the events: see [`revision`](WatchResponse::revision).
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision up to which everything was delivered: that of the last event, or that of the
    /// progress. A watch that starts at the next revision goes on without a gap.
    pub fn revision(&self) -> Revision {
        self.events
            .last()
            .map_or(self.header.revision, Event::revision)
    }

    /// The changes, in the order in which they happened. Empty in a progress response.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The changes, by value.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Whether this is progress: it has no events, and states that there were none up to its revision.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }

    /// The response as it is kept in a queue in which that many wait.
    ///
    /// A small message shares a buffer of 64 KiB with its neighbours, and a response retains this buffer. Therefore the
    /// responses of a slow reader are copied. A reader that keeps up needs no copies.
    pub(super) fn kept(mut self, waiting: usize) -> Self {
        if waiting >= SHARING {
            self.detach();
        }
        self
    }

    /// Copies the keys and values, unless the message of the response has a buffer of its own.
    fn detach(&mut self) {
        if self.events.iter().map(Event::wire_size).sum::<usize>() >= SHARED_BUFFER {
            return;
        }
        for event in &mut self.events {
            event.kv = event.kv.detached();
            event.prev_kv = event.prev_kv.as_ref().map(KeyValue::detached);
        }
    }
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The key was put.
    Put,
    /// The key was deleted, or its lease ended.
    Delete,
}

/// One change of one key.
///
/// ```no_run
/// use etcd_blocking::watch::EventKind;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for response in &client.watch_prefix("config/")? {
///     for event in response?.events() {
///         match event.kind() {
///             EventKind::Put => println!("{} = {:?}", event.kv().key_lossy(), event.kv().value_str()),
///             EventKind::Delete => println!("{} was deleted", event.kv().key_lossy()),
///             _ => {}
///         }
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    kind: EventKind,
    kv: KeyValue,
    prev_kv: Option<KeyValue>,
}

impl Event {
    /// The kind of the change.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The key and its value after the change. For a deleted key, only the name and the revision of
    /// the deletion ([`KeyValue::mod_revision`]) are set.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }

    /// The key and its value before the change. `None` unless [`Watch::prev_kv`](crate::Watch::prev_kv)
    /// requested it, the key existed, and that revision is not compacted.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        self.prev_kv.as_ref()
    }

    /// Whether a put created the key.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision() == self.kv.mod_revision()
    }

    /// Whether a put replaced the value of an existing key.
    pub fn is_modify(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision() != self.kv.mod_revision()
    }

    /// The key's name.
    pub fn key(&self) -> &Bytes {
        self.kv.key()
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }

    /// Decodes an event; `None` when it has no key, no revision, or the largest number as its revision, after which a
    /// watch could not continue.
    pub(crate) fn read(pb: mvccpb::Event) -> Option<Event> {
        let kv = pb
            .kv
            .filter(|kv| (1..i64::MAX).contains(&kv.mod_revision))?;
        // A kind that this version does not support is read as the default of the field, a put.
        let kind = match pb.r#type {
            kind if kind == i32::from(mvccpb::event::EventType::Delete) => EventKind::Delete,
            _ => EventKind::Put,
        };
        Some(Event {
            kind,
            kv: kv.into(),
            prev_kv: pb.prev_kv.map(KeyValue::from),
        })
    }

    /// Strips a namespace from its key. Returns whether the key was in it.
    pub(super) fn leave(&mut self, namespace: &Namespace) -> bool {
        let inside = namespace.leave(&mut self.kv.key);
        if let (true, Some(prev)) = (inside, &mut self.prev_kv) {
            prev.key = self.kv.key.clone();
        }
        inside
    }

    /// The approximate number of bytes that it takes in a message.
    pub(super) fn wire_size(&self) -> usize {
        /// Revisions, version and lease, with their tags.
        const NUMBERS: usize = 32;
        let of = |kv: &KeyValue| kv.key().len() + kv.value().len() + NUMBERS;
        of(&self.kv) + self.prev_kv.as_ref().map_or(0, of)
    }

    /// The approximate number of bytes of memory that it holds.
    pub(super) fn size(&self) -> usize {
        let of = |kv: &KeyValue| kv.key().len() + kv.value().len();
        size_of::<Event>() + of(&self.kv) + self.prev_kv.as_ref().map_or(0, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(value: &'static str, created: i64, changed: i64) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: "n/k".into(),
            value: value.into(),
            create_revision: created,
            mod_revision: changed,
            ..mvccpb::KeyValue::default()
        }
    }

    fn event(kind: i32, created: i64, changed: i64, prev: Option<mvccpb::KeyValue>) -> Event {
        let read = Event::read(mvccpb::Event {
            r#type: kind,
            kv: Some(kv("abc", created, changed)),
            prev_kv: prev,
        });
        read.unwrap()
    }

    #[test]
    fn a_change_is_a_creation_a_modification_or_a_deletion() {
        let of = |event: Event| (event.kind(), event.is_create(), event.is_modify());
        assert_eq!(of(event(0, 5, 5, None)), (EventKind::Put, true, false));
        assert_eq!(of(event(0, 5, 6, None)), (EventKind::Put, false, true));
        assert_eq!(of(event(1, 0, 6, None)), (EventKind::Delete, false, false));
        assert_eq!(of(event(1, 6, 6, None)), (EventKind::Delete, false, false));
        assert_eq!(
            event(7, 5, 5, None).kind(),
            EventKind::Put,
            "an unknown kind"
        );
    }

    #[test]
    fn an_event_without_a_usable_revision_is_not_read() {
        for revision in [-1, 0, i64::MAX] {
            let pb = mvccpb::Event {
                kv: Some(kv("", 0, revision)),
                ..mvccpb::Event::default()
            };
            assert_eq!(Event::read(pb), None, "{revision}");
        }
        assert_eq!(Event::read(mvccpb::Event::default()), None);
    }

    #[test]
    fn a_detached_response_is_equal_and_shares_no_buffer_with_its_message() {
        let message = Bytes::from(vec![b'x'; 64 * 1024]);
        let part = |from: usize| KeyValue {
            key: message.slice(from..from + 3),
            value: message.slice(from + 3..from + 300),
            ..KeyValue::from(kv("v", 1, 2))
        };
        let event = |n: usize, prev: bool| Event {
            kind: EventKind::Put,
            kv: part(n),
            prev_kv: prev.then(|| part(n + 1000)),
        };
        let events = vec![event(0, true), event(2000, false)];
        let whole = WatchResponse::new(ResponseHeader::default(), events);
        let shared = whole.clone().kept(SHARING - 1);
        assert_eq!(shared.events[0].kv.key.as_ptr(), message.as_ptr());
        let detached = whole.clone().kept(SHARING);
        assert_eq!(detached, whole);
        drop((whole, shared));
        assert!(message.is_unique(), "only this test holds the message");

        // A large message has memory of its own, which is not copied.
        let part = Bytes::from(vec![b'x'; SHARED_BUFFER / 2 - 40]);
        let event = |_| Event {
            kind: EventKind::Put,
            kv: KeyValue {
                value: part.clone(),
                ..KeyValue::from(kv("v", 1, 2))
            },
            prev_kv: None,
        };
        for (events, is_copied) in [(1, true), (2, true), (3, false)] {
            let events = (0..events).map(event).collect();
            let mut response = WatchResponse::new(ResponseHeader::default(), events);
            response.detach();
            let value = &response.events[0].kv.value;
            assert_eq!(value.as_ptr() != part.as_ptr(), is_copied);
        }
        WatchResponse::default().detach();
    }

    #[test]
    fn the_value_before_a_change_has_the_key_and_counts_for_the_size() {
        let (plain, mut both) = (
            event(0, 5, 6, None),
            event(0, 5, 6, Some(kv("12345", 5, 5))),
        );
        assert!(plain.prev_kv().is_none());
        assert_eq!(plain.kv().value(), "abc");
        assert_eq!(both.prev_kv().unwrap().value(), "12345");
        assert_eq!(plain.size(), size_of::<Event>() + 3 + 3);
        assert_eq!(both.size() - plain.size(), 3 + 5);
        assert_eq!(plain.wire_size(), 3 + 3 + 32);
        assert_eq!(both.wire_size() - plain.wire_size(), 3 + 5 + 32);

        assert!(both.leave(&Namespace::new("n/".into()).unwrap()));
        assert_eq!(both.key(), "k");
        assert_eq!(both.prev_kv().unwrap().key(), "k");
        assert!(!both.leave(&Namespace::new("n/".into()).unwrap()));
    }

    #[test]
    fn a_response_is_up_to_its_last_event_or_its_header() {
        let header = ResponseHeader {
            revision: Revision::new(9),
            ..ResponseHeader::default()
        };
        let progress = WatchResponse::new(header, Vec::new());
        assert_eq!(
            (progress.revision(), progress.is_progress()),
            (Revision::new(9), true)
        );
        let events = vec![event(0, 5, 5, None), event(0, 5, 6, None)];
        let response = WatchResponse::new(header, events.clone());
        assert_eq!(
            (response.revision(), response.is_progress()),
            (Revision::new(6), false)
        );
        assert_eq!(response.header().revision, Revision::new(9));
        assert_eq!(response.into_events(), events);
    }
}

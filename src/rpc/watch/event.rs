//! What a watch delivers.

use bytes::Bytes;

use crate::grpc::etcd_rs_proto::mvccpb;
use crate::rpc::namespace::Namespace;
use crate::types::{KeyValue, ResponseHeader, Revision};

/// WatchEntry item of a watch: the changes of one or more whole revisions, in order; or progress.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct WatchResponse {
    header: ResponseHeader,
    events: Vec<Event>,
}

impl WatchResponse {
    pub(crate) fn new(header: ResponseHeader, events: Vec<Event>) -> Self {
        WatchResponse { header, events }
    }

    /// Who sent it. Its revision is that of the store when it was sent, which may be far ahead of
    /// the events: see [`revision`](WatchResponse::revision).
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Everything up to this revision has now been delivered: that of the last event, or the one
    /// that progress is about. A watch from the revision after it goes on without a gap.
    pub fn revision(&self) -> Revision {
        self.events
            .last()
            .map_or(self.header.revision, Event::revision)
    }

    /// The changes, in the order in which they happened; empty in progress.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The changes, to keep.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Whether it brings no events, only the word that there were none up to its revision.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted, or its lease ended.
    Delete,
}

/// WatchEntry change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    kind: EventKind,
    kv: KeyValue,
    prev_kv: Option<KeyValue>,
}

impl Event {
    /// What happened.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The key as it is now. Of a deleted key only the name and the revision of the deletion
    /// ([`KeyValue::mod_revision`]) are left.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }

    /// The key as it was before, when [`Watch::prev_kv`](crate::Watch::prev_kv) asked for it, the
    /// key was there, and that revision is not compacted.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        self.prev_kv.as_ref()
    }

    /// Whether the key was not there before.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision() == self.kv.mod_revision()
    }

    /// Whether a key that was there was put again.
    pub fn is_modify(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision() != self.kv.mod_revision()
    }

    /// The key's name.
    pub fn key(&self) -> &Bytes {
        self.kv.key()
    }

    /// When it happened.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }

    /// An event of the wire; `None` when it names no key or no revision.
    pub(crate) fn read(pb: mvccpb::Event) -> Option<Event> {
        let kv = pb.kv.filter(|kv| kv.mod_revision > 0)?;
        // A kind that no etcd has yet is a kind of put, as the field's default is.
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

    /// Takes a namespace off its key; says whether the key was in it.
    pub(super) fn leave(&mut self, namespace: &Namespace) -> bool {
        let inside = namespace.leave(&mut self.kv.key);
        if let (true, Some(prev)) = (inside, &mut self.prev_kv) {
            // The same key.
            prev.key = self.kv.key.clone();
        }
        inside
    }

    /// About how many bytes it takes in a message.
    pub(super) fn wire_size(&self) -> usize {
        /// Revisions, version and lease, and what says which is which.
        const NUMBERS: usize = 32;
        let of = |kv: &KeyValue| kv.key().len() + kv.value().len() + NUMBERS;
        of(&self.kv) + self.prev_kv.as_ref().map_or(0, of)
    }

    /// About how many bytes of memory it holds.
    pub(super) fn size(&self) -> usize {
        let of = |kv: &KeyValue| kv.key().len() + kv.value().len();
        size_of::<Event>() + of(&self.kv) + self.prev_kv.as_ref().map_or(0, of)
    }
}

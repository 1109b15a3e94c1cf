//! What a registrar knows of an owned key. Pure.

use bytes::Bytes;

use super::OwnedKey;
use crate::discovery::register::key_phase::{Phase, StoredAt};
use crate::discovery::register::key_step::WriteCondition;
use crate::types::Revision;

impl OwnedKey {
    pub(in crate::discovery::register) fn was_held(&self) -> bool {
        self.was_held
    }

    pub(in crate::discovery::register) fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(in crate::discovery::register) fn is_withdrawn(&self) -> bool {
        self.withdrawn
    }

    /// Whether it is withdrawn, or not yet back after that.
    pub(in crate::discovery::register) fn is_out(&self) -> bool {
        self.withdrawn || self.is_returning
    }

    /// Whether it must be put under another lease.
    pub(in crate::discovery::register) fn must_move(&self) -> bool {
        self.must_move
    }

    /// The revision at which the key was last known.
    pub(in crate::discovery::register) fn known_at(&self) -> Revision {
        self.known_at
    }

    /// The revision after which the key must be watched, if it must be watched at all.
    pub(in crate::discovery::register) fn watch_after(&self) -> Option<Revision> {
        match self.phase {
            Phase::Held { .. }
            | Phase::Yielded { .. }
            | Phase::ToWrite(WriteCondition::OnLease(_)) => Some(self.known_at),
            Phase::ToWrite(_)
            | Phase::ToRead
            | Phase::InFlight(_)
            | Phase::Conflict(_)
            | Phase::Withdrawn
            | Phase::Released => None,
        }
    }

    /// The lease and revision of the stored key, as far as known.
    pub(in crate::discovery::register) fn stored_at(&self) -> Option<StoredAt> {
        self.stored_at
    }

    /// Whether etcd has the value that was sent last.
    pub(in crate::discovery::register) fn sent_is_there(&self) -> bool {
        self.stored_at.is_some() && self.last_accepted == self.last_sent
    }

    /// Whether etcd has the wanted value.
    pub(in crate::discovery::register) fn wanted_is_there(&self) -> bool {
        let in_flight = matches!(self.phase, Phase::InFlight(_));
        self.stored_at.is_some() && self.last_accepted == self.value && !in_flight
    }

    /// Whether etcd refused the wanted value.
    pub(in crate::discovery::register) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether the next write is one of the last accepted value. A refused update must not remove the
    /// instance when its key is lost.
    pub(in crate::discovery::register) fn writes_accepted(&self) -> bool {
        self.prefers_accepted && (self.stored_at.is_none() || self.must_move)
    }

    /// The value of the next write.
    pub(in crate::discovery::register) fn next_value(&self) -> &Bytes {
        match self.writes_accepted() {
            true => &self.last_accepted,
            false => &self.value,
        }
    }
}

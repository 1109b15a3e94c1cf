//! Puts the fragments of one response together again.

use crate::error::{Error, ErrorKind};
use crate::watch::event::Event;

/// A response so large is passed on in parts, cut between revisions: a server that sends history
/// makes responses of up to 1000 revisions, whatever their size.
const ENOUGH: usize = 16 << 20;

/// The most that one revision may hold, in bytes and in events. etcd's own limits keep a transaction
/// far below; the end of a lease can delete any number of keys at once.
const MOST_BYTES: usize = 64 << 20;
const MOST_EVENTS: usize = 1 << 20;

/// The fragments of a response that is not complete.
#[derive(Debug, Default)]
pub(super) struct Joining {
    events: Vec<Event>,
    bytes: usize,
}

impl Joining {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Joining::default();
    }

    /// Takes a piece. `last` is the end of the response: then everything comes back. Before it,
    /// whole revisions do when there is enough of them.
    pub(super) fn push(&mut self, piece: Vec<Event>, last: bool) -> Result<Vec<Event>, Error> {
        if last && self.events.is_empty() {
            return Ok(piece);
        }
        self.bytes = self
            .bytes
            .saturating_add(piece.iter().map(Event::size).sum());
        self.events.extend(piece);
        if last {
            self.bytes = 0;
            return Ok(std::mem::take(&mut self.events));
        }
        if self.bytes < ENOUGH && self.events.len() < MOST_EVENTS {
            return Ok(Vec::new());
        }
        let newest = self.events.last().map(Event::revision);
        let whole = self
            .events
            .partition_point(|event| Some(event.revision()) != newest);
        let rest = self.events.split_off(whole);
        let ready = std::mem::replace(&mut self.events, rest);
        self.bytes = self.events.iter().map(Event::size).sum();
        if self.bytes > MOST_BYTES || self.events.len() >= MOST_EVENTS {
            let reason = format!(
                "revision {} changed {} keys with {} bytes and goes on; the limits are {MOST_EVENTS} and {MOST_BYTES}",
                newest.unwrap_or_default(),
                self.events.len(),
                self.bytes
            );
            return Err(Error::new(ErrorKind::TooLarge, reason));
        }
        Ok(ready)
    }
}

//! The fragments of one response, joined.

use crate::error::{Error, ErrorKind};
use crate::rpc::watch::event::Event;

/// A response larger than this is delivered in parts, cut between revisions. etcd sends history in
/// responses of up to 1000 revisions, whatever their size.
const PART_BYTES: usize = 16 << 20;

/// The fragments of a response that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    events: Vec<Event>,
    bytes: usize,
    /// The size of the newest revision in bytes.
    newest: usize,
}

impl Fragments {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Fragments::default();
    }

    /// Adds a fragment and returns the events that can be delivered: with the `last` fragment all of
    /// them, before it whole revisions once they reach [`PART_BYTES`].
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) when one revision has more than `limit` bytes.
    pub(super) fn push(
        &mut self,
        piece: Vec<Event>,
        last: bool,
        limit: usize,
    ) -> Result<Vec<Event>, Error> {
        if last && self.events.is_empty() {
            // A response without fragments needs no copy.
            return Ok(piece);
        }
        let mut revision = self.events.last().map(Event::revision);
        for event in &piece {
            if revision != Some(event.revision()) {
                (revision, self.newest) = (Some(event.revision()), 0);
            }
            // The size on the wire, which the user's limit is about.
            self.newest = self.newest.saturating_add(event.wire_size());
            if self.newest > limit {
                return Err(too_large(event, limit));
            }
            self.bytes = self.bytes.saturating_add(event.size());
        }
        self.events.extend(piece);
        if last {
            return Ok(std::mem::take(self).events);
        }
        if self.bytes < PART_BYTES {
            return Ok(Vec::new());
        }
        let whole = self
            .events
            // The newest revision may continue in the next fragment, so it is kept back.
            .partition_point(|event| Some(event.revision()) != revision);
        let rest = self.events.split_off(whole);
        let ready = std::mem::replace(&mut self.events, rest);
        self.bytes = self.events.iter().map(Event::size).sum();
        Ok(ready)
    }
}

#[cold]
fn too_large(event: &Event, limit: usize) -> Error {
    let reason = format!(
        "revision {} has more than {limit} bytes of changes, including previous values: raise \
         ClientBuilder::receive_limit above that",
        event.revision()
    );
    Error::new(ErrorKind::TooLarge, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::watch::state::tests::model::event;

    fn events(revisions: &[i64]) -> Vec<Event> {
        let read = |revision: &i64| Event::read(event(*revision, "k")).unwrap();
        revisions.iter().map(read).collect()
    }

    fn revisions(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.revision().get()).collect()
    }

    #[test]
    fn a_long_response_is_delivered_in_parts_without_its_newest_revision() {
        let size = events(&[1])[0].size();
        for (before, parts) in [
            (PART_BYTES - 3 * size - 1, [vec![], vec![1, 2, 3, 3, 4]]),
            (PART_BYTES - 3 * size, [vec![1, 2], vec![3, 3, 4]]),
        ] {
            // As if other fragments had come before.
            let mut fragments = Fragments {
                bytes: before,
                ..Fragments::default()
            };
            let first = fragments.push(events(&[1, 2, 3]), false, usize::MAX);
            assert_eq!(revisions(&first.unwrap()), parts[0]);
            let rest = fragments.push(events(&[3, 4]), true, usize::MAX);
            assert_eq!(revisions(&rest.unwrap()), parts[1]);
            assert!(fragments.is_empty() && fragments.bytes == 0);
        }
    }

    #[test]
    fn fragments_are_there_until_the_last_one_or_until_they_are_discarded() {
        let mut fragments = Fragments::default();
        for is_discarded in [true, false] {
            assert!(fragments.is_empty());
            fragments.push(events(&[1, 1]), false, 1000).unwrap();
            assert!(!fragments.is_empty());
            if is_discarded {
                fragments.clear();
                continue;
            }
            let whole = fragments.push(events(&[1]), true, 1000).unwrap();
            assert_eq!(revisions(&whole), [1, 1, 1]);
        }
        assert!(fragments.is_empty());
    }

    #[test]
    fn the_fragment_limit_applies_to_one_revision() {
        let size = events(&[1])[0].wire_size();
        let mut fragments = Fragments::default();
        for revision in 1..100 {
            let piece = events(&[revision, revision, revision + 1]);
            assert!(fragments.push(piece, false, 3 * size).unwrap().is_empty());
        }
        let over = fragments.push(events(&[100]), false, 3 * size);
        assert!(over.is_ok_and(|ready| ready.is_empty()));
        let error = fragments
            .push(events(&[100, 100]), true, 3 * size)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(
            text.contains("revision 100") && text.contains("receive_limit"),
            "{text}"
        );
    }
}

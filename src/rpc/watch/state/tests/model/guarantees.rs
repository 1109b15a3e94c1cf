//! The guarantees that must hold at the end of every history.

use super::server::Stream;
use super::{Reader, WatchId, World};
use crate::error::ErrorKind;

impl World {
    /// Checks the guarantees of every reader.
    pub(in crate::rpc::watch) fn check(&self) {
        // Once more if it begins after the store's revision.
        let once_a_stream = 2 * self.opens * usize::try_from(self.next_id).expect("few");
        let moves = 2 * self.too_large;
        assert!(
            self.creates <= once_a_stream + self.pauses + moves,
            "a storm"
        );
        if self.void {
            return;
        }
        for (id, reader) in &self.readers {
            let Some(created_at) = reader.created_at else {
                assert!(
                    reader.error.is_some(),
                    "{id} was never created: {reader:#?}"
                );
                continue;
            };
            if reader.error == Some(ErrorKind::Rewound) {
                continue;
            }
            // Compaction forgets versions, and the model keeps them to compare.
            let end = match reader.error {
                None if !reader.never_reads => self.store.revision(),
                _ => reader.got.last().map_or(0, |(revision, _)| *revision),
            };
            let start = match (reader.start, reader.got.first()) {
                (Some(start), _) => start,
                (None, Some((first, _))) => {
                    assert!(*first > reader.asked_at || self.rewinds);
                    (*first).min(created_at + 1)
                }
                (None, None) => created_at + 1,
            };
            let expected = self.store.events(&reader.range, start, end);
            let got: Vec<_> = reader
                .got
                .iter()
                .map(|(r, key)| (*r, key.as_str()))
                .collect();
            assert_eq!(got, expected, "{id} {reader:#?}");
        }
        let alive = self
            .readers
            .values()
            .filter(|reader| reader.error.is_none())
            .count();
        let stalled = self
            .readers
            .values()
            .filter(|reader| reader.stalled)
            .count();
        let watches: usize = self.streams.values().map(Stream::watches).sum();
        assert_eq!(watches, alive - stalled, "no watch is left behind");
        let down = |(id, reader): (&WatchId, &Reader)| {
            (reader.down.is_some() && reader.error.is_none() && !reader.stalled).then_some(*id)
        };
        let down: Vec<WatchId> = self.readers.iter().filter_map(down).collect();
        assert!(
            down.is_empty(),
            "{down:?} were never told that they are up again"
        );
    }
}

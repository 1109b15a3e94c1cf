//! The readers of the model: what they receive, and the checks of each item.

use super::World;
use crate::error::{Error, ErrorKind};
use crate::rpc::watch::event::{Event, WatchResponse};
use crate::rpc::watch::state::Input;
use crate::rpc::watch::watch_id::WatchId;
use crate::types::key_range::KeyRange;

/// The responses that a reader has room for.
const CAPACITY: usize = 3;

/// The reader of a watch.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) range: KeyRange,
    pub(super) start: Option<i64>,
    pub(super) asked_at: i64,
    pub(super) created_at: Option<i64>,
    pub(crate) got: Vec<(i64, String)>,
    pub(super) told: i64,
    pub(super) queue: usize,
    pub(super) stalled: bool,
    pub(crate) never_reads: bool,
    pub(crate) error: Option<ErrorKind>,
    /// It is down: the revision of the store at that time, or when its present stream was opened.
    pub(super) down: Option<i64>,
}

impl World {
    /// Checks that `Up` comes after `Down`, and after everything that the store had when the watch went
    /// down or its stream was opened.
    pub(super) fn up(&mut self, id: WatchId) {
        let reader = self.readers.get_mut(&id).expect("of a reader");
        let there = reader.down.take().expect("up after down");
        let missed = self
            .store
            .events(&reader.range, reader.start.unwrap_or(0), there);
        if let Some((newest, _)) = missed.last().filter(|_| !self.rewinds) {
            let got = reader.got.last().map_or(0, |(revision, _)| *revision);
            let before = reader.start.is_none() && reader.created_at >= Some(*newest);
            assert!(
                got >= *newest || before,
                "{id} is up at {got}, before {newest}"
            );
        }
    }

    pub(super) fn deliver(
        &mut self,
        id: WatchId,
        response: WatchResponse,
        undo: i64,
    ) -> Option<Input> {
        let reader = self.readers.get_mut(&id).expect("of a reader");
        assert!(reader.error.is_none() && reader.created_at.is_some());
        if response.is_progress() {
            // Everything up to there was delivered, or is in this queue.
            let told = response.revision().get();
            assert!(told >= reader.told, "progress never goes back");
            reader.told = told;
            return None;
        }
        assert!(!reader.stalled, "a paused watch delivers nothing");
        if reader.queue >= CAPACITY {
            reader.stalled = true;
            self.pauses += 1;
            return Some(Input::Full(id, undo));
        }
        reader.queue += 1;
        let revisions = response.events().iter().map(|event| event.revision().get());
        assert!(revisions.clone().is_sorted());
        let (first, last) = (revisions.clone().min()?, revisions.max()?);
        assert!(
            first > reader.told,
            "nothing twice, no revision in two items"
        );
        reader.told = last;
        let names = response.into_events().into_iter();
        reader.got.extend(names.map(|event: Event| {
            let key = String::from_utf8(event.key().to_vec()).expect("ours");
            (event.revision().get(), key)
        }));
        None
    }

    pub(super) fn finish(&mut self, id: WatchId, error: &Error) {
        let (compacted, revision) = (self.store.compacted, self.store.revision());
        let reader = self.readers.get_mut(&id).expect("of a reader");
        assert!(
            reader.error.replace(error.kind()).is_none(),
            "one last item"
        );
        match error.kind() {
            ErrorKind::Compacted => {
                let next = reader.told.max(reader.start.unwrap_or(0).max(2) - 1) + 1;
                assert!(
                    next <= compacted || self.void,
                    "compacted at {compacted}, next is {next}"
                );
            }
            ErrorKind::Rewound => {
                assert!(self.rewinds && reader.created_at.is_some(), "at {revision}");
            }
            kind => panic!("{kind:?}: {error}"),
        }
    }
}

//! The revision of the store: where new watches begin, and whether the store was rewound or replaced.

use super::action::Action;
use super::input::StreamEnd;
use super::watch_entry::EntryPhase;
use super::watches::{RevisionRead, Watches};
use crate::error::{Error, ErrorKind};
use crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader;
use crate::rpc::watch::watch_id::WatchId;
use crate::types::Revision;

impl Watches {
    /// Starts a read for the watches that need one, unless one is unanswered: that one began before
    /// they were added, and may miss what was written in between.
    pub(super) fn start_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let mut watches = std::mem::take(&mut self.needs_read);
        watches.retain(|id| self.is_waiting(*id));
        let mut progress = std::mem::take(&mut self.progress_reads);
        progress.retain(|id| self.is_live(*id));
        self.read_for(watches, progress, false);
    }

    fn read_for(&mut self, watches: Vec<WatchId>, progress: Vec<WatchId>, repeated: bool) {
        // A user who may watch a range may read its first key.
        let first = watches
            .iter()
            .chain(&progress)
            .find_map(|id| Some((*id, self.entries.get(id)?)));
        let Some((key_of, entry)) = first else { return };
        self.actions
            .push(Action::Read(entry.watch.outer().start().clone()));
        self.reading = Some(RevisionRead {
            key_of,
            watches,
            progress,
            highest: self.highest,
            repeated,
        });
    }

    fn is_waiting(&self, id: WatchId) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.phase == EntryPhase::Waiting)
    }

    /// Handles the answer to a read: the store has reached `revision`.
    pub(super) fn read(&mut self, revision: i64) {
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        if let Some(why) = self.replaced.take() {
            self.end_replaced(&why);
            // Revisions of the old store are no information about the new one.
            reading.highest = 0;
        }
        reading.watches.retain(|id| self.is_waiting(*id));
        let behind = |id: &WatchId| {
            let entry = self.entries.get(id);
            entry.is_some_and(|entry| entry.known(reading.highest) > revision)
        };
        let rewound = revision < reading.highest;
        if !reading.repeated && (rewound || reading.watches.iter().any(behind)) {
            // etcd before 3.4.42, 3.5.28 and 3.6.9 can answer a read with an old revision when the
            // leader changes, so a watch ends only after a second read.
            return self.read_for(reading.watches, reading.progress, true);
        }
        let lost: Vec<WatchId> = if rewound {
            // Includes paused watches: the store may have grown past them when they resume.
            let ids = self.entries.keys().copied();
            ids.filter(|id| behind(id) && !self.is_live(*id)).collect()
        } else {
            reading.watches.iter().copied().filter(behind).collect()
        };
        for id in lost {
            self.rewind(id, revision, reading.highest);
        }
        // After a rewind, the lower revision is the reference for the next reads.
        self.highest = if rewound {
            revision
        } else {
            self.highest.max(revision)
        };
        for id in reading.watches {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            if entry.next.is_none() {
                entry.next = Some(revision.saturating_add(1));
                entry.start_was_read = true;
            }
            entry.checked_on = self.stream_count;
            entry.store_epoch = Some(self.store_epoch);
            entry.caught_up_at = revision;
            self.route(id);
        }
        for id in reading.progress {
            self.deliver_progress_read(id, revision);
        }
    }

    /// Ends the watches that follow the store that was replaced, except those that a server still has:
    /// their events still arrive.
    fn end_replaced(&mut self, why: &str) {
        let store = self.store_epoch;
        let ended: Vec<WatchId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.follows_another(store))
            .filter(|(_, entry)| !matches!(entry.phase, EntryPhase::Live { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.rewind_because(id, why);
        }
    }

    /// Delivers progress to a watch that has everything that the store had. The server does not answer
    /// progress requests for a watch that starts after the store's revision.
    fn deliver_progress_read(&mut self, id: WatchId, revision: i64) {
        let complete = self
            .entries
            .get(&id)
            .is_some_and(|entry| entry.next > Some(revision));
        if complete && self.is_live(id) && self.progress_wanted.contains(&id) {
            let header = ResponseHeader {
                revision,
                ..self.header.unwrap_or_default()
            };
            self.advance(id, revision, Some(header));
        }
    }

    /// Ends a watch that has seen a later revision than the store has. The server would accept a start
    /// in the future, and send nothing until the store reaches it: the changes until then would be
    /// missing.
    fn rewind(&mut self, id: WatchId, revision: i64, seen: i64) {
        let known = self.entries.get(&id).map_or(0, |entry| entry.known(seen));
        let reason = format!(
            "the store is at revision {} and was at {}: it lost data or was restored",
            Revision::new(revision),
            Revision::new(known)
        );
        self.rewind_because(id, &reason);
    }

    fn rewind_because(&mut self, id: WatchId, reason: &str) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.start_was_read && !entry.created {
            // Nothing was delivered yet: the watch begins with the present store.
            entry.next = None;
            entry.store_epoch = None;
            return;
        }
        self.finish(id, Error::new(ErrorKind::Rewound, reason));
    }

    fn is_live(&self, id: WatchId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| matches!(entry.phase, EntryPhase::Live { .. }))
    }

    /// Handles a read that failed. An `Err` ends the stream.
    pub(super) fn read_failed(&mut self, ending: StreamEnd) -> Result<(), StreamEnd> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        match ending {
            StreamEnd::Answer(answer) if answer.kind == ErrorKind::PermissionDenied => {
                // The user may not read the range, so the server would refuse the watch. A watch that
                // the server has already goes on.
                if self.is_waiting(reading.key_of) {
                    self.finish(reading.key_of, Error::new(answer.kind, answer.text));
                }
                let mut watches = reading.watches;
                // The others are read again, with a key of another watch.
                watches.append(&mut self.needs_read);
                self.needs_read = watches;
                Ok(())
            }
            ending => Err(ending),
        }
    }
}

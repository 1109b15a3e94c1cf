//! The revision of the store: where new watches begin, and whether history is still what it was.

use super::watch_entry::Phase;
use super::{Action, Ending, Id, Reading, Watches};
use crate::error::{Error, ErrorKind};
use crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader;
use crate::types::Revision;

impl Watches {
    /// Begins a read for the watches that need one, unless one is on its way: that began before they
    /// were asked for, and may miss what was written in between.
    pub(super) fn start_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let mut covered = std::mem::take(&mut self.unread);
        covered.retain(|id| self.is_waiting(*id));
        let mut questions = std::mem::take(&mut self.questions);
        questions.retain(|id| self.is_live(*id));
        self.read_for(covered, questions, false);
    }

    fn read_for(&mut self, covered: Vec<Id>, questions: Vec<Id>, doubted: bool) {
        // Whoever may watch a range may read its first key; a key outside might be forbidden.
        let first = covered
            .iter()
            .chain(&questions)
            .find_map(|id| Some((*id, self.ones.get(id)?)));
        let Some((by, one)) = first else { return };
        self.actions
            .push(Action::Read(one.watch.outer().start().clone()));
        self.reading = Some(Reading {
            by,
            covered,
            questions,
            highest: self.highest,
            doubted,
        });
    }

    fn is_waiting(&self, id: Id) -> bool {
        self.ones
            .get(&id)
            .is_some_and(|one| one.phase == Phase::Waiting)
    }

    /// The store is at `revision`, or was since the read began.
    pub(super) fn read(&mut self, revision: i64) {
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        if let Some(why) = self.replaced.take() {
            self.end_replaced(&why);
            reading.highest = 0;
        }
        reading.covered.retain(|id| self.is_waiting(*id));
        let behind = |id: &Id| {
            let one = self.ones.get(id);
            one.is_some_and(|one| one.known(reading.highest) > revision)
        };
        let rewound = revision < reading.highest;
        if !reading.doubted && (rewound || reading.covered.iter().any(behind)) {
            // etcd before 3.4.42, 3.5.28 and 3.6.9 can answer a read too early when its leader
            // changes. The end of a watch deserves a second look.
            return self.read_for(reading.covered, reading.questions, true);
        }
        let lost: Vec<Id> = if rewound {
            // Those that are paused, too: they would find out too late.
            let ids = self.ones.keys().copied();
            ids.filter(|id| behind(id) && !self.is_live(*id)).collect()
        } else {
            reading.covered.iter().copied().filter(behind).collect()
        };
        for id in lost {
            self.rewind(id, revision, reading.highest);
        }
        self.highest = if rewound {
            revision
        } else {
            self.highest.max(revision)
        };
        for id in reading.covered {
            let Some(one) = self.ones.get_mut(&id) else {
                continue;
            };
            if one.next.is_none() {
                one.next = Some(revision.saturating_add(1));
                one.derived = true;
            }
            one.checked = self.epoch;
            one.store = Some(self.store);
            one.target = revision;
            self.route(id);
        }
        for id in reading.questions {
            self.answer_question(id, revision);
        }
    }

    /// Ends the watches that follow the store that was replaced, but for those on a stream that still
    /// brings its events.
    fn end_replaced(&mut self, why: &str) {
        let store = self.store;
        let ended: Vec<Id> = self
            .ones
            .iter()
            .filter(|(_, one)| one.is_of_another(store))
            .filter(|(_, one)| !matches!(one.phase, Phase::Live { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.rewind_because(id, why);
        }
    }

    /// Tells how far a watch is when it has all that the store had. A server says nothing about a
    /// watch that starts after the store's revision, however often it is asked.
    fn answer_question(&mut self, id: Id, revision: i64) {
        let complete = self
            .ones
            .get(&id)
            .is_some_and(|one| one.next > Some(revision));
        if complete && self.is_live(id) && self.asking.contains(&id) {
            let header = ResponseHeader {
                revision,
                ..self.header.unwrap_or_default()
            };
            self.advance(id, revision, Some(header));
        }
    }

    /// Ends a watch that knows of a later revision than the store has: what it would miss, nobody
    /// would tell it. The server takes a start in the future, and is silent until it comes.
    fn rewind(&mut self, id: Id, revision: i64, seen: i64) {
        let known = self.ones.get(&id).map_or(0, |one| one.known(seen));
        let reason = format!(
            "the store is at revision {} and was at {}: it lost data or was restored",
            Revision::new(revision),
            Revision::new(known)
        );
        self.rewind_because(id, &reason);
    }

    fn rewind_because(&mut self, id: Id, reason: &str) {
        let Some(one) = self.ones.get_mut(&id) else {
            return;
        };
        if one.derived && !one.created {
            // Nobody has seen anything yet: it begins with the store as it is now.
            one.next = None;
            one.store = None;
            return;
        }
        self.finish(id, Error::new(ErrorKind::Rewound, reason));
    }

    fn is_live(&self, id: Id) -> bool {
        let one = self.ones.get(&id);
        one.is_some_and(|one| matches!(one.phase, Phase::Live { .. }))
    }

    pub(super) fn read_failed(&mut self, ending: Ending) -> Result<(), Ending> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        match ending {
            Ending::Answer(answer) if answer.kind == ErrorKind::PermissionDenied => {
                // Its range holds a key that may not be read: the server would refuse the watch. WatchEntry
                // that it has already goes on for as long as it lets it.
                if self.is_waiting(reading.by) {
                    self.finish(reading.by, Error::new(answer.kind, answer.text));
                }
                let mut again = reading.covered;
                again.append(&mut self.unread);
                self.unread = again;
                Ok(())
            }
            ending => Err(ending),
        }
    }
}

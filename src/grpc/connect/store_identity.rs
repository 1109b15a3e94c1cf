//! Detects that the store was replaced, by the cluster id, the revision and the raft term of each
//! response header, and by a key that was seen in it.
//!
//! A store can be replaced behind its endpoints: its data directory is wiped, a backup is restored,
//! a disk is rolled back, or the endpoint leads to another cluster. The revision and the raft term
//! of one store never decrease, so an answer that is older than the state *known before its request
//! was sent* shows a replaced store. Only answers that cannot lag count: a partitioned member may
//! serve older data to serializable reads, and a member that replays its log reports older terms.
//!
//! A replaced store may have reached the revision and the term before anybody asks. So the identity also keeps one
//! key as it was at one revision. What a store has at a revision never changes, so another modification
//! of that key at that revision shows another store. Watches compare it when they resume.
//!
//! Each replacement starts a new *epoch*. Everything that keeps data it read (a watch, a mirror, a
//! view, a registration) keeps the epoch with the data and compares epochs, not revisions.

use std::fmt;

/// Longer keys are not kept to recognise the store.
const MAX_KEY: usize = 4096;

/// The position of the store as a response header reports it. Zero means that the header has
/// no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StorePosition {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
    pub(crate) term: u64,
}

/// How recent an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// As recent as the member that answered, which may lag: serializable reads, streams, status.
    #[default]
    Local,
    /// As recent as everything written before the request. etcd before 3.4.42, 3.5.28 and 3.6.9 can
    /// answer such a read too early during a change of leader, so one answer is not a proof.
    Linearizable,
    /// An applied write, which follows everything that was applied before it.
    Applied,
}

/// What an answer shows about the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreVerdict {
    /// The same store, at the known position or later.
    Same,
    /// The member lags, or the answer belongs to a store that has been replaced since.
    Lagging,
    /// The store may have been rewound: another linearizable answer decides.
    RewindSuspected,
    /// The store was rewound: it lost data, or a backup was restored. A new epoch starts.
    Rewound,
    /// Another cluster answered. A new epoch starts.
    Another,
}

/// The state known when a request was sent. Its answer is compared with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownStore {
    /// How often the store was replaced.
    pub(crate) epoch: u64,
    newest: StorePosition,
    rewind_suspected: bool,
}

impl KnownStore {
    /// Whether the last answer may show a rewound store.
    pub(crate) fn is_rewind_suspected(&self) -> bool {
        self.rewind_suspected
    }
}

/// A key as it was at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenKey {
    /// The epoch of the store that had it.
    epoch: u64,
    pub(crate) key: Vec<u8>,
    /// The revision at which it was there.
    pub(crate) at: i64,
    /// The revision of its last modification until then.
    modified: i64,
}

/// How a store was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// The last known position before the replacement.
    before: StorePosition,
    /// The position that showed the replacement.
    after: StorePosition,
    /// The revision at which a key was different.
    differs_at: Option<i64>,
}

/// The identity of the store that a client uses, derived from response headers.
#[derive(Debug, Default)]
pub(crate) struct StoreIdentity {
    known: KnownStore,
    last: Option<Replacement>,
    seen: Option<SeenKey>,
}

impl StoreIdentity {
    /// The state to keep with a request that is about to be sent.
    pub(crate) fn known(&self) -> KnownStore {
        self.known
    }

    /// The last replacement of the store, if there was one.
    pub(crate) fn last_replacement(&self) -> Option<Replacement> {
        self.last
    }

    /// Checks an answer. `known_when_sent` is the state that was known when its request was sent or its
    /// stream was opened.
    pub(crate) fn check(
        &mut self,
        answer: StorePosition,
        consistency: Consistency,
        known_when_sent: KnownStore,
    ) -> StoreVerdict {
        if known_when_sent.epoch != self.known.epoch {
            return StoreVerdict::Lagging;
        }
        let cluster = self.known.newest.cluster;
        if answer.cluster != 0 && cluster != 0 && answer.cluster != cluster {
            self.replace(answer, None);
            return StoreVerdict::Another;
        }
        if !answer.is_older_than(known_when_sent.newest) {
            if consistency != Consistency::Local {
                self.known.rewind_suspected = false;
            }
            self.known.newest.raise(answer);
            return StoreVerdict::Same;
        }
        match consistency {
            Consistency::Local => StoreVerdict::Lagging,
            Consistency::Linearizable if !known_when_sent.rewind_suspected => {
                self.known.rewind_suspected = true;
                StoreVerdict::RewindSuspected
            }
            Consistency::Linearizable | Consistency::Applied => {
                self.replace(answer, None);
                StoreVerdict::Rewound
            }
        }
    }

    /// The key by which the store is recognised, if one was seen.
    pub(crate) fn seen(&self) -> Option<SeenKey> {
        self.seen.clone()
    }

    /// Records a key of a list that was made in `epoch`, if none is known. A list does not replace a key: it may be a
    /// list of another store, whose replacement only the known key can show.
    pub(crate) fn listed(&mut self, epoch: u64, key: &[u8], modified: i64, at: i64) {
        if self.seen.is_none() {
            self.see(epoch, key, modified, at);
        }
    }

    /// Records a key that a watch reported as put at this revision. The caller has compared the store of the watch
    /// with the known key.
    pub(crate) fn watched(&mut self, epoch: u64, key: &[u8], modified: i64) {
        if self.seen.as_ref().is_none_or(|seen| seen.at < modified) {
            self.see(epoch, key, modified, modified);
        }
    }

    fn see(&mut self, epoch: u64, key: &[u8], modified: i64, at: i64) {
        if epoch != self.known.epoch || key.len() > MAX_KEY || modified <= 0 || at < modified {
            return;
        }
        // The buffer is used again: a busy watch reports a key with each message.
        let mut buffer = self.seen.take().map_or_else(Vec::new, |seen| seen.key);
        buffer.clear();
        buffer.extend_from_slice(key);
        self.seen = Some(SeenKey {
            epoch,
            key: buffer,
            at,
            modified,
        });
    }

    /// Compares the known key with the store as it is now: `modified` is the revision of the key's last modification, or
    /// `None` if it does not exist. After `RewindSuspected`, its state at `seen.at` decides: see
    /// [`compare_past`](Self::compare_past).
    pub(crate) fn compare(
        &mut self,
        seen: &SeenKey,
        modified: Option<i64>,
        answer: StorePosition,
    ) -> StoreVerdict {
        // A member that lags shows the key as it was before.
        if seen.epoch != self.known.epoch || answer.revision < seen.at {
            return StoreVerdict::Lagging;
        }
        match modified {
            Some(modified) if modified == seen.modified => {
                // The newer revision is not compacted as soon.
                self.update(seen, modified, answer.revision);
                StoreVerdict::Same
            }
            Some(modified) if modified <= seen.at => {
                self.replace(answer, Some(seen.at));
                StoreVerdict::Rewound
            }
            // It was changed since, or deleted.
            _ => StoreVerdict::RewindSuspected,
        }
    }

    /// Compares the known key with the store as it was at `seen.at`. `past` is the revision of the key's last
    /// modification until then, and `None` if the server refused to answer, for example because that revision is
    /// compacted. `present` is that of its last modification until `answer`.
    pub(crate) fn compare_past(
        &mut self,
        seen: &SeenKey,
        past: Option<Option<i64>>,
        present: Option<i64>,
        answer: StorePosition,
    ) -> StoreVerdict {
        if seen.epoch != self.known.epoch {
            return StoreVerdict::Lagging;
        }
        match (past, present) {
            (Some(past), _) if past != Some(seen.modified) => {
                self.replace(answer, Some(seen.at));
                return StoreVerdict::Rewound;
            }
            (_, Some(modified)) => self.update(seen, modified, answer.revision),
            // The key proves nothing any more: the next one is recorded.
            (None, None) if self.seen.as_ref() == Some(seen) => self.seen = None,
            _ => {}
        }
        StoreVerdict::Same
    }

    /// Replaces the known key by what it is at a newer revision.
    fn update(&mut self, seen: &SeenKey, modified: i64, at: i64) {
        if self.seen.as_ref() == Some(seen) {
            self.see(seen.epoch, &seen.key, modified, at);
        }
    }

    fn replace(&mut self, answer: StorePosition, differs_at: Option<i64>) {
        self.seen = None;
        self.last = Some(Replacement {
            before: self.known.newest,
            after: answer,
            differs_at,
        });
        self.known = KnownStore {
            epoch: self.known.epoch + 1,
            newest: answer,
            rewind_suspected: false,
        };
    }
}

impl StorePosition {
    fn is_older_than(self, other: StorePosition) -> bool {
        let is_older = self.revision > 0 && self.revision < other.revision;
        // A member that has applied nothing since its start reports term 0.
        is_older || self.term > 0 && self.term < other.term
    }

    fn raise(&mut self, other: StorePosition) {
        if self.cluster == 0 {
            self.cluster = other.cluster;
        }
        self.revision = self.revision.max(other.revision);
        self.term = self.term.max(other.term);
    }
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replacement {
            before,
            after,
            differs_at,
        } = self;
        if before.cluster != 0 && before.cluster != after.cluster {
            return write!(
                f,
                "another cluster answers: its id is {:x} and was {:x}",
                after.cluster, before.cluster
            );
        }
        if let Some(revision) = differs_at {
            return write!(
                f,
                "the store lost data or was restored: its contents at revision {revision} are not those that were seen"
            );
        }
        let (what, now, was) = match u64::try_from(after.revision) {
            Ok(revision) if after.revision < before.revision => {
                ("revision", revision, before.revision.unsigned_abs())
            }
            _ => ("raft term", after.term, before.term),
        };
        write!(
            f,
            "the store lost data or was restored: its {what} is {now} and was {was}"
        )
    }
}

#[cfg(test)]
mod tests;

//! Which store answers: decided by the cluster id, the revision and the raft term that every response
//! header carries.
//!
//! A store can be replaced behind its endpoints: its data directory is wiped, a backup is restored, a
//! disk goes back to an older copy, or the endpoint leads to another cluster. Revisions and raft terms of
//! one store never go down, so an answer that is older than what was seen *before it was asked for*
//! shows a replaced store. Only answers that cannot lag count: a member that is cut off may serve older
//! data to serializable reads, and a member that replays its log names older terms.
//!
//! Each replacement begins another *epoch*. Whoever keeps something that it read (a watch, a mirror, a
//! view, a registration) keeps the epoch with it, and compares the two; it compares no revisions.

use std::fmt;

/// What a response header says about the store. Zero means that it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
    pub(crate) term: u64,
}

/// How new an answer is bound to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// As new as the member that gave it, which may be behind: serializable reads, streams, status.
    #[default]
    Local,
    /// As new as everything that was written before it was asked for. etcd before 3.4.42, 3.5.28 and
    /// 3.6.9 can answer such a read too early while its leader changes, so one answer is no proof.
    Linearizable,
    /// It is a write that was applied, after everything that was applied before.
    Applied,
}

/// What an answer says about the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the store that was known, as new as it was or newer.
    Same,
    /// The member that answered is behind, or the answer belongs to a store that was replaced since.
    Behind,
    /// The store may have gone back: another linearizable answer decides.
    Doubtful,
    /// The store went back: it lost data, or a backup was restored. A new epoch begins with it.
    Rewound,
    /// Another cluster answered. A new epoch begins with it.
    Another,
}

/// What was known when a request was sent; its answer is judged by that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// How often the store was replaced.
    pub(crate) epoch: u64,
    newest: Sighting,
    doubted: bool,
}

impl Known {
    /// Whether an answer left open if the store went back.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted
    }
}

/// How a store was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// What was known of the store before.
    before: Sighting,
    /// What the answer said that showed it.
    after: Sighting,
}

/// The store that a client talks to, as far as response headers tell.
#[derive(Debug, Default)]
pub(crate) struct StoreIdentity {
    known: Known,
    last: Option<Replacement>,
}

impl StoreIdentity {
    /// What is known now, to judge the answer to a request that is about to be sent.
    pub(crate) fn known(&self) -> Known {
        self.known
    }

    /// How the store was replaced, the last time that it was.
    pub(crate) fn last_replacement(&self) -> Option<Replacement> {
        self.last
    }

    /// Takes note of an answer, and says what it shows. `asked` is what was known when its request was
    /// sent, or when its stream was opened.
    pub(crate) fn judge(
        &mut self,
        answer: Sighting,
        consistency: Consistency,
        asked: Known,
    ) -> Verdict {
        if asked.epoch != self.known.epoch {
            return Verdict::Behind;
        }
        let cluster = self.known.newest.cluster;
        if answer.cluster != 0 && cluster != 0 && answer.cluster != cluster {
            self.replace(answer);
            return Verdict::Another;
        }
        if !answer.is_older_than(asked.newest) {
            if consistency != Consistency::Local {
                self.known.doubted = false;
            }
            self.known.newest.raise(answer);
            return Verdict::Same;
        }
        match consistency {
            Consistency::Local => Verdict::Behind,
            Consistency::Linearizable if !asked.doubted => {
                self.known.doubted = true;
                Verdict::Doubtful
            }
            Consistency::Linearizable | Consistency::Applied => {
                self.replace(answer);
                Verdict::Rewound
            }
        }
    }

    fn replace(&mut self, answer: Sighting) {
        self.last = Some(Replacement {
            before: self.known.newest,
            after: answer,
        });
        self.known = Known {
            epoch: self.known.epoch + 1,
            newest: answer,
            doubted: false,
        };
    }
}

impl Sighting {
    fn is_older_than(self, other: Sighting) -> bool {
        let behind = self.revision > 0 && self.revision < other.revision;
        // A member that has applied nothing since it started names the term 0.
        behind || self.term > 0 && self.term < other.term
    }

    fn raise(&mut self, other: Sighting) {
        if self.cluster == 0 {
            self.cluster = other.cluster;
        }
        self.revision = self.revision.max(other.revision);
        self.term = self.term.max(other.term);
    }
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replacement { before, after } = self;
        if before.cluster != 0 && before.cluster != after.cluster {
            return write!(
                f,
                "another cluster answers: its id is {:x} and was {:x}",
                after.cluster, before.cluster
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
mod tests {
    use proptest::prelude::*;

    use super::Consistency::{Applied, Linearizable, Local};
    use super::*;

    fn at(revision: i64, term: u64) -> Sighting {
        Sighting {
            cluster: 7,
            revision,
            term,
        }
    }

    /// An identity that has seen revision 100 in term 4.
    fn seen() -> StoreIdentity {
        let mut store = StoreIdentity::default();
        let first = store.known();
        assert_eq!(store.judge(at(100, 4), Linearizable, first), Verdict::Same);
        store
    }

    fn ask(store: &mut StoreIdentity, answer: Sighting, consistency: Consistency) -> Verdict {
        let asked = store.known();
        store.judge(answer, consistency, asked)
    }

    #[test]
    fn another_cluster_id_is_another_store_whoever_says_it() {
        for consistency in [Local, Linearizable, Applied] {
            let mut store = seen();
            let other = Sighting {
                cluster: 8,
                ..at(500, 9)
            };
            assert_eq!(ask(&mut store, other, consistency), Verdict::Another);
            assert_eq!(store.known().epoch, 1);
            assert_eq!(ask(&mut store, other, Linearizable), Verdict::Same);
            // A header without an id takes away nothing that is known.
            let silent = Sighting::default();
            assert_eq!(ask(&mut store, silent, consistency), Verdict::Same);
            assert_eq!(ask(&mut store, at(600, 9), consistency), Verdict::Another);
        }
    }

    #[test]
    fn a_store_that_was_replaced_can_be_replaced_again_and_says_how() {
        let mut store = seen();
        assert_eq!(store.last_replacement(), None);
        let mut replaced = |answer, verdict| {
            assert_eq!(ask(&mut store, answer, Applied), verdict);
            // One read that is older than the new store is no proof, as before.
            let early = at(answer.revision - 1, answer.term);
            let read = Sighting {
                cluster: answer.cluster,
                ..early
            };
            assert_eq!(ask(&mut store, read, Linearizable), Verdict::Doubtful);
            assert_eq!(ask(&mut store, answer, Applied), Verdict::Same);
            store.last_replacement().unwrap().to_string()
        };
        let rewound = "the store lost data or was restored: its";
        let text = replaced(at(99, 5), Verdict::Rewound);
        assert_eq!(text, format!("{rewound} revision is 99 and was 100"));
        let text = replaced(at(500, 3), Verdict::Rewound);
        assert_eq!(text, format!("{rewound} raft term is 3 and was 5"));
        let other = Sighting {
            cluster: 0xab,
            ..at(500, 3)
        };
        let text = replaced(other, Verdict::Another);
        assert_eq!(text, "another cluster answers: its id is ab and was 7");
        assert_eq!(store.known().epoch, 3);
        // The headers before did not say which cluster it was.
        let mut store = StoreIdentity::default();
        let nameless = Sighting {
            cluster: 0,
            ..at(100, 4)
        };
        assert_eq!(ask(&mut store, nameless, Applied), Verdict::Same);
        assert_eq!(ask(&mut store, at(99, 4), Applied), Verdict::Rewound);
        let text = store.last_replacement().unwrap().to_string();
        assert_eq!(text, format!("{rewound} revision is 99 and was 100"));
    }

    #[test]
    fn an_election_is_the_same_store() {
        let mut store = seen();
        assert_eq!(ask(&mut store, at(100, 5), Linearizable), Verdict::Same);
        assert_eq!(store.known().epoch, 0);
    }

    #[test]
    fn a_lower_revision_or_term_is_a_rewind_when_a_write_shows_it_or_two_reads_do() {
        for older in [at(99, 4), at(99, 5), at(200, 3), at(1, 2)] {
            let mut store = seen();
            assert_eq!(
                ask(&mut store, older, Applied),
                Verdict::Rewound,
                "{older:?}"
            );
            let mut store = seen();
            assert_eq!(ask(&mut store, older, Linearizable), Verdict::Doubtful);
            assert_eq!(store.known().epoch, 0, "one read is no proof");
            assert_eq!(ask(&mut store, older, Linearizable), Verdict::Rewound);
            assert_eq!(store.known().epoch, 1);
            assert_eq!(ask(&mut store, older, Linearizable), Verdict::Same);
        }
    }

    #[test]
    fn a_read_that_came_too_early_once_is_no_rewind() {
        let mut store = seen();
        assert_eq!(ask(&mut store, at(99, 3), Linearizable), Verdict::Doubtful);
        assert_eq!(ask(&mut store, at(100, 5), Linearizable), Verdict::Same);
        assert_eq!(ask(&mut store, at(99, 4), Linearizable), Verdict::Doubtful);
        assert_eq!(store.known().epoch, 0);
    }

    #[test]
    fn an_answer_that_may_lag_takes_no_doubt_away() {
        let mut store = seen();
        assert_eq!(ask(&mut store, at(99, 4), Linearizable), Verdict::Doubtful);
        for answer in [at(100, 4), at(99, 4), Sighting::default()] {
            ask(&mut store, answer, Local);
            assert!(store.known().is_doubted());
        }
        assert_eq!(ask(&mut store, at(99, 4), Linearizable), Verdict::Rewound);
        assert!(!store.known().is_doubted());
    }

    #[test]
    fn two_reads_that_were_asked_for_together_are_one_look() {
        let mut store = seen();
        let asked = store.known();
        for _ in 0..2 {
            let verdict = store.judge(at(99, 4), Linearizable, asked);
            assert_eq!(verdict, Verdict::Doubtful);
        }
    }

    #[test]
    fn a_member_that_is_behind_is_only_behind() {
        let mut store = seen();
        for older in [at(99, 4), at(100, 3), at(1, 1)] {
            assert_eq!(ask(&mut store, older, Local), Verdict::Behind);
            assert_eq!(ask(&mut store, older, Local), Verdict::Behind);
        }
        assert_eq!(store.known().epoch, 0);
        assert_eq!(ask(&mut store, at(100, 4), Applied), Verdict::Same);
    }

    #[test]
    fn an_answer_to_what_was_asked_before_is_not_judged_by_what_came_since() {
        let mut store = seen();
        let asked = store.known();
        assert_eq!(ask(&mut store, at(101, 5), Applied), Verdict::Same);
        assert_eq!(store.judge(at(100, 4), Applied, asked), Verdict::Same);
        assert_eq!(ask(&mut store, at(1, 2), Applied), Verdict::Rewound);
        // It was asked of the store that is gone: it neither returns nor is replaced again.
        assert_eq!(store.judge(at(102, 5), Applied, asked), Verdict::Behind);
        assert_eq!(store.known().epoch, 1);
    }

    #[test]
    fn what_a_header_does_not_say_proves_nothing() {
        let mut store = seen();
        for silent in [Sighting::default(), at(0, 0), at(0, 4), at(100, 0)] {
            assert_eq!(ask(&mut store, silent, Applied), Verdict::Same);
        }
    }

    proptest! {
        /// Writes and elections of one cluster, seen through members that lag, with requests that
        /// overtake each other: never a replacement. A rollback is told by the next write at the latest,
        /// unless it grew back and had as many elections.
        #[test]
        fn a_living_cluster_is_always_the_same_store(
            steps in prop::collection::vec((0..6u8, 0..4usize), 1..80),
            rollback in any::<bool>(),
        ) {
            let mut store = StoreIdentity::default();
            let (mut revision, mut term) = (10, 2);
            let mut history = vec![at(revision, term)];
            let mut flying = Vec::new();
            for (step, lag) in steps {
                match step {
                    0 => revision += 1,
                    1 => term += 1,
                    2 => flying.push((store.known(), history.len())),
                    3 if !flying.is_empty() => {
                        // The answer shows any state from when it was asked for on.
                        let (asked, since) = flying.swap_remove(lag % flying.len());
                        let shown = history[(since - 1 + lag).min(history.len() - 1)];
                        prop_assert_eq!(store.judge(shown, Linearizable, asked), Verdict::Same);
                    }
                    4 => {
                        let shown = history[history.len().saturating_sub(1 + lag)];
                        let asked = store.known();
                        let verdict = store.judge(shown, Local, asked);
                        prop_assert!(matches!(verdict, Verdict::Same | Verdict::Behind));
                    }
                    _ => {
                        revision += 1;
                        let asked = store.known();
                        prop_assert_eq!(store.judge(at(revision, term), Applied, asked), Verdict::Same);
                    }
                }
                history.push(at(revision, term));
            }
            prop_assert_eq!(store.known().epoch, 0);
            if rollback {
                let known = store.known();
                let older = at(known.newest.revision - 1, 1);
                if older.is_older_than(known.newest) && older.revision > 0 {
                    prop_assert_eq!(store.judge(older, Applied, known), Verdict::Rewound);
                }
            }
        }
    }
}

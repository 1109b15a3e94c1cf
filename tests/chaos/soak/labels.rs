//! Checks labelled writes against a watch: a write that succeeded is seen once and at its revision, a write whose error
//! says that it was not executed is never seen, and one of unknown outcome is seen at most once.
//!
//! A label is forgotten some time after it was decided, so that memory is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At this revision.
    Done(i64),
    NotExecuted,
    Unknown,
}

/// How many writes ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub done: u64,
    pub not_executed: u64,
    pub unknown: u64,
    /// The writes of unknown outcome that were executed, among those that are not forgotten.
    pub unknown_seen: u64,
}

impl Counts {
    pub fn all(&self) -> u64 {
        self.done + self.not_executed + self.unknown
    }
}

/// The labels that are not forgotten. Times are in any unit that increases.
#[derive(Debug)]
pub struct Labels {
    /// The age at which a label is forgotten.
    age: u64,
    /// The revision at which a label was seen.
    seen: HashMap<u64, i64>,
    outcomes: HashMap<u64, Outcome>,
    /// Successful writes that were not seen yet, by their revisions.
    awaited: BTreeMap<i64, u64>,
    /// The revision up to which all changes were seen.
    revision: i64,
    /// The labels in the order in which they became known.
    known: VecDeque<(u64, u64)>,
    pub counts: Counts,
}

impl Labels {
    pub fn new(age: u64) -> Self {
        Labels {
            age,
            seen: HashMap::new(),
            outcomes: HashMap::new(),
            awaited: BTreeMap::new(),
            revision: 0,
            known: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// A watch delivered a change with this label.
    pub fn see(&mut self, label: u64, revision: i64, now: u64) -> Result<(), String> {
        self.know(label, now);
        if let Some(before) = self.seen.insert(label, revision) {
            return Err(format!("write {label} is seen at {before} and {revision}"));
        }
        match self.outcomes.get(&label) {
            Some(Outcome::NotExecuted) => {
                let text = format!("write {label} was not executed, and is seen at {revision}");
                return Err(text);
            }
            Some(Outcome::Done(at)) if *at != revision => {
                return Err(format!("write {label} of {at} is seen at {revision}"));
            }
            Some(Outcome::Unknown) => self.counts.unknown_seen += 1,
            _ => {}
        }
        self.awaited.remove(&revision);
        Ok(())
    }

    /// The watch has delivered all changes up to this revision.
    pub fn reach(&mut self, revision: i64) -> Result<(), String> {
        self.revision = revision;
        match self.awaited.first_key_value() {
            Some((at, label)) if *at <= revision => {
                Err(format!("write {label} of {at} is not seen at {revision}"))
            }
            _ => Ok(()),
        }
    }

    /// The client reported the outcome of a write.
    pub fn end(&mut self, label: u64, outcome: Outcome, now: u64) -> Result<(), String> {
        self.know(label, now);
        self.outcomes.insert(label, outcome);
        let seen = self.seen.get(&label).copied();
        match (outcome, seen) {
            (Outcome::Done(at), Some(seen)) if at != seen => {
                return Err(format!("write {label} of {at} is seen at {seen}"));
            }
            (Outcome::Done(at), None) if at <= self.revision => {
                let text = format!("write {label} of {at} is not seen at {}", self.revision);
                return Err(text);
            }
            (Outcome::Done(at), None) => {
                if let Some(other) = self.awaited.insert(at, label) {
                    return Err(format!("writes {label} and {other} have the revision {at}"));
                }
            }
            (Outcome::NotExecuted, Some(at)) => {
                return Err(format!(
                    "write {label} was not executed, and is seen at {at}"
                ));
            }
            _ => {}
        }
        match outcome {
            Outcome::Done(_) => self.counts.done += 1,
            Outcome::NotExecuted => self.counts.not_executed += 1,
            Outcome::Unknown => {
                self.counts.unknown += 1;
                self.counts.unknown_seen += u64::from(seen.is_some());
            }
        }
        Ok(())
    }

    /// The number of successful writes that were not seen yet.
    pub fn awaited(&self) -> usize {
        self.awaited.len()
    }

    fn know(&mut self, label: u64, now: u64) {
        if !self.seen.contains_key(&label) && !self.outcomes.contains_key(&label) {
            self.known.push_back((now, label));
        }
        while let Some((at, old)) = self.known.front().copied() {
            let awaited = matches!(self.outcomes.get(&old), Some(Outcome::Done(_)))
                && !self.seen.contains_key(&old);
            if at + self.age > now || awaited {
                return;
            }
            self.known.pop_front();
            self.seen.remove(&old);
            self.outcomes.remove(&old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        See(u64, i64),
        Reach(i64),
        End(u64, Outcome),
    }
    use Outcome::{Done, NotExecuted, Unknown};
    use Step::{End, Reach, See};

    fn play(steps: &[Step]) -> Result<Labels, String> {
        let mut labels = Labels::new(100);
        for (now, step) in (0..).zip(steps) {
            match *step {
                See(label, revision) => labels.see(label, revision, now)?,
                Reach(revision) => labels.reach(revision)?,
                End(label, outcome) => labels.end(label, outcome, now)?,
            }
        }
        Ok(labels)
    }

    #[test]
    fn correct_orders_are_accepted() {
        let labels = play(&[
            End(1, Done(5)),
            See(1, 5),
            Reach(5),
            See(2, 6),
            Reach(6),
            End(2, Done(6)),
            End(3, Unknown),
            See(3, 7),
            See(4, 8),
            End(4, Unknown),
            End(5, Unknown),
            End(6, NotExecuted),
            Reach(8),
        ])
        .unwrap();
        let expected = Counts {
            done: 2,
            not_executed: 1,
            unknown: 3,
            unknown_seen: 2,
        };
        assert_eq!(labels.counts, expected);
        assert_eq!((labels.counts.all(), labels.awaited()), (6, 0));
    }

    #[test]
    fn every_wrong_outcome_is_found() {
        let wrong: &[&[Step]] = &[
            // Lost.
            &[End(1, Done(5)), Reach(5)],
            &[Reach(5), End(1, Done(5))],
            // At another revision.
            &[End(1, Done(5)), See(1, 6)],
            &[See(1, 6), End(1, Done(5))],
            // Executed, although the error says that it was not.
            &[End(1, NotExecuted), See(1, 5)],
            &[See(1, 5), End(1, NotExecuted)],
            // Twice.
            &[See(1, 5), See(1, 6)],
            &[End(1, Unknown), See(1, 5), See(1, 6)],
            // Two writes at one revision.
            &[End(1, Done(5)), End(2, Done(5))],
        ];
        for steps in wrong {
            assert!(play(steps).is_err(), "{steps:?}");
        }
    }

    #[test]
    fn labels_are_forgotten_after_some_time_and_awaited_ones_are_not() {
        let mut labels = Labels::new(100);
        for now in 0..1_000 {
            let revision = now as i64 + 1;
            labels.end(now, Done(revision), now).unwrap();
            labels.see(now, revision, now).unwrap();
            labels.reach(revision).unwrap();
        }
        assert!(labels.known.len() <= 101, "{}", labels.known.len());
        assert!(labels.seen.len() <= 101 && labels.outcomes.len() <= 101);
        labels.end(5_000, Done(5_000), 1_000).unwrap();
        labels.end(5_001, NotExecuted, 2_000).unwrap();
        labels.end(5_002, NotExecuted, 3_000).unwrap();
        assert_eq!(labels.awaited(), 1);
        assert!(labels.reach(5_000).is_err());
    }
}

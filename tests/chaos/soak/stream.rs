//! Checks one watch of all keys, response by response: every revision has a change, and every change of a key
//! increments its version, so that nothing can be lost, repeated or exchanged unnoticed.

use std::collections::HashMap;

/// A change as a watch delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub revision: i64,
    pub key: Vec<u8>,
    /// 0 for a deletion.
    pub version: i64,
}

/// The keys that exist, with their versions, and the last revision.
#[derive(Clone, Debug)]
pub struct Stream {
    versions: HashMap<Vec<u8>, i64>,
    revision: i64,
    pub events: u64,
}

impl Stream {
    /// Begins with a list of all keys at a revision.
    pub fn new(list: impl IntoIterator<Item = (Vec<u8>, i64)>, revision: i64) -> Self {
        Stream {
            versions: list.into_iter().collect(),
            revision,
            events: 0,
        }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Checks the events of one response.
    pub fn deliver(&mut self, events: &[Delivered]) -> Result<(), String> {
        let before = self.revision;
        for event in events {
            // All changes of a revision come in one response.
            let same = event.revision == self.revision && self.revision > before;
            if !same && event.revision != self.revision + 1 {
                return Err(format!("{event:?} follows revision {}", self.revision));
            }
            self.revision = event.revision;
            let version = self.versions.get(&event.key).copied().unwrap_or(0);
            match event.version {
                0 if version == 0 => return Err(format!("{event:?} deletes an absent key")),
                0 => drop(self.versions.remove(&event.key)),
                next if next == version + 1 => {
                    self.versions.insert(event.key.clone(), next);
                }
                _ => return Err(format!("{event:?} follows version {version}")),
            }
            self.events += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, key: &str, version: i64) -> Delivered {
        Delivered {
            revision,
            key: key.into(),
            version,
        }
    }

    /// Responses: two keys that are written, deleted and written again, and a revision with two changes. A change that
    /// shares its revision is missed with the next write of its key.
    fn correct() -> Vec<Vec<Delivered>> {
        vec![
            vec![event(5, "a", 3)],
            vec![event(6, "b", 1), event(7, "a", 4), event(7, "b", 2)],
            vec![event(8, "b", 3)],
            vec![event(9, "b", 0)],
            vec![event(10, "b", 1), event(11, "b", 2)],
            vec![event(12, "a", 5)],
        ]
    }

    fn judge(responses: &[Vec<Delivered>]) -> Result<(), String> {
        let mut stream = Stream::new([(b"a".to_vec(), 2)], 4);
        responses
            .iter()
            .try_for_each(|events| stream.deliver(events))
    }

    #[test]
    fn every_event_that_is_lost_repeated_or_exchanged_is_found() {
        assert_eq!(judge(&correct()), Ok(()));
        let count: usize = correct().iter().map(Vec::len).sum();
        let changed = |nth: usize, change: fn(&mut Vec<Delivered>, usize)| {
            let (mut responses, mut nth) = (correct(), nth);
            for events in &mut responses {
                if nth < events.len() {
                    change(events, nth);
                    break;
                }
                nth -= events.len();
            }
            judge(&responses)
        };
        for nth in 0..count {
            // The loss of the last event is a delay.
            if nth < count - 1 {
                let lost = changed(nth, |events, n| drop(events.remove(n)));
                assert!(lost.is_err(), "event {nth} is lost");
            }
            let repeated = changed(nth, |events, n| events.insert(n, events[n].clone()));
            assert!(repeated.is_err(), "event {nth} is repeated");
            let forged = changed(nth, |events, n| events[n].version += 1);
            assert!(forged.is_err(), "the version of event {nth} is another");
            let renumbered = changed(nth, |events, n| events[n].revision += 1);
            assert!(
                renumbered.is_err(),
                "the revision of event {nth} is another"
            );
        }
        for n in 0..correct().len() - 1 {
            let mut exchanged = correct();
            exchanged.swap(n, n + 1);
            assert!(judge(&exchanged).is_err(), "response {n} comes later");
            let mut repeated = correct();
            repeated.insert(n, repeated[n].clone());
            assert!(judge(&repeated).is_err(), "response {n} is repeated");
        }
    }

    #[test]
    fn a_revision_in_two_responses_is_found() {
        let mut split = correct();
        let last = split[1].pop().unwrap();
        split.insert(2, vec![last]);
        assert!(judge(&split).is_err());
    }
}

//! Watches the keys of a registrar, and detects keys that cannot be watched.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{RegistrarTask, valid};
use crate::error::{ErrorKind, Result};
use crate::rpc::watch::{Event, Watch, WatchKey};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait before a refused watch is requested again.
const WATCH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// The time for which a key may be unwatched before its registration is suspect. A broken stream is usually
/// replaced within this time.
const UNWATCHED_LIMIT: Duration = Duration::from_secs(2);

impl RegistrarTask {
    /// Applies the events of the watches. An error ends the task.
    pub(super) fn follow_keys(&mut self) -> Result<()> {
        for (watch, item) in self.watches.take() {
            if watch == WatchKey::SET {
                // The task that served the watches has ended, or the client is closed.
                return self.restart_watches();
            }
            self.follow_key(watch, item);
        }
        let generation = self.watches.generation();
        if std::mem::replace(&mut self.read_generation, generation) != generation {
            self.read_all_again();
        }
        Ok(())
    }

    /// Publishes entries whose keys have been unwatched for too long as suspect.
    pub(super) fn check_watches(&mut self, now: Instant) {
        let oldest = self.watches.oldest_unwatched();
        let overdue = oldest.is_some_and(|since| since + UNWATCHED_LIMIT <= now);
        if !overdue && self.unwatched.is_empty() {
            self.check_watches_at = oldest.map(|since| since + UNWATCHED_LIMIT);
            return;
        }
        // What follows is a pass over all watches, which must not run for each event during an outage.
        if self.check_watches_at.is_some_and(|at| at > now) && (overdue || oldest.is_some()) {
            return;
        }
        let mut unwatched = BTreeSet::new();
        if let Some(time) = now.checked_sub(UNWATCHED_LIMIT) {
            let overdue = self.watches.unwatched_before(time);
            unwatched.extend(
                overdue
                    .iter()
                    .filter_map(|key| self.watched.get(key))
                    .map(|(number, _)| number),
            );
        }
        // An entry whose watch was refused stays unwatched until it has another watch.
        unwatched.extend(self.unwatched.iter().filter(|number| {
            let entry = self.entries.get(number);
            entry.is_some_and(|entry| {
                let mut watches = entry.watches.iter().flatten();
                watches.any(|watch| self.watches.unwatched_since(*watch).is_some())
                    || entry.unwatched().next().is_some()
            })
        }));
        let changed = unwatched.symmetric_difference(&self.unwatched);
        self.to_publish.extend(changed);
        // The oldest may be the watch of the overrides, which makes no entry suspect.
        let is_any_lost = oldest.is_some() || !unwatched.is_empty();
        self.check_watches_at = is_any_lost.then(|| now + UNWATCHED_LIMIT / 4);
        self.unwatched = unwatched;
    }

    /// Reads every key again. The watches are on a new stream, and the store may have been replaced by
    /// one with higher revisions, so that what is known of the keys may be wrong.
    fn read_all_again(&mut self) {
        self.overrides.watch_interrupted(true);
        for entry in self.entries.values_mut() {
            entry.keys.watches_interrupted();
        }
        self.mark_all_dirty();
    }

    fn follow_key(&mut self, watch: WatchKey, item: Result<Event>) {
        if self.overrides.is_watched_by(watch) {
            return self.overrides.watch_reported(item.is_err(), Instant::now());
        }
        let Some((number, position)) = self.watched.get(&watch).copied() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match item {
            Ok(event) => {
                let valid = valid(self.formats.get(position));
                if !entry.follow(position, &event, &self.leases, valid) {
                    return;
                }
            }
            Err(error) => {
                // The history was compacted or the store was rewound: the key must be read.
                self.watched.remove(&watch);
                entry.forget_watch(position);
                if !matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound) {
                    // The next watch may be refused too, so it is delayed.
                    entry.failed(&error);
                    self.unwatched.insert(number);
                    let again = Instant::now() + WATCH_BACKOFF.last(jitter::fraction());
                    self.watch_retries.insert((again, number));
                    self.to_publish.insert(number);
                    return;
                }
            }
        }
        self.mark_dirty(number);
    }

    fn restart_watches(&mut self) -> Result<()> {
        self.watches = self.client.latest_set()?;
        self.overrides.watch_interrupted(false);
        self.read_generation = 0;
        self.watched.clear();
        for entry in self.entries.values_mut() {
            entry.watches.fill(None);
            entry.keys.watches_interrupted();
        }
        self.mark_all_dirty();
        Ok(())
    }

    /// Marks the entries whose refused watch is due to be requested again.
    pub(super) fn retry_watches(&mut self, now: Instant) {
        while let Some((until, number)) = self.watch_retries.pop_first() {
            if until > now {
                self.watch_retries.insert((until, number));
                break;
            }
            self.mark_dirty(number);
        }
    }

    /// Watches the keys of these entries.
    pub(super) fn watch_keys(&mut self, numbers: &[u64], now: Instant) {
        for number in numbers {
            let Some(entry) = self.entries.get_mut(number) else {
                continue;
            };
            for position in entry.unwatched().collect::<Vec<_>>() {
                if let Some(owned_key) = entry.keys.get(position)
                    && let Some(after) = owned_key.watch_after()
                    && let Some(slot) = entry.watches.get_mut(position)
                    && let Ok(watch) = self
                        .watches
                        .submit(Watch::key(owned_key.key.clone()).after(after))
                {
                    *slot = Some(watch);
                    self.watched.insert(watch, (*number, position));
                    self.check_watches_at.get_or_insert(now + UNWATCHED_LIMIT);
                }
            }
        }
    }
}

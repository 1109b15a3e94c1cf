//! Follows the keys of a registrar, and notices when it cannot.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{RegistrarTask, valid};
use crate::error::{ErrorKind, Result};
use crate::rpc::watch::{Event, Watch, WatchKey};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait before a key is watched again whose watch was refused.
const BETWEEN_WATCHES: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// For so long a key may be without its watch before its registration is suspect. A stream that broke
/// is usually replaced within it.
const UNGUARDED: Duration = Duration::from_secs(2);

impl RegistrarTask {
    /// Takes what the watches bring. An error is the end of everything.
    pub(super) fn follow_keys(&mut self) -> Result<()> {
        for (watch, item) in self.watches.take() {
            if watch == WatchKey::SET {
                // Whatever served the watches is gone, or the client is closed.
                return self.watch_anew();
            }
            self.follow_key(watch, item);
        }
        let generation = self.watches.generation();
        if std::mem::replace(&mut self.looked_at, generation) != generation {
            self.look_at_all();
        }
        Ok(())
    }

    /// Notices keys that are not watched for too long, and shows it.
    pub(super) fn guard(&mut self, now: Instant) {
        let oldest = self.watches.oldest_unwatched();
        let overdue = oldest.is_some_and(|since| since + UNGUARDED <= now);
        if !overdue && self.unguarded.is_empty() {
            self.guard_at = oldest.map(|since| since + UNGUARDED);
            return;
        }
        // A look at all of them; not for each event while a server is away.
        if self.guard_at.is_some_and(|at| at > now) && (overdue || oldest.is_some()) {
            return;
        }
        let mut unguarded = BTreeSet::new();
        if let Some(time) = now.checked_sub(UNGUARDED) {
            let overdue = self.watches.unwatched_before(time);
            unguarded.extend(overdue.iter().filter_map(|key| self.watched.get(key)));
        }
        // One whose watch was refused stays so until it has another.
        unguarded.extend(self.unguarded.iter().filter(|number| {
            let entry = self.entries.get(number);
            entry.is_some_and(|entry| match entry.watch {
                Some(watch) => self.watches.unwatched_since(watch).is_some(),
                None => entry.owned_key.placed().is_some(),
            })
        }));
        let changed = unguarded.symmetric_difference(&self.unguarded);
        self.to_show.extend(changed);
        self.guard_at = (!unguarded.is_empty()).then(|| now + UNGUARDED / 4);
        self.unguarded = unguarded;
    }

    /// The watches are on a new stream, maybe of a store that was replaced meanwhile by one that
    /// passed the revisions of the old one: what was known of the keys is believed no longer.
    fn look_at_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.owned_key.unwatched();
        }
        self.mark_all_dirty();
    }

    fn follow_key(&mut self, watch: WatchKey, item: Result<Event>) {
        let Some(number) = self.watched.get(&watch).copied() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        match item {
            Ok(event) => {
                let valid = valid(self.codec, &self.prefix);
                if !entry.follow(&event, &self.leases, valid) {
                    return;
                }
            }
            Err(error) => {
                // History is gone, or the store went back: whatever happened, look.
                self.watched.remove(&watch);
                entry.watch = None;
                entry.owned_key.unwatched();
                if !matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound) {
                    // The next watch may be refused as well: not at once, then.
                    entry.failed(&error);
                    self.unguarded.insert(number);
                    let again = Instant::now() + BETWEEN_WATCHES.last(jitter::fraction());
                    self.watch_again.insert((again, number));
                    self.to_show.insert(number);
                    return;
                }
            }
        }
        self.mark_dirty(number);
    }

    fn watch_anew(&mut self) -> Result<()> {
        self.watches = self.client.latest_set()?;
        self.looked_at = 0;
        self.watched.clear();
        for entry in self.entries.values_mut() {
            entry.watch = None;
            entry.owned_key.unwatched();
        }
        self.mark_all_dirty();
        Ok(())
    }

    /// Takes up the keys again whose watch was refused.
    pub(super) fn watch_again(&mut self, now: Instant) {
        while let Some((until, number)) = self.watch_again.pop_first() {
            if until > now {
                self.watch_again.insert((until, number));
                break;
            }
            self.mark_dirty(number);
        }
    }

    /// Watches these keys, which are held or waited for.
    pub(super) fn watch_keys(&mut self, numbers: &[u64], now: Instant) {
        for number in numbers {
            if let Some(entry) = self.entries.get_mut(number)
                && let Some(after) = entry.owned_key.watch_after()
                && let Ok(key) = self
                    .watches
                    .submit(Watch::key(entry.owned_key.key.clone()).after(after))
            {
                entry.watch = Some(key);
                self.watched.insert(key, *number);
                self.guard_at.get_or_insert(now + UNGUARDED);
            }
        }
    }
}

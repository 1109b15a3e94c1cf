//! The overrides below a prefix, as etcd has them.
//!
//! They are few and change rarely, so they are read as a whole whenever a watch reports a change.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::operator_override::Override;
use crate::client::Client;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Get, GetResponse};
use crate::rpc::watch::{LatestSet, Watch, WatchKey};
use crate::runtime::Pending;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait before the overrides are read again after an error. A permission may be missing for ever, and the
/// instances do not depend on overrides.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// The longest wait while etcd cannot be reached: the overrides are back within a second of its return.
const UNREACHABLE_RETRY: Duration = Duration::from_millis(700);

/// The longest time for which the first write of an instance waits for its override.
const FIRST_ANSWER: Duration = Duration::from_millis(500);

/// A read of up to so many overrides takes the connection of small requests. If there are more, they are read
/// over the connection of large answers.
const FEW: u32 = 100;

/// Follows the overrides below a prefix.
#[derive(Debug)]
pub(in crate::discovery) struct OverrideSource {
    client: Client,
    prefix: String,
    overrides: BTreeMap<Bytes, Bytes>,
    reading: Option<Pending<GetResponse>>,
    /// What was read last may be outdated.
    is_outdated: bool,
    watch: Option<WatchKey>,
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// The time until which the first answer is awaited, once the source was started.
    answer_by: Option<Instant>,
    has_answer: bool,
    /// Instances may wait for the first answer.
    is_awaited: bool,
}

impl OverrideSource {
    /// Creates a source that reads nothing until it is [started](OverrideSource::start). `prefix` is that of the
    /// instances.
    pub(in crate::discovery) fn new(client: &Client, prefix: &str) -> Self {
        OverrideSource {
            client: client.clone(),
            prefix: prefix.to_owned(),
            overrides: BTreeMap::new(),
            reading: None,
            is_outdated: false,
            watch: None,
            retry_at: None,
            backoff: RETRY,
            answer_by: None,
            has_answer: false,
            is_awaited: false,
        }
    }

    /// Begins to follow the overrides.
    pub(in crate::discovery) fn start(&mut self, now: Instant) {
        if self.answer_by.is_none() {
            self.answer_by = Some(now + FIRST_ANSWER);
            self.is_awaited = true;
            self.read();
        }
    }

    fn read(&mut self) {
        self.is_outdated = false;
        self.retry_at = None;
        self.submit(Some(FEW));
    }

    fn submit(&mut self, limit: Option<u32>) {
        let all = Get::prefix(Override::folder(&self.prefix));
        let get = match limit {
            Some(limit) => all.limit(limit),
            None => all,
        };
        self.reading = Some(self.client.submit(get));
    }

    /// Whether this watch follows the overrides.
    pub(in crate::discovery) fn is_watched_by(&self, watch: WatchKey) -> bool {
        self.watch == Some(watch)
    }

    /// Records that the watch reported a change, or its end.
    pub(in crate::discovery) fn watch_reported(&mut self, has_ended: bool, now: Instant) {
        if has_ended {
            // A watch that is refused each time must not read each time.
            self.watch = None;
            self.retry_at = Some(now + self.backoff.next(jitter::fraction()));
        } else {
            self.is_outdated = true;
            self.backoff.reset();
        }
    }

    /// Records that events may be missing. Without `is_kept`, the watch itself is lost.
    pub(in crate::discovery) fn watch_interrupted(&mut self, is_kept: bool) {
        self.is_outdated = self.answer_by.is_some();
        if !is_kept {
            self.watch = None;
        }
    }

    /// Does what is due, and returns the keys of the overrides that changed.
    pub(in crate::discovery) fn work(
        &mut self,
        now: Instant,
        watches: &LatestSet,
    ) -> BTreeSet<Bytes> {
        let mut changed = BTreeSet::new();
        if let Some(answer) = self.reading.as_ref().and_then(Pending::try_wait) {
            self.reading = None;
            if answer.as_ref().is_ok_and(GetResponse::more) {
                self.submit(None);
                return changed;
            }
            self.has_answer = true;
            match answer.and_then(|answer| self.watch(&answer, watches).map(|()| answer)) {
                Ok(answer) => {
                    let read = answer.kvs().iter();
                    let read = read
                        .map(|kv| (kv.key().clone(), kv.value().clone()))
                        .collect();
                    let before = std::mem::replace(&mut self.overrides, read);
                    changed = difference(&before, &self.overrides);
                }
                Err(error) => {
                    let wait = retry_wait(&error, &mut self.backoff, jitter::fraction());
                    self.retry_at = Some(now + wait);
                }
            }
        }
        let is_due = self.retry_at.is_some_and(|at| at <= now);
        let is_idle = self.reading.is_none() && self.retry_at.is_none();
        if is_due || is_idle && self.is_outdated {
            self.read();
        }
        changed
    }

    /// Watches the overrides after what was read, unless they are watched.
    fn watch(&mut self, read: &GetResponse, watches: &LatestSet) -> Result<()> {
        if self.watch.is_none() {
            let all = Watch::prefix(Override::folder(&self.prefix));
            self.watch = Some(watches.submit(all.after(read.header().revision))?);
        }
        Ok(())
    }

    /// The time until which the first answer is awaited, unless it has arrived.
    pub(in crate::discovery) fn awaited_until(&self, now: Instant) -> Option<Instant> {
        self.answer_by
            .filter(|until| !self.has_answer && *until > now)
    }

    /// Whether the wait for the first answer has ended. It is true once.
    pub(in crate::discovery) fn wait_ended(&mut self, now: Instant) -> bool {
        let has_ended = self.is_awaited && self.awaited_until(now).is_none();
        self.is_awaited &= !has_ended;
        has_ended
    }

    /// The key of the override of an instance.
    pub(in crate::discovery) fn key(&self, instance: &Instance) -> Bytes {
        Override::key(&self.prefix, &instance.service, &instance.id).into()
    }

    /// All overrides, by their keys.
    pub(in crate::discovery) fn all(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.overrides
    }

    /// The override of an instance, if there is one.
    ///
    /// # Errors
    ///
    /// Of the kind `InvalidArgument` for a malformed override.
    pub(in crate::discovery) fn of(&self, instance: &Instance) -> Result<Option<Override>> {
        if self.overrides.is_empty() {
            return Ok(None);
        }
        let key = self.key(instance);
        let Some(value) = self.overrides.get(&key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).unwrap_or_default();
        text.parse().map(Some).map_err(|error: Error| {
            let key = String::from_utf8_lossy(&key).into_owned();
            error.operation(Operation::about("read the override", key))
        })
    }

    /// The time at which [`work`](OverrideSource::work) is due, if nothing arrives earlier.
    pub(in crate::discovery) fn due(&self, now: Instant) -> Option<Instant> {
        let times = [self.retry_at, self.awaited_until(now)];
        times.into_iter().flatten().min()
    }

    pub(in crate::discovery) fn wait(&self, waker: &Waker) {
        if let Some(reading) = &self.reading {
            reading.wake_when_ready(waker);
        }
    }
}

/// The wait before the overrides are read again after this error. `random` is in 0..1.
fn retry_wait(error: &Error, backoff: &mut Backoff, random: f64) -> Duration {
    let wait = backoff.next(random);
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => wait.min(UNREACHABLE_RETRY),
        _ => wait,
    }
}

/// The keys whose values differ.
fn difference(before: &BTreeMap<Bytes, Bytes>, after: &BTreeMap<Bytes, Bytes>) -> BTreeSet<Bytes> {
    let keys = before.keys().chain(after.keys());
    let changed = keys.filter(|key| before.get(*key) != after.get(*key));
    changed.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_do_not_end_with_an_outage_are_retried_rarely() {
        let longest = |kind| {
            let (error, mut backoff) = (Error::new(kind, "why"), RETRY);
            (0..20).map(|_| retry_wait(&error, &mut backoff, 1.0)).max()
        };
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
            assert_eq!(longest(kind), Some(UNREACHABLE_RETRY));
        }
        assert_eq!(
            longest(ErrorKind::PermissionDenied),
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn the_difference_has_new_changed_and_deleted_overrides() {
        let map = |entries: &[(&'static str, &'static str)]| {
            let entries = entries.iter();
            entries
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let before = map(&[("a", "up"), ("b", "up"), ("c", "up")]);
        let after = map(&[("b", "draining"), ("c", "up"), ("d", "up")]);
        let changed = difference(&before, &after);
        assert_eq!(changed, BTreeSet::from(["a", "b", "d"].map(Bytes::from)));
    }
}

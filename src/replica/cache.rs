//! Read-through cache of a prefix, based on a mirror.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::replica::mirror::{Mirror, MirrorEvent, Snapshot};
use crate::rpc::kv::{Delete, DeleteResponse, Get, Put, PutResponse, Txn, TxnResponse};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// Default of [`CacheBuilder::wait_timeout`]; the same as in etcd's own cache package.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Read-through cache of a prefix: reads are answered from memory, by a [`Mirror`].
///
/// # Consistency
///
/// | read | includes | cost |
/// |---|---|---|
/// | [`get`](Cache::get), [`list`](Cache::list), [`count`](Cache::count) | every write through this cache, and other writes as soon as the mirror receives them, usually within a millisecond | none |
/// | the same methods with a [`stale_limit`](CacheBuilder::stale_limit) | every write older than the limit | at most one small request per limit, sent by a read |
/// | [`get_at_least`](Cache::get_at_least) | every write up to a revision, such as that of another program's write | none, or a wait |
/// | [`get_linearizable`](Cache::get_linearizable), [`linearizable`](Cache::linearizable) | every write before the call | one small request |
///
/// Every result is of one whole revision. A key or range that is not entirely below the prefix is read from
/// etcd, as is one for which the mirror does not reach the required revision within the
/// [`wait_timeout`](CacheBuilder::wait_timeout). (Servers before 3.4.25 and 3.5.8 report a wrong watch
/// progress, so with them this occurs after every write that is not below the prefix.)
///
/// # While etcd is unavailable
///
/// Without a `stale_limit`, reads are still answered from memory; [`staleness`](Cache::staleness) returns for
/// how long the contents may have been stale. A connection that is silent but not closed is detected after
/// the client's `ping_interval` and `ping_timeout` (15 s by default); a `stale_limit` does not depend on that.
///
/// When the store has lost data (for example, it was restored from a backup), reads that need a revision
/// which is gone fail with [`Rewound`](ErrorKind::Rewound) until the mirror has listed again.
///
/// ```
/// use etcd_blocking::Client;
/// use etcd_blocking::mirror::Cache;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let flags = Cache::open(&client, "flags/")?;
/// flags.put("flags/dark", "on")?;
/// assert_eq!(flags.get("flags/dark")?.expect("just put").value(), "on");
/// assert_eq!(flags.count("flags/dark")?, 1);
///
/// client.put("flags/beta", "on")?; // not through the cache
/// assert!(flags.get_linearizable("flags/beta")?.is_some());
/// # Ok(()) }
/// ```
pub struct Cache {
    client: Client,
    mirror: Mirror,
    stale_limit: Option<Duration>,
    wait_timeout: Duration,
    /// The epoch and the revision of the newest write through this cache: no read returns older contents.
    floor: Mutex<(u64, Revision)>,
    /// The time of the newest request for the store's revision whose answer the mirror has reached.
    verified: Mutex<Option<Instant>>,
}

/// Builder of a [`Cache`] with other settings than the defaults.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::mirror::Cache;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let flags = Cache::builder(&client, "flags/").stale_limit(Duration::from_secs(2)).open()?;
/// println!("{} flags", flags.count("flags/")?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "there is no cache until open()"]
pub struct CacheBuilder {
    client: Client,
    prefix: Bytes,
    stale_limit: Option<Duration>,
    wait_timeout: Duration,
}

impl CacheBuilder {
    /// Sets the maximum age of the contents that reads return; unlimited by default. A read first requests
    /// the store's revision from etcd, unless a read did so within this time, and fails when etcd does not
    /// answer.
    pub fn stale_limit(mut self, limit: Duration) -> Self {
        self.stale_limit = Some(limit);
        self
    }

    /// Sets how long a read waits until the mirror has reached the required revision, before it reads from
    /// etcd, and how long a write waits until it is visible; 3 s by default.
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// Opens the cache. Blocks until the first list is complete.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`].
    pub fn open(self) -> Result<Cache> {
        Ok(Cache {
            mirror: self.client.mirror(KeyRange::prefix(self.prefix))?,
            client: self.client,
            stale_limit: self.stale_limit,
            wait_timeout: self.wait_timeout,
            floor: Mutex::default(),
            verified: Mutex::new(None),
        })
    }
}

impl Cache {
    /// Opens a cache of all keys that begin with `prefix`; an empty prefix means all keys.
    /// Blocks until the first list is complete.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`].
    pub fn open(client: &Client, prefix: impl IntoBytes) -> Result<Cache> {
        Cache::builder(client, prefix).open()
    }

    /// Returns a builder, for a cache with other settings than the defaults. Sends nothing.
    pub fn builder(client: &Client, prefix: impl IntoBytes) -> CacheBuilder {
        CacheBuilder {
            client: client.clone(),
            prefix: prefix.into_bytes(),
            stale_limit: None,
            wait_timeout: WAIT_TIMEOUT,
        }
    }

    /// The key range that is served from memory.
    pub fn keys(&self) -> &KeyRange {
        self.mirror.keys()
    }

    /// Returns the key value of one key, if it exists.
    ///
    /// # Errors
    ///
    /// For a key below the prefix: with a `stale_limit`, the error of the request for the store's revision;
    /// the reason of the end when the mirror has ended. For other keys: as [`Client::get`].
    pub fn get(&self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        match self.contents(KeyRange::key(key.clone()))? {
            Some(memory) => Ok(memory.get(&key).cloned()),
            None => self.client.get(key),
        }
    }

    /// Returns all key values of a range at one revision, in the order of their keys.
    ///
    /// # Errors
    ///
    /// As [`get`](Cache::get).
    pub fn list(&self, range: impl Into<KeyRange>) -> Result<Vec<KeyValue>> {
        let range = range.into();
        match self.contents(range.clone())? {
            Some(memory) => Ok(memory.range(&range).cloned().collect()),
            None => Ok(self.client.call(Get::range(range))?.into_kvs()),
        }
    }

    /// Returns the number of keys in a range.
    ///
    /// # Errors
    ///
    /// As [`get`](Cache::get).
    pub fn count(&self, range: impl Into<KeyRange>) -> Result<u64> {
        let range = range.into();
        match self.contents(range.clone())? {
            Some(memory) => {
                let count = memory.range(&range).count();
                Ok(u64::try_from(count).unwrap_or(u64::MAX))
            }
            None => Ok(self.client.call(Get::range(range).count_only())?.count()),
        }
    }

    /// Returns the key value of one key at `revision` or later. Blocks until the mirror has reached
    /// `revision`, for the `wait_timeout` at most, and then reads from etcd.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when the store itself has not reached `revision`; otherwise as
    /// [`get`](Cache::get).
    pub fn get_at_least(
        &self,
        revision: Revision,
        key: impl IntoBytes,
    ) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        if self.keys().contains(&key) {
            self.check_live()?;
            match self.mirror.wait_revision(revision, self.wait_timeout) {
                Ok(memory) => return Ok(memory.get(&key).cloned()),
                Err(late)
                    if late.kind() == ErrorKind::Timeout && self.store_revision()? < revision =>
                {
                    return Err(late);
                }
                // The store has the revision and the mirror is late: etcd answers.
                Err(late) if late.kind() == ErrorKind::Timeout => {}
                Err(ended) => return Err(ended),
            }
        }
        let answer = self.client.call(Get::key(key))?;
        let now_at = answer.header().revision;
        // The store itself has not reached the revision, so no answer can be new enough.
        if now_at < revision {
            let reason =
                format!("the store is at revision {now_at}, and has not reached {revision}");
            return Err(Error::new(ErrorKind::Timeout, reason).operation(self.operation()));
        }
        Ok(answer.into_kvs().pop())
    }

    /// Returns the key value of one key, including every write before the call.
    ///
    /// # Errors
    ///
    /// As [`linearizable`](Cache::linearizable), except that no `Timeout` occurs because of a slow mirror: the
    /// key is then read from etcd.
    pub fn get_linearizable(&self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        if self.keys().contains(&key)
            && let Ok(memory) = self.verify()?
        {
            return Ok(memory.get(&key).cloned());
        }
        self.client.get(key)
    }

    /// Returns the contents, including every write before the call. It requests the store's revision from
    /// etcd and blocks until the mirror has reached it, for the `wait_timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] for that request; [`Timeout`](ErrorKind::Timeout) when the mirror does not reach
    /// the revision in time; [`Rewound`](ErrorKind::Rewound) when the store has lost data and the mirror has
    /// not yet listed again; the reason of the end when the mirror has ended.
    pub fn linearizable(&self) -> Result<Snapshot> {
        self.verify()?
    }

    /// Returns contents that include every write before the call; the inner error is a timeout of the mirror.
    fn verify(&self) -> Result<Result<Snapshot>> {
        self.check_live()?;
        // Before the request: the answer may be as old as its sending.
        let requested = Instant::now();
        let had = self.mirror.snapshot().revision();
        let now_at = self.store_revision()?;
        // The mirror has a revision that the store has not, or the raft term went back: the store lost data. The mirror
        // lists again, because one answer is no proof, and the new store may pass the old revision before the next one.
        if now_at < had || self.client.known_store().is_rewind_suspected() {
            let rewound = self.rewound(now_at, had);
            self.mirror.list_again(rewound.clone());
            return Err(rewound);
        }
        match self.mirror.wait_revision(now_at, self.wait_timeout) {
            Ok(snapshot) => {
                let mut verified = self.verified.lock();
                // Concurrent verifications can end in any order; the newest one counts.
                *verified = (*verified).max(Some(requested));
                Ok(Ok(snapshot))
            }
            Err(late) if late.kind() == ErrorKind::Timeout => Ok(Err(late)),
            Err(ended) => Err(ended),
        }
    }

    /// The current contents. Does not block and sends no request, whatever the settings.
    pub fn snapshot(&self) -> Snapshot {
        self.mirror.snapshot()
    }

    /// The revision of the current contents. Does not block.
    pub fn revision(&self) -> Revision {
        self.mirror.snapshot().revision()
    }

    /// The time for which the contents may have been stale; `None` while the mirror's watch is live. Does not
    /// block.
    pub fn staleness(&self) -> Option<Duration> {
        self.mirror.staleness()
    }

    /// The newest reason why the contents may be stale; `None` while the mirror's watch is live. Does not
    /// block.
    pub fn last_error(&self) -> Option<Error> {
        self.mirror.last_error()
    }

    /// The channel of all changes, as [`Mirror::changes`].
    pub fn changes(&self) -> &Receiver<Result<MirrorEvent>> {
        self.mirror.changes()
    }

    /// Puts a key, and blocks until this cache includes the write, for the `wait_timeout` at most.
    ///
    /// When that takes longer, the put is `Ok` nevertheless, and the next read waits.
    ///
    /// # Errors
    ///
    /// As [`Client::put`].
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<PutResponse> {
        let key = key.into_bytes();
        let inside = self.keys().contains(&key);
        let put = self.client.call(Put::new(key, value))?;
        if inside {
            self.wait_visible(put.revision());
        }
        Ok(put)
    }

    /// Deletes a key or a range, and then blocks as [`put`](Cache::put) does.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn delete(&self, keys: impl Into<KeyRange>) -> Result<DeleteResponse> {
        let delete = self.client.call(Delete::range(keys))?;
        self.wait_visible(delete.revision());
        Ok(delete)
    }

    /// Runs a transaction on etcd, and then blocks as [`put`](Cache::put) does: later reads include its
    /// writes, and return nothing older than its reads.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let response = self.client.txn(txn)?;
        self.wait_visible(response.revision());
        Ok(response)
    }

    /// Waits until a write through this cache is visible.
    fn wait_visible(&self, revision: Revision) {
        // Own writes must be visible: no later read may return contents before this revision.
        let written = (self.client.known_store().epoch, revision);
        let mut floor = self.floor.lock();
        *floor = (*floor).max(written);
        drop(floor);
        // The write has succeeded even if the wait fails; then the next read waits again.
        let _ = self.mirror.wait_position(written, self.wait_timeout);
    }

    /// The contents that answer a read of these keys; `None` when etcd must be read.
    fn contents(&self, keys: KeyRange) -> Result<Option<Snapshot>> {
        if !covers(self.keys(), &keys) {
            return Ok(None);
        }
        self.check_live()?;
        // Only a wait that timed out leaves the mirror behind the floor.
        let floor = *self.floor.lock();
        if !self.mirror.has_reached(floor) && !self.reach(floor)? {
            return Ok(None);
        }
        match self.stale_limit {
            Some(limit) if !self.is_verified(limit) => Ok(self.verify()?.ok()),
            _ => Ok(Some(self.mirror.snapshot())),
        }
    }

    /// Fails when the mirror has ended: its contents do not change any more.
    fn check_live(&self) -> Result<()> {
        match self.mirror.ended() {
            Some(ended) => Err(ended.operation(self.operation())),
            None => Ok(()),
        }
    }

    /// Waits until the mirror has reached `floor`; `false` after the `wait_timeout`.
    fn reach(&self, floor: (u64, Revision)) -> Result<bool> {
        match self.mirror.wait_position(floor, self.wait_timeout) {
            Ok(_) => Ok(true),
            Err(late) if late.kind() == ErrorKind::Timeout => Ok(false),
            Err(ended) => Err(ended),
        }
    }

    fn is_verified(&self, limit: Duration) -> bool {
        let verified = *self.verified.lock();
        verified.is_some_and(|requested| requested.elapsed() < limit)
    }

    /// Requests the store's revision, with a linearizable read that returns no keys.
    fn store_revision(&self) -> Result<Revision> {
        // The smallest linearizable read that the permissions of the cache's user cover.
        let any = Get::key(self.keys().start().clone()).count_only();
        let answer = self
            .client
            .call(any)
            .map_err(|error| error.operation(self.operation()))?;
        Ok(answer.header().revision)
    }

    /// The error for a store that lost data.
    fn rewound(&self, now_at: Revision, had: Revision) -> Error {
        let reason = match now_at < had {
            true => format!("the store is at revision {now_at}, and was at {had}: it lost data"),
            false => "the raft term of the store is lower than before: it lost data".to_owned(),
        };
        Error::new(ErrorKind::Rewound, reason).operation(self.operation())
    }

    fn operation(&self) -> Operation {
        Operation::on("read the cache of", self.keys().clone())
    }
}

/// Prints no keys and no values.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("keys", self.keys())
            .field("revision", &self.revision())
            .field("staleness", &self.staleness())
            .field("stale_limit", &self.stale_limit)
            .finish_non_exhaustive()
    }
}

/// Returns whether `outer`, which is a range, contains all of `inner`.
fn covers(outer: &KeyRange, inner: &KeyRange) -> bool {
    const NO_END: &[u8] = b"\0";
    let (end, last) = (outer.range_end(), inner.range_end());
    outer.contains(inner.start())
        // A range end of `\0` means "up to the last key".
        && (inner.is_single() || end == NO_END || (last != NO_END && last <= end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_inside_the_prefix_are_covered() {
        let outer = KeyRange::prefix("b/");
        for inside in [
            KeyRange::key("b/x"),
            KeyRange::prefix("b/x/"),
            KeyRange::prefix("b/"),
            KeyRange::range("b/", "b0"),
            KeyRange::range("b/1", "b/2"),
        ] {
            assert!(covers(&outer, &inside), "{inside}");
            assert!(covers(&KeyRange::all(), &inside), "{inside}");
        }
        for outside in [
            KeyRange::key("b"),
            KeyRange::key("b0"),
            KeyRange::prefix("b"),
            KeyRange::from_key("b/x"),
            KeyRange::range("a", "b/1"),
            KeyRange::range("b/1", "b1"),
            KeyRange::all(),
        ] {
            assert!(!covers(&outer, &outside), "{outside}");
            assert!(covers(&KeyRange::all(), &outside), "{outside}");
        }
    }
}

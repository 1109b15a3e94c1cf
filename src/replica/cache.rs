//! A prefix of etcd in memory, read as if it were etcd.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
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

/// How long a read waits for a revision unless told otherwise: that of etcd's own cache.
const WAIT: Duration = Duration::from_secs(3);

/// A read-through view of a prefix: reads are answered from memory, from a [`Mirror`] of it.
///
/// # How new an answer is
///
/// | read | what it sees | what it costs |
/// |---|---|---|
/// | [`get`](Cache::get), [`list`](Cache::list), [`count`](Cache::count) | everything written through this cache, and what the mirror has of the rest: usually all but the last millisecond | nothing |
/// | the same with a [`stale_limit`](CacheBuilder::stale_limit) | everything written anywhere before that time | one small request per that time, when there are reads |
/// | [`get_at_least`](Cache::get_at_least) | everything up to a revision, such as that of another program's write | nothing, or a wait |
/// | [`get_linearizable`](Cache::get_linearizable), [`linearizable`](Cache::linearizable) | everything written anywhere before the call | one small request |
///
/// All of them see whole revisions only, and one snapshot is one revision. A key or range that is not
/// wholly inside the prefix is read from etcd; and so is one for which memory is not new enough in
/// the [`wait_timeout`](CacheBuilder::wait_timeout). (Servers before 3.4.25 and 3.5.8 do not say truly
/// how far a watch is, so there that happens after every write that is not below the prefix.)
///
/// # When etcd is away
///
/// Without a `stale_limit`, reads go on from memory; [`staleness`](Cache::staleness) says for how long
/// it may have been behind. A link that is silent and not closed is noticed after the client's
/// `ping_interval` and `ping_timeout` (15 s); a `stale_limit` does not depend on that.
///
/// A store that lost data (restored from a backup) is one [`Rewound`](ErrorKind::Rewound) for
/// reads that can tell, until the mirror has listed anew.
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
    wait: Duration,
    /// The newest revision that was written or waited for here: no read shows an older one.
    floor: AtomicI64,
    /// When the question was asked whose answer the mirror has reached.
    proof: Mutex<Option<Instant>>,
}

/// The settings of a [`Cache`].
#[derive(Clone, Debug)]
#[must_use = "there is no cache until open()"]
pub struct CacheBuilder {
    client: Client,
    prefix: Bytes,
    stale_limit: Option<Duration>,
    wait: Duration,
}

impl CacheBuilder {
    /// Refuses to answer from what may be older than this: a read then asks etcd for its revision,
    /// unless that was done within this time, and fails when etcd does not answer. There is none unless
    /// set.
    pub fn stale_limit(mut self, limit: Duration) -> Self {
        self.stale_limit = Some(limit);
        self
    }

    /// How long a read waits until memory has the revision that it needs, before it asks etcd for the
    /// key; and a write until it is visible; 3 s unless set.
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait = timeout;
        self
    }

    /// Opens it. Blocks until the first list is there.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`].
    pub fn open(self) -> Result<Cache> {
        Ok(Cache {
            mirror: self.client.mirror(KeyRange::prefix(self.prefix))?,
            client: self.client,
            stale_limit: self.stale_limit,
            wait: self.wait,
            floor: AtomicI64::new(0),
            proof: Mutex::new(None),
        })
    }
}

impl Cache {
    /// Opens a cache of every key that begins with `prefix`; an empty prefix is every key.
    /// Blocks until the first list is there.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`].
    pub fn open(client: &Client, prefix: impl IntoBytes) -> Result<Cache> {
        Cache::builder(client, prefix).open()
    }

    /// The same with settings.
    pub fn builder(client: &Client, prefix: impl IntoBytes) -> CacheBuilder {
        CacheBuilder {
            client: client.clone(),
            prefix: prefix.into_bytes(),
            stale_limit: None,
            wait: WAIT,
        }
    }

    /// The keys that are served from memory.
    pub fn keys(&self) -> &KeyRange {
        self.mirror.keys()
    }

    /// The value of one key.
    ///
    /// # Errors
    ///
    /// Of what is served from memory: with a `stale_limit` what the question to etcd failed with; why
    /// the mirror ended, if it has. Of what is not: as [`Client::get`].
    pub fn get(&self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        match self.view(KeyRange::key(key.clone()))? {
            Some(memory) => Ok(memory.get(&key).cloned()),
            None => self.client.get(key),
        }
    }

    /// Every key of a range, in their order and at one revision.
    ///
    /// # Errors
    ///
    /// As [`get`](Cache::get).
    pub fn list(&self, range: impl Into<KeyRange>) -> Result<Vec<KeyValue>> {
        let range = range.into();
        match self.view(range.clone())? {
            Some(memory) => Ok(memory.range(&range).cloned().collect()),
            None => Ok(self.client.call(Get::range(range))?.into_kvs()),
        }
    }

    /// How many keys a range has.
    ///
    /// # Errors
    ///
    /// As [`get`](Cache::get).
    pub fn count(&self, range: impl Into<KeyRange>) -> Result<u64> {
        let range = range.into();
        match self.view(range.clone())? {
            Some(memory) => {
                let count = memory.range(&range).count();
                Ok(u64::try_from(count).unwrap_or(u64::MAX))
            }
            None => Ok(self.client.call(Get::range(range).count_only())?.count()),
        }
    }

    /// The value of one key, as of `revision` or later: what was written by then is seen. It waits
    /// until the cache has that, at most for the `wait_timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when the store itself is not there yet; else as
    /// [`get`](Cache::get).
    pub fn get_at_least(
        &self,
        revision: Revision,
        key: impl IntoBytes,
    ) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        if self.keys().contains(&key) {
            self.check()?;
            match self.mirror.wait_revision(revision, self.wait) {
                Ok(memory) => return Ok(memory.get(&key).cloned()),
                Err(late) if late.kind() == ErrorKind::Timeout && self.ask()? < revision => {
                    return Err(late);
                }
                Err(late) if late.kind() == ErrorKind::Timeout => {}
                Err(ended) => return Err(ended),
            }
        }
        let answer = self.client.call(Get::key(key))?;
        let now_at = answer.header().revision;
        if now_at < revision {
            let reason = format!("the store is at revision {now_at}, and not yet at {revision}");
            return Err(Error::new(ErrorKind::Timeout, reason).operation(self.operation()));
        }
        Ok(answer.into_kvs().pop())
    }

    /// The value of one key, with everything that was written anywhere before the call.
    ///
    /// # Errors
    ///
    /// As [`linearizable`](Cache::linearizable), but that a mirror that is late is no error: then it is
    /// read from etcd.
    pub fn get_linearizable(&self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        if self.keys().contains(&key)
            && let Ok(memory) = self.prove()?
        {
            return Ok(memory.get(&key).cloned());
        }
        self.client.get(key)
    }

    /// All keys, with everything that was written anywhere before the call. It asks etcd for its
    /// revision, in an answer without keys, and waits until the mirror has reached it.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] of that question; [`Timeout`](ErrorKind::Timeout) when the mirror did not
    /// reach it in time; [`Rewound`](ErrorKind::Rewound) when the store has lost data and the mirror
    /// has yet to list anew; why the mirror ended, if it has.
    pub fn linearizable(&self) -> Result<Snapshot> {
        self.prove()?
    }

    /// Makes sure that memory has everything of before the call; the inner error is that it did not
    /// get there in time.
    fn prove(&self) -> Result<Result<Snapshot>> {
        self.check()?;
        let asked = Instant::now();
        let had = self.mirror.snapshot().revision();
        let now_at = self.ask()?;
        if now_at < had {
            return Err(self.rewound(now_at, had));
        }
        match self.mirror.wait_revision(now_at, self.wait) {
            Ok(snapshot) => {
                let mut proof = self.proof.lock();
                *proof = (*proof).max(Some(asked));
                Ok(Ok(snapshot))
            }
            Err(late) if late.kind() == ErrorKind::Timeout => Ok(Err(late)),
            Err(ended) => Err(ended),
        }
    }

    /// What memory has now. It does not block and does not ask, whatever the settings.
    pub fn snapshot(&self) -> Snapshot {
        self.mirror.snapshot()
    }

    /// The revision that memory has reached.
    pub fn revision(&self) -> Revision {
        self.mirror.snapshot().revision()
    }

    /// For how long memory may have been behind, as far as the mirror knows; `None` while it follows.
    pub fn staleness(&self) -> Option<Duration> {
        self.mirror.staleness()
    }

    /// Why memory may have been behind, as far as it is known; `None` while the mirror follows.
    pub fn last_error(&self) -> Option<Error> {
        self.mirror.last_error()
    }

    /// What happens to the keys, as from [`Mirror::changes`].
    pub fn changes(&self) -> &Receiver<Result<MirrorEvent>> {
        self.mirror.changes()
    }

    /// Stores a value under a key, and waits until this cache shows it, at most for the
    /// `wait_timeout`. When that takes longer, the put is `Ok` all the same, and it is the next
    /// read that waits.
    ///
    /// # Errors
    ///
    /// As [`Client::put`].
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<PutResponse> {
        let key = key.into_bytes();
        let inside = self.keys().contains(&key);
        let put = self.client.call(Put::new(key, value))?;
        if inside {
            self.wrote(put.revision());
        }
        Ok(put)
    }

    /// Deletes a key or a range, and waits as [`put`](Cache::put) does.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn delete(&self, keys: impl Into<KeyRange>) -> Result<DeleteResponse> {
        let delete = self.client.call(Delete::range(keys))?;
        self.wrote(delete.revision());
        Ok(delete)
    }

    /// Runs a transaction on etcd, and waits as [`put`](Cache::put) does: later reads show what it
    /// wrote, and nothing older than what it read.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let response = self.client.txn(txn)?;
        self.wrote(response.revision());
        Ok(response)
    }

    fn wrote(&self, revision: Revision) {
        self.floor.fetch_max(revision.get(), SeqCst);
        // The write is done, whatever becomes of the wait; the next read waits again.
        let _ = self.mirror.wait_revision(revision, self.wait);
    }

    /// What a read of these keys is answered from; nothing when that is etcd itself.
    fn view(&self, keys: KeyRange) -> Result<Option<Snapshot>> {
        if !covers(self.keys(), &keys) {
            return Ok(None);
        }
        self.check()?;
        let floor = Revision::new(self.floor.load(SeqCst));
        if self.mirror.snapshot().revision() < floor && !self.reach(floor)? {
            return Ok(None);
        }
        match self.stale_limit {
            Some(limit) if !self.is_proven(limit) => Ok(self.prove()?.ok()),
            _ => Ok(Some(self.mirror.snapshot())),
        }
    }

    /// A mirror that has ended will never be right again.
    fn check(&self) -> Result<()> {
        match self.mirror.ended() {
            Some(ended) => Err(ended.operation(self.operation())),
            None => Ok(()),
        }
    }

    /// Waits for what was written here; `false` when that takes too long.
    fn reach(&self, floor: Revision) -> Result<bool> {
        match self.mirror.wait_revision(floor, self.wait) {
            Ok(_) => Ok(true),
            Err(late) if late.kind() == ErrorKind::Timeout => match self.ask()? {
                now_at if now_at < floor => Err(self.rewound(now_at, floor)),
                _ => Ok(false),
            },
            Err(ended) => Err(ended),
        }
    }

    fn is_proven(&self, limit: Duration) -> bool {
        let proof = *self.proof.lock();
        proof.is_some_and(|asked| asked.elapsed() < limit)
    }

    /// Which revision etcd is at, by the cheapest linearizable read there is.
    fn ask(&self) -> Result<Revision> {
        let any = Get::key(self.keys().start().clone()).count_only();
        let answer = self
            .client
            .call(any)
            .map_err(|error| error.operation(self.operation()))?;
        Ok(answer.header().revision)
    }

    /// What was written is gone, so nobody can wait for it any more.
    fn rewound(&self, now_at: Revision, had: Revision) -> Error {
        self.floor.store(0, SeqCst);
        let reason = format!("the store is at revision {now_at}, and was at {had}: it lost data");
        Error::new(ErrorKind::Rewound, reason).operation(self.operation())
    }

    fn operation(&self) -> Operation {
        Operation::on("read the cache of", self.keys().clone())
    }
}

/// Shows no keys and no values.
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

/// Whether all of `inner` is in `outer`, which is a range.
fn covers(outer: &KeyRange, inner: &KeyRange) -> bool {
    const NO_END: &[u8] = b"\0";
    let (end, last) = (outer.range_end(), inner.range_end());
    outer.contains(inner.start())
        && (inner.is_single() || end == NO_END || (last != NO_END && last <= end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_when_all_of_it_is() {
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

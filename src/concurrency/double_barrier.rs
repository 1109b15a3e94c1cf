//! A double barrier: a fixed number of programs enter together and leave together.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Select;

use super::Session;
use super::events_are_missing;
use super::fifo::nanos;
use super::queue::key_gone_error;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Compare, Delete, Get, GetResponse, Op, Put, SortOrder, SortTarget, Txn};
use crate::rpc::watch::{Watch, Watcher};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// A barrier in etcd for a fixed number of programs: [`enter`](DoubleBarrier::enter) blocks until all
/// have entered, and [`leave`](Inside::leave) until all leave.
///
/// The keys are those of Go's `recipe.DoubleBarrier`: `<key>/waiters/<nanoseconds since 1970>` on the
/// lease of each program's session, and `<key>/ready`. When the lease of a crashed program ends, the
/// others do not wait for it any longer.
///
/// As in Go, a program that enters the next round while others are still inside counts those as entered.
///
/// ```
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::{DoubleBarrier, Session};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let session = Session::builder(&client).start()?;
/// // A count of one; other programs would use the same key and count.
/// let inside = DoubleBarrier::new(&session, "barrier/step-1", 1).enter()?;
/// // ... all programs are inside
/// inside.leave()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    session: Session,
    key: Bytes,
    count: usize,
}

/// A program inside a [`DoubleBarrier`], from [`enter`](DoubleBarrier::enter) until
/// [`leave`](Inside::leave).
///
/// Dropping it does not leave: the others wait until the session is over.
///
/// ```no_run
/// use etcd_blocking::concurrency::{DoubleBarrier, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// // Blocks until three have entered, and then until three have left.
/// let inside = DoubleBarrier::new(&session, "jobs/1", 3).enter()?;
/// inside.leave()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "the others wait until it leaves, or its session is over"]
pub struct Inside {
    barrier: DoubleBarrier,
    own_key: OwnKey,
    /// Programs that entered after this revision belong to the next round.
    opened: Revision,
}

/// The key of one program that entered.
#[derive(Clone, Debug)]
struct OwnKey {
    key: Bytes,
    created: Revision,
}

impl OwnKey {
    /// A condition that is true while the key is the one that this program put.
    fn is_there(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.created)
    }

    /// Deletes the key, and no later key of the same name.
    fn deletion(&self) -> Txn {
        Txn::when([self.is_there()]).then([Delete::key(self.key.clone())])
    }
}

impl DoubleBarrier {
    /// Creates a handle of the barrier with this key for `count` programs (at least 1). All programs must
    /// use the same count.
    pub fn new(session: &Session, key: impl AsRef<[u8]>, count: usize) -> Self {
        DoubleBarrier {
            session: session.clone(),
            key: Bytes::copy_from_slice(key.as_ref()),
            count: count.max(1),
        }
    }

    /// Enters the barrier, and blocks until all programs have entered. It uses a watch, and does not
    /// poll.
    ///
    /// After an error the key of this call is deleted; if etcd is unreachable, it is deleted with the
    /// session.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when `count` programs are already inside;
    /// [`NotFound`](ErrorKind::NotFound) when the key of this call is deleted; the reason of the session
    /// when it is lost; otherwise as [`Client::put`] and [`Client::watch`].
    pub fn enter(&self) -> Result<Inside> {
        self.enter_timeout(Duration::MAX)
    }

    /// Enters the barrier as [`enter`](DoubleBarrier::enter), and blocks for at most `timeout` and one call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when not all entered in time; otherwise as
    /// [`enter`](DoubleBarrier::enter).
    pub fn enter_timeout(&self, timeout: Duration) -> Result<Inside> {
        let begun = Instant::now();
        let about = || Operation::on("enter", KeyRange::key(self.key.clone()));
        let (own_key, entered) = self
            .take_place()
            .map_err(|error| error.operation(about()))?;
        match self.wait_for_all(&own_key, &entered, (begun, timeout)) {
            Ok(opened) => Ok(Inside {
                barrier: self.clone(),
                own_key,
                opened,
            }),
            Err(error) => {
                // If this fails, the key is deleted with the lease.
                let _ = self.client().txn(own_key.deletion());
                Err(error.operation(about()))
            }
        }
    }

    fn client(&self) -> &Client {
        self.session.client()
    }

    fn below(&self, name: &[u8]) -> Bytes {
        [&self.key[..], name].concat().into()
    }

    fn ready(&self) -> Bytes {
        self.below(b"/ready")
    }

    /// All programs inside, in the order in which they entered.
    fn waiters(&self) -> Get {
        // Without a slash at the end, as Go reads them.
        Get::prefix(self.below(b"/waiters"))
            .sort(SortTarget::CreateRevision, SortOrder::Ascend)
            .keys_only()
    }

    /// Creates the key of this program, and returns the programs that were inside at that revision.
    fn take_place(&self) -> Result<(OwnKey, GetResponse)> {
        loop {
            let own_key = self.below(format!("/waiters/{}", nanos()).as_bytes());
            let put = Put::new(own_key.clone(), "").lease(self.session.lease());
            let take = Txn::when([Compare::version(own_key.clone()).eq(0)])
                .then([Op::from(put), self.waiters().into()]);
            let taken = match self.client().txn(take) {
                Ok(taken) => taken,
                Err(error) => {
                    // The put may have been executed; its key would count as a program until the
                    // lease ends.
                    if error.outcome_unknown() {
                        let ours = Compare::lease(own_key.clone()).eq(self.session.lease());
                        let delete = Txn::when([ours]).then([Delete::key(own_key)]);
                        let _ = self.client().txn(delete);
                    }
                    return Err(error);
                }
            };
            // Otherwise another program has used the same nanosecond.
            if let (true, Some(waiters)) = (taken.succeeded(), taken.get(1)) {
                let created = taken.revision();
                let own = OwnKey {
                    key: own_key,
                    created,
                };
                return Ok((own, waiters.clone()));
            }
        }
    }

    /// Waits for the first event of `awaited`; `None` means that the keys must be read again. An event
    /// of `own`, the deletion of our own key, is an error.
    fn wait(
        &self,
        awaited: Watch,
        own: Option<&Watcher>,
        until: (Instant, Duration),
    ) -> Result<Option<Revision>> {
        let (begun, timeout) = until;
        let events = self.client().watch(awaited)?;
        loop {
            self.session.check()?;
            // Checked first: if the barrier opened before our key was deleted, it opened for us.
            match event(&events)? {
                WatchItem::None => {}
                WatchItem::At(revision) => return Ok(Some(revision)),
                WatchItem::Unknown => return Ok(None),
            }
            match own.map(event).transpose()? {
                None | Some(WatchItem::None) => {}
                Some(WatchItem::At(_)) => {
                    return Err(key_gone_error(&self.session, self.client().timeout()));
                }
                Some(WatchItem::Unknown) => return Ok(None),
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let reason = format!("not all programs arrived in {timeout:?}");
                return Err(Error::new(ErrorKind::Timeout, reason));
            }
            // Only selected on: the item belongs to the reader of `lost`.
            let mut select = Select::new();
            select.recv(events.receiver());
            select.recv(self.session.lost());
            if let Some(own) = own {
                select.recv(own.receiver());
            }
            // The next iteration handles whatever is ready, and the timeout.
            let _ = match begun.checked_add(timeout) {
                Some(end) => select.ready_deadline(end).ok(),
                None => Some(select.ready()),
            };
        }
    }

    /// Waits until the barrier opens, and returns its revision. The last program opens it.
    fn wait_for_all(
        &self,
        own_key: &OwnKey,
        entered: &GetResponse,
        until: (Instant, Duration),
    ) -> Result<Revision> {
        let index = entered.kvs().iter().position(|kv| *kv.key() == own_key.key);
        // The keys are sorted by create_revision, so the index is the order of arrival.
        let position = index.map_or(entered.kvs().len(), |index| index + 1);
        if position > self.count {
            let reason = format!(
                "{} programs are already inside: the barrier is full",
                self.count
            );
            return Err(Error::new(ErrorKind::Conflict, reason));
        }
        let came = own_key.created;
        if position == self.count {
            // Only if our key still exists: a late request would open the next round.
            let open = Txn::when([own_key.is_there()]).then([Put::new(self.ready(), "")]);
            let opened = self.client().txn(open)?;
            if opened.succeeded() {
                return Ok(opened.revision());
            }
            return Err(key_gone_error(&self.session, self.client().timeout()));
        }
        let mut after = came;
        loop {
            // Both watches begin after the last read, so no event in between is missed.
            let deletion = Watch::key(own_key.key.clone()).after(after).no_put();
            let own = self.client().watch(deletion)?;
            let opening = Watch::key(self.ready()).after(after).no_delete();
            if let Some(opened) = self.wait(opening, Some(&own), until)? {
                return Ok(opened);
            }
            // Events are missing: read whether it opened, and whether our key still exists.
            let looked = [Get::key(self.ready()), Get::key(own_key.key.clone())];
            let looked = self.client().txn(Txn::always(looked))?;
            let first = |index| looked.get(index).and_then(GetResponse::first);
            match first(0).map(KeyValue::mod_revision) {
                // A `ready` key from before our key was created belongs to an earlier round.
                Some(opened) if opened > came => return Ok(opened),
                _ => after = looked.revision(),
            }
            if first(1).is_none_or(|kv| kv.create_revision() != came) {
                return Err(key_gone_error(&self.session, self.client().timeout()));
            }
        }
    }
}

/// An item of a watch.
enum WatchItem {
    None,
    At(Revision),
    /// Events may be missing.
    Unknown,
}

fn event(watcher: &Watcher) -> Result<WatchItem> {
    match watcher.try_recv() {
        Ok(Ok(response)) if response.events().is_empty() => Ok(WatchItem::None),
        Ok(Ok(response)) => Ok(WatchItem::At(response.revision())),
        Ok(Err(error)) if !events_are_missing(&error) => Err(error),
        Ok(Err(_)) => Ok(WatchItem::Unknown),
        Err(error) if error.is_disconnected() => Ok(WatchItem::Unknown),
        Err(_) => Ok(WatchItem::None),
    }
}

impl Inside {
    /// Leaves the barrier, and blocks until all programs leave or are gone. It uses a watch, and does
    /// not poll.
    ///
    /// After an error the others do not wait for this program: its key is deleted, with the session at
    /// the latest.
    ///
    /// # Errors
    ///
    /// The reason of the session when it is lost; otherwise as [`Client::delete`] and [`Client::watch`].
    pub fn leave(self) -> Result<()> {
        self.leave_timeout(Duration::MAX)
    }

    /// Leaves the barrier as [`leave`](Inside::leave), and blocks for at most `timeout` and one call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when not all left in time; otherwise as [`leave`](Inside::leave).
    pub fn leave_timeout(self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let left = self.leave_together(begun, timeout);
        left.map_err(|error| {
            // If this fails, the key is deleted with the lease.
            let _ = self.barrier.client().txn(self.own_key.deletion());
            error.operation(Operation::on(
                "leave",
                KeyRange::key(self.barrier.key.clone()),
            ))
        })
    }

    /// Leaves as Go does: the first program waits for the last one; the others delete their keys and
    /// wait for the first; the only one left also deletes the `ready` key.
    fn leave_together(&self, begun: Instant, timeout: Duration) -> Result<()> {
        let barrier = &self.barrier;
        let client = barrier.client();
        loop {
            barrier.session.check()?;
            // Later keys belong to programs of the next round.
            let there = client.call(barrier.waiters().max_create_revision(self.opened))?;
            let revision = there.header().revision;
            let (Some(first), Some(last)) = (there.first(), there.kvs().last()) else {
                return Ok(());
            };
            let is_first = *first.key() == self.own_key.key;
            if is_first && there.kvs().len() == 1 {
                // The last program deletes `ready`, so that the next round can begin.
                let close = [
                    Delete::key(barrier.ready()),
                    Delete::key(self.own_key.key.clone()),
                ];
                client.txn(Txn::always(close))?;
                return Ok(());
            }
            // As in Go: the first program waits for the last one, and the others for the first.
            let awaited = if is_first { last } else { first };
            if !is_first {
                client.txn(self.own_key.deletion())?;
            }
            let left = Watch::key(awaited.key().clone()).after(revision).no_put();
            barrier.wait(left, None, (begun, timeout))?;
        }
    }
}

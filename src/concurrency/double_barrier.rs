//! A barrier that a number of programs enter together and leave together.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Select;

use super::Session;
use super::fifo::nanos;
use super::missed;
use super::queue::gone;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Compare, Delete, Get, GetResponse, Op, Put, SortOrder, SortTarget, Txn};
use crate::rpc::watch::{Watch, Watcher};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// A barrier in etcd for a fixed number of programs: nobody gets in before all are there, and nobody
/// gets out before all want to.
///
/// The keys are those of Go's `recipe.DoubleBarrier`: `<key>/waiters/<nanoseconds since 1970>` on the
/// session's lease for who is there, and `<key>/ready`. A program that dies is counted out when its
/// lease ends, and those that leave do not wait for it any longer.
///
/// As in Go, who enters the next round while others are still inside counts those as having come.
///
/// ```
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::{DoubleBarrier, Session};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let session = Session::builder(&client).start()?;
/// // A party of one; the others would be other programs with the same key and count.
/// let inside = DoubleBarrier::new(&session, "barrier/step-1", 1).enter()?;
/// // ... all of them are here
/// inside.leave()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    session: Session,
    key: Bytes,
    count: usize,
}

/// A place inside a [`DoubleBarrier`], from [`enter`](DoubleBarrier::enter) until
/// [`leave`](Inside::leave).
///
/// Dropping it does not leave: the others wait until the session is over.
#[derive(Debug)]
#[must_use = "the others wait until it leaves, or its session is over"]
pub struct Inside {
    barrier: DoubleBarrier,
    place: Own,
    /// Who came later is of the next round.
    opened: Revision,
}

/// The key of one program that entered.
#[derive(Clone, Debug)]
struct Own {
    key: Bytes,
    created: Revision,
}

impl Own {
    /// Holds while the key is the one that this program put.
    fn is_there(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.created)
    }

    /// Deletes the key, and no other of its name.
    fn deletion(&self) -> Txn {
        Txn::when([self.is_there()]).then([Delete::key(self.key.clone())])
    }
}

impl DoubleBarrier {
    /// The barrier with this key, for so many programs (at least 1), all of which say the same number.
    pub fn new(session: &Session, key: impl AsRef<[u8]>, count: usize) -> Self {
        DoubleBarrier {
            session: session.clone(),
            key: Bytes::copy_from_slice(key.as_ref()),
            count: count.max(1),
        }
    }

    /// Blocks until all are there. It waits without polling, in a watch.
    ///
    /// Whatever it fails with, no key of this call is left behind: when etcd cannot be told, it goes
    /// with the session.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when as many as it is for are inside already;
    /// [`NotFound`](ErrorKind::NotFound) as soon as somebody deletes the key that this call put; why the
    /// session was lost; else as [`Client::put`] and [`Client::watch`].
    pub fn enter(&self) -> Result<Inside> {
        self.enter_timeout(Duration::MAX)
    }

    /// The same, for at most `timeout` and a call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when not all came in time; else as
    /// [`enter`](DoubleBarrier::enter).
    pub fn enter_timeout(&self, timeout: Duration) -> Result<Inside> {
        let begun = Instant::now();
        let about = || Operation::on("enter", KeyRange::key(self.key.clone()));
        let (place, entered) = self
            .take_place()
            .map_err(|error| error.operation(about()))?;
        match self.wait_for_all(&place, &entered, (begun, timeout)) {
            Ok(opened) => Ok(Inside {
                barrier: self.clone(),
                place,
                opened,
            }),
            Err(error) => {
                // Else the lease takes it along.
                let _ = self.client().txn(place.deletion());
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

    /// Everybody who is there, in the order in which they came.
    fn waiters(&self) -> Get {
        // Without a slash at the end, as Go reads them.
        Get::prefix(self.below(b"/waiters"))
            .sort(SortTarget::CreateRevision, SortOrder::Ascend)
            .keys_only()
    }

    /// Makes a key of its own, and returns who was there just then.
    fn take_place(&self) -> Result<(Own, GetResponse)> {
        loop {
            let place = self.below(format!("/waiters/{}", nanos()).as_bytes());
            let put = Put::new(place.clone(), "").lease(self.session.lease());
            let take = Txn::when([Compare::version(place.clone()).eq(0)])
                .then([Op::from(put), self.waiters().into()]);
            let taken = match self.client().txn(take) {
                Ok(taken) => taken,
                Err(error) => {
                    if error.outcome_unknown() {
                        let ours = Compare::lease(place.clone()).eq(self.session.lease());
                        let delete = Txn::when([ours]).then([Delete::key(place)]);
                        let _ = self.client().txn(delete);
                    }
                    return Err(error);
                }
            };
            if let (true, Some(waiters)) = (taken.succeeded(), taken.get(1)) {
                let created = taken.revision();
                let own = Own {
                    key: place,
                    created,
                };
                return Ok((own, waiters.clone()));
            }
        }
    }

    /// Waits for the first event of `awaited`; `None` when that has to be looked at anew. An event of
    /// `own`, the deletion of our own key, is an error.
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
            // First: what was opened before our key was deleted was opened for us.
            match event(&events)? {
                Seen::Nothing => {}
                Seen::At(revision) => return Ok(Some(revision)),
                Seen::Unknown => return Ok(None),
            }
            match own.map(event).transpose()? {
                None | Some(Seen::Nothing) => {}
                Some(Seen::At(_)) => return Err(gone(&self.session, self.client().timeout())),
                Some(Seen::Unknown) => return Ok(None),
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let reason = format!("the others did not come along in {timeout:?}");
                return Err(Error::new(ErrorKind::Timeout, reason));
            }
            // Looks only: what is lost is for the owner of the session to receive.
            let mut select = Select::new();
            select.recv(events.receiver());
            select.recv(self.session.lost());
            if let Some(own) = own {
                select.recv(own.receiver());
            }
            // Whichever it is, or the time is over, the next turn sees it.
            let _ = match begun.checked_add(timeout) {
                Some(end) => select.ready_deadline(end).ok(),
                None => Some(select.ready()),
            };
        }
    }

    /// Waits until the barrier opens, and returns when it did; whoever comes last opens it.
    fn wait_for_all(
        &self,
        place: &Own,
        entered: &GetResponse,
        until: (Instant, Duration),
    ) -> Result<Revision> {
        let index = entered.kvs().iter().position(|kv| *kv.key() == place.key);
        let position = index.map_or(entered.kvs().len(), |index| index + 1);
        if position > self.count {
            let reason = format!("{} are inside already: too many clients", self.count);
            return Err(Error::new(ErrorKind::Conflict, reason));
        }
        let came = place.created;
        if position == self.count {
            // On the condition that it still counts: late, this would open the next round.
            let open = Txn::when([place.is_there()]).then([Put::new(self.ready(), "")]);
            let opened = self.client().txn(open)?;
            if opened.succeeded() {
                return Ok(opened.revision());
            }
            return Err(gone(&self.session, self.client().timeout()));
        }
        let mut after = came;
        loop {
            let deletion = Watch::key(place.key.clone()).after(after).no_put();
            let own = self.client().watch(deletion)?;
            let opening = Watch::key(self.ready()).after(after).no_delete();
            if let Some(opened) = self.wait(opening, Some(&own), until)? {
                return Ok(opened);
            }
            // History is gone: was it opened since, and are we still there?
            let looked = [Get::key(self.ready()), Get::key(place.key.clone())];
            let looked = self.client().txn(Txn::always(looked))?;
            let first = |index| looked.get(index).and_then(GetResponse::first);
            match first(0).map(KeyValue::mod_revision) {
                Some(opened) if opened > came => return Ok(opened),
                _ => after = looked.revision(),
            }
            if first(1).is_none_or(|kv| kv.create_revision() != came) {
                return Err(gone(&self.session, self.client().timeout()));
            }
        }
    }
}

/// An item of a watch.
enum Seen {
    Nothing,
    At(Revision),
    /// It cannot say any more.
    Unknown,
}

fn event(watcher: &Watcher) -> Result<Seen> {
    match watcher.try_recv() {
        Ok(Ok(response)) if response.events().is_empty() => Ok(Seen::Nothing),
        Ok(Ok(response)) => Ok(Seen::At(response.revision())),
        Ok(Err(error)) if !missed(&error) => Err(error),
        Ok(Err(_)) => Ok(Seen::Unknown),
        Err(error) if error.is_disconnected() => Ok(Seen::Unknown),
        Err(_) => Ok(Seen::Nothing),
    }
}

impl Inside {
    /// Blocks until all want to leave, or are gone. It waits without polling, in a watch.
    ///
    /// When it fails, this client does not keep the others: it is counted out, at the latest when
    /// its session is over.
    ///
    /// # Errors
    ///
    /// Why the session was lost; else as [`Client::delete`] and [`Client::watch`].
    pub fn leave(self) -> Result<()> {
        self.leave_timeout(Duration::MAX)
    }

    /// The same, for at most `timeout` and a call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when not all left in time; else as [`leave`](Inside::leave).
    pub fn leave_timeout(self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let left = self.leave_together(begun, timeout);
        left.map_err(|error| {
            // Else the lease takes it along.
            let _ = self.barrier.client().txn(self.place.deletion());
            error.operation(Operation::on(
                "leave",
                KeyRange::key(self.barrier.key.clone()),
            ))
        })
    }

    /// Go's way out: the first who came waits for the last one; the others give up their places and
    /// wait for the first; who is alone takes the `ready` key along.
    fn leave_together(&self, begun: Instant, timeout: Duration) -> Result<()> {
        let barrier = &self.barrier;
        let client = barrier.client();
        loop {
            barrier.session.check()?;
            let there = client.call(barrier.waiters().max_create_revision(self.opened))?;
            let revision = there.header().revision;
            let (Some(first), Some(last)) = (there.first(), there.kvs().last()) else {
                return Ok(());
            };
            let is_first = *first.key() == self.place.key;
            if is_first && there.kvs().len() == 1 {
                let close = [
                    Delete::key(barrier.ready()),
                    Delete::key(self.place.key.clone()),
                ];
                client.txn(Txn::always(close))?;
                return Ok(());
            }
            let awaited = if is_first { last } else { first };
            if !is_first {
                client.txn(self.place.deletion())?;
            }
            let left = Watch::key(awaited.key().clone()).after(revision).no_put();
            barrier.wait(left, None, (begun, timeout))?;
        }
    }
}

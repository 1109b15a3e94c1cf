//! Acquires a position in a queue of keys: puts the key, watches the key before it, and deletes its own
//! key after a failure.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Select, TryRecvError};

use super::key_use::{KeyUse, LeaveAction};
use super::queue_position::{PositionRequest, QueuePosition, QueueTurn};
use super::session::Session;
use super::{events_are_missing, is_transient};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{OpResponse, Txn, TxnResponse};
use crate::rpc::watch::{Event, EventKind, Watch, Watcher};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The waits after a call that failed and may succeed.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// The longest time that a drop may block to delete a key.
pub(super) const DROP_WITHIN: Duration = Duration::from_secs(1);

/// The use of a key by one guard or one waiter. Dropping the last use of a key deletes it.
#[derive(Debug)]
pub(super) struct HeldKey {
    session: Session,
    key: Bytes,
    /// `None` after the release.
    key_use: Option<KeyUse>,
}

impl HeldKey {
    /// Registers a use of a key. Waits while the key of an earlier use is being deleted.
    fn enter(queue: &LockQueue<'_>, key: &Bytes) -> Result<HeldKey> {
        let session = queue.session;
        queue.retry(|| {
            let until = Instant::now() + queue.call_timeout()?;
            session.session_keys().enter(key, until)
        })?;
        Ok(HeldKey {
            session: session.clone(),
            key: key.clone(),
            key_use: Some(KeyUse::NotPut),
        })
    }

    /// Registers a use of a key that this session has put before.
    pub(super) fn resume(queue: &LockQueue<'_>, position: &QueuePosition) -> Result<HeldKey> {
        let mut hold = HeldKey::enter(queue, &position.key)?;
        hold.created(position.revision);
        Ok(hold)
    }

    /// Records that this use has the key that was created at `revision`.
    fn created(&mut self, revision: Revision) {
        self.session.session_keys().created(&self.key, revision);
        self.key_use = Some(KeyUse::Created(revision));
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Deletes the key if it has no other user. Returns `false` if it did not exist any more.
    pub(super) fn release(mut self, within: Duration) -> Result<bool> {
        let until = Instant::now() + within;
        let key_use = self.key_use;
        match (self.leave(false, within)?, key_use) {
            (ReleaseOutcome::Gone, _) => Ok(false),
            // Other users keep the key, so a read shows whether it still exists.
            (ReleaseOutcome::Shared, Some(KeyUse::Created(revision))) => {
                let left = until.saturating_duration_since(Instant::now());
                let keys = self.session.session_keys();
                Ok(!self.session.is_revoked() && keys.is_there(&self.key, revision, left)?)
            }
            (ReleaseOutcome::Shared | ReleaseOutcome::Last, _) => Ok(true),
        }
    }

    /// Ends the use without deleting the key.
    pub(super) fn keep(mut self) {
        let _ = self.leave(true, Duration::ZERO);
    }

    fn leave(&mut self, keep: bool, within: Duration) -> Result<ReleaseOutcome> {
        let Some(key_use) = self.key_use.take() else {
            return Ok(ReleaseOutcome::Last);
        };
        let keys = self.session.session_keys();
        let key_use = match keys.leave(&self.key, key_use, keep) {
            LeaveAction::Nothing => return Ok(ReleaseOutcome::Last),
            LeaveAction::Shared => return Ok(ReleaseOutcome::Shared),
            LeaveAction::Gone => return Ok(ReleaseOutcome::Gone),
            LeaveAction::Delete(key_use) => key_use,
        };
        // etcd deleted the keys together with the lease.
        if self.session.is_revoked() {
            keys.settle(&self.key, false);
            return Ok(ReleaseOutcome::Gone);
        }
        let deleted = keys.delete(&self.key, key_use, Instant::now() + within);
        let pending = deleted.as_ref().is_err_and(is_transient);
        keys.settle(&self.key, pending);
        if pending {
            self.session.delete_pending();
        }
        Ok(if deleted? {
            ReleaseOutcome::Last
        } else {
            ReleaseOutcome::Gone
        })
    }
}

/// The result of the end of a use.
#[derive(Clone, Copy, Debug)]
enum ReleaseOutcome {
    /// There was no other user: the key is deleted, or kept.
    Last,
    /// The key has other users.
    Shared,
    /// The key did not exist any more.
    Gone,
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        // A deletion that fails is repeated in the background while the session lives.
        let _ = self.leave(false, DROP_WITHIN);
    }
}

/// The deadline of an operation, and its name for errors.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    until: Option<Instant>,
    span: Duration,
    operation: Operation,
}

impl Limit {
    pub(super) fn new(verb: &'static str, name: &Bytes, timeout: Option<Duration>) -> Self {
        let operation = Operation::on(verb, KeyRange::key(name.clone()));
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Limit {
            until,
            span: timeout.unwrap_or(Duration::MAX),
            operation,
        }
    }

    pub(super) fn left(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    pub(super) fn named(&self, error: Error) -> Error {
        error.operation(self.operation.clone())
    }

    fn check(&self) -> Result<()> {
        if self.left().is_zero() {
            let reason = format!("this session did not get its turn in {:?}", self.span);
            return Err(Error::new(ErrorKind::Timeout, reason));
        }
        Ok(())
    }
}

/// The queue for a lock or an election, as one session uses it within one limit.
pub(super) struct LockQueue<'a> {
    pub(super) session: &'a Session,
    pub(super) limit: &'a Limit,
}

/// A position that was created or found.
pub(super) struct QueuedKey {
    pub(super) hold: HeldKey,
    pub(super) position: QueuePosition,
    /// The existing key, if this call did not create it.
    pub(super) found: Option<KeyValue>,
    /// The position is the first.
    ours: bool,
    /// An earlier attempt without an answer may have created the key.
    may_exist: bool,
}

impl LockQueue<'_> {
    /// Enqueues the key, and waits until it is the first.
    pub(super) fn acquire(&self, request: &PositionRequest) -> Result<(HeldKey, QueuePosition)> {
        let queued = self.enqueue(request)?;
        self.wait(&queued)?;
        Ok((queued.hold, queued.position))
    }

    /// Puts the key, or finds the key that this session has already put.
    pub(super) fn enqueue(&self, request: &PositionRequest) -> Result<QueuedKey> {
        let mut hold = HeldKey::enter(self, &request.key)?;
        let response = self.send_put(|| request.enqueue(), &mut hold)?;
        // An attempt without an answer may have put the key that a later attempt then finds.
        let may_exist = hold.key_use == Some(KeyUse::MaybePut);
        let (put, found, first) = match (response.succeeded(), response.responses()) {
            (true, [OpResponse::Put(put), OpResponse::Get(first)]) => (put.revision(), None, first),
            // This session holds the key already, or an earlier attempt of this call has put it.
            (false, [OpResponse::Get(own), OpResponse::Get(first)]) => {
                let found = own.first().ok_or_else(unexpected_response)?;
                (found.create_revision(), Some(found.clone()), first)
            }
            _ => return Err(unexpected_response()),
        };
        self.refuse_foreign(found.as_ref(), &mut hold)?;
        hold.created(put);
        let position = request.position(put);
        let ours = position.is_ours(first.first());
        Ok(QueuedKey {
            hold,
            position,
            found,
            ours,
            may_exist,
        })
    }

    /// Puts a key that must be new. Returns `None` if it exists already.
    pub(super) fn enqueue_new(&self, request: &PositionRequest) -> Result<Option<QueuedKey>> {
        let queued = match self.enqueue(request) {
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
            queued => queued?,
        };
        // The key existed, and no attempt of this call can have put it.
        if queued.found.is_some() && !queued.may_exist {
            queued.hold.keep();
            return Ok(None);
        }
        Ok(Some(queued))
    }

    /// Puts a key only if no contender comes before it.
    pub(super) fn try_acquire(
        &self,
        request: &PositionRequest,
    ) -> Result<Option<(HeldKey, QueuePosition)>> {
        let mut hold = HeldKey::enter(self, &request.key)?;
        let response = self.send_put(|| request.enqueue_if_first(), &mut hold)?;
        let revision = match (response.succeeded(), response.responses()) {
            (true, [OpResponse::Put(put)]) => put.revision(),
            (false, [OpResponse::Get(first), OpResponse::Get(own)]) => {
                self.refuse_foreign(own.first(), &mut hold)?;
                // Another session holds the lock or waits for it.
                let Some(own) = own.first() else {
                    return Ok(None);
                };
                let position = request.position(own.create_revision());
                if !position.is_ours(first.first()) {
                    // The key belongs to another waiter of this session, or to an earlier attempt.
                    if hold.key_use == Some(KeyUse::MaybePut) {
                        hold.created(position.revision);
                    }
                    return Ok(None);
                }
                own.create_revision()
            }
            _ => return Err(unexpected_response()),
        };
        hold.created(revision);
        Ok(Some((hold, request.position(revision))))
    }

    /// Waits until no older key is left. There are two watches at a time, however many contenders wait:
    /// one on our own key, and one on the key in front.
    pub(super) fn wait(&self, queued: &QueuedKey) -> Result<()> {
        if queued.ours {
            return Ok(());
        }
        // The watch of our own key is kept while the key in front changes.
        let mut own = None;
        self.retry(|| {
            while !self.check_turn(&queued.position, &mut own)? {}
            Ok(())
        })
    }

    /// Repeats `step` after transient errors, until the session ends or the time is over. `step` must be
    /// repeatable.
    pub(super) fn retry<T>(&self, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        let mut backoff = RETRY_BACKOFF;
        loop {
            let error = match step() {
                Err(error) if is_transient(&error) => error,
                settled => return settled,
            };
            self.session.check()?;
            if self.limit.left().is_zero() {
                return Err(error);
            }
            self.pause(backoff.next(jitter::fraction()))?;
        }
    }

    /// Reads the queue. Returns `true` if it is our turn; otherwise waits until the key in front or our
    /// `own` key is deleted.
    fn check_turn(&self, position: &QueuePosition, own: &mut Option<Watcher>) -> Result<bool> {
        let client = self.session.client();
        let read = client
            .with_timeout(self.call_timeout()?)
            .txn(position.read_turn())?;
        let [OpResponse::Get(found), OpResponse::Get(older)] = read.responses() else {
            return Err(unexpected_response());
        };
        let key = match position.turn(found.first(), older.first()) {
            QueueTurn::Ours => return Ok(true),
            QueueTurn::Gone => return Err(key_gone_error(self.session, self.call_timeout()?)),
            QueueTurn::After(key) => key,
        };
        let deletion_of = |key: Bytes| {
            // Watching from the revision of the read misses no deletion in between.
            let watch = Watch::key(key).no_put().after(read.revision());
            client.with_timeout(self.call_timeout()?).watch(watch)
        };
        let ours = match own.take() {
            Some(ours) => ours,
            None => deletion_of(position.key.clone())?,
        };
        let front = deletion_of(key)?;
        if self.until_deleted(&ours, &front)? == DeletedKey::Front {
            *own = Some(ours);
        }
        Ok(false)
    }

    /// Waits until one of two watched keys is deleted. Fails when the session ends or the time is over.
    fn until_deleted(&self, ours: &Watcher, front: &Watcher) -> Result<DeletedKey> {
        loop {
            let mut select = Select::new();
            select.recv(front.receiver());
            select.recv(ours.receiver());
            // Only selected on: the item belongs to the reader of `lost`.
            select.recv(self.session.lost());
            match self.limit.until {
                Some(until) => drop(select.ready_deadline(until)),
                None => drop(select.ready()),
            }
            self.session.check()?;
            for (watcher, fired) in [(front, DeletedKey::Front), (ours, DeletedKey::Ours)] {
                if is_deleted(watcher)? {
                    return Ok(fired);
                }
            }
            self.limit.check()?;
        }
    }

    /// Runs a transaction that puts the key of `hold`.
    fn send_put(&self, request: impl Fn() -> Txn, hold: &mut HeldKey) -> Result<TxnResponse> {
        self.retry(|| {
            let client = self.session.client().with_timeout(self.call_timeout()?);
            client.txn(request()).inspect_err(|error| {
                if error.outcome_unknown() {
                    hold.key_use = Some(KeyUse::MaybePut);
                }
            })
        })
    }

    /// The timeout of one call. It is not longer than the session is valid, so that its end is detected.
    fn call_timeout(&self) -> Result<Duration> {
        self.session.check()?;
        self.limit.check()?;
        // Not zero, which would fail before anything is sent.
        let valid = self.session.valid_for().max(Duration::from_millis(10));
        Ok(self
            .session
            .client()
            .timeout()
            .min(valid)
            .min(self.limit.left()))
    }

    fn pause(&self, span: Duration) -> Result<()> {
        let mut select = Select::new();
        select.recv(self.session.lost());
        // `ready_timeout` does not take the item of `lost`, so that every waiter is woken.
        let _ = select.ready_timeout(span.min(self.limit.left()));
        self.session.check()
    }

    /// Returns an error if the key with our name is attached to another lease.
    fn refuse_foreign(&self, found: Option<&KeyValue>, hold: &mut HeldKey) -> Result<()> {
        match found {
            Some(kv) if kv.lease() != Some(self.session.lease()) => {
                hold.key_use = Some(KeyUse::NotPut);
                let reason = format!(
                    "the key {} is not attached to the lease of this session",
                    KeyRange::key(kv.key().clone())
                );
                Err(Error::new(ErrorKind::Conflict, reason))
            }
            _ => Ok(()),
        }
    }
}

/// The one of two watched keys that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeletedKey {
    Front,
    Ours,
}

/// Returns whether the watched key is deleted. It also returns `true` after the end of the watch, and the
/// caller then reads the key.
fn is_deleted(watcher: &Watcher) -> Result<bool> {
    match watcher.try_recv() {
        Ok(Ok(response)) => {
            let deleted = |event: &Event| event.kind() == EventKind::Delete;
            Ok(response.events().iter().any(deleted))
        }
        Ok(Err(error)) if events_are_missing(&error) => Ok(true),
        Ok(Err(error)) => Err(error),
        // A read shows what the ended watch cannot.
        Err(TryRecvError::Disconnected) => Ok(true),
        Err(TryRecvError::Empty) => Ok(false),
    }
}

/// The error for a waiting session whose key is gone. Blocks for at most `within`.
pub(super) fn key_gone_error(session: &Session, within: Duration) -> Error {
    if let Err(over) = session.check() {
        return over;
    }
    let client = session.client().with_timeout(within);
    // If the lease has ended too, etcd deleted the key with it.
    match client.time_to_live(session.lease()) {
        Ok(state) if state.remaining().is_none() => {
            let reason = "the lease of the session is gone: it expired or was revoked";
            Error::new(ErrorKind::LeaseNotFound, reason)
        }
        _ => Error::new(
            ErrorKind::NotFound,
            "another client deleted the key with which this session waits",
        ),
    }
}

fn unexpected_response() -> Error {
    Error::protocol("the responses of a transaction do not match its operations")
}

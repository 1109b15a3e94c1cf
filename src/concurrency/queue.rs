//! Waiting for one's turn: draws the ticket, watches the key in front, gives up cleanly.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Select, TryRecvError};

use super::key_use::{KeyUse, Leaving};
use super::queue_position::{PositionRequest, QueuePosition, QueueTurn};
use super::session::Session;
use super::{may_pass, missed};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{OpResponse, Txn, TxnResponse};
use crate::rpc::watch::{Event, EventKind, Watch, Watcher};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The waits after a call that failed and may succeed.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// How long giving up a key takes at most when nobody is there to be told.
pub(super) const DROP_WITHIN: Duration = Duration::from_secs(1);

/// The use of a key by one guard or one waiter; dropped, the key goes with its last user.
#[derive(Debug)]
pub(super) struct Hold {
    session: Session,
    key: Bytes,
    /// `None` when it was given up.
    claim: Option<KeyUse>,
}

impl Hold {
    /// Uses a key. Waits for an earlier use of it that is still being given up.
    fn enter(queue: &Queue<'_>, key: &Bytes) -> Result<Hold> {
        let session = queue.session;
        queue.insist(|| {
            let until = Instant::now() + queue.patience()?;
            session.session_keys().enter(key, until)
        })?;
        Ok(Hold {
            session: session.clone(),
            key: key.clone(),
            claim: Some(KeyUse::None),
        })
    }

    /// A key that this session has put before.
    pub(super) fn resume(queue: &Queue<'_>, place: &QueuePosition) -> Result<Hold> {
        let mut hold = Hold::enter(queue, &place.key)?;
        hold.drew(place.revision);
        Ok(hold)
    }

    /// The key is the one that was created at `revision`.
    fn drew(&mut self, revision: Revision) {
        self.session.session_keys().drew(&self.key, revision);
        self.claim = Some(KeyUse::Drawn(revision));
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Deletes the key, if nobody else uses it. `false` when it was not there any more.
    pub(super) fn give_up(mut self, within: Duration) -> Result<bool> {
        let until = Instant::now() + within;
        let claim = self.claim;
        match (self.leave(false, within)?, claim) {
            (Left::Gone, _) => Ok(false),
            // Whoever goes on using the key finds out for itself.
            (Left::Shared, Some(KeyUse::Drawn(revision))) => {
                let left = until.saturating_duration_since(Instant::now());
                let ring = self.session.session_keys();
                Ok(!self.session.is_revoked() && ring.is_there(&self.key, revision, left)?)
            }
            (Left::Shared | Left::Alone, _) => Ok(true),
        }
    }

    /// Leaves the key where it is.
    pub(super) fn keep(mut self) {
        let _ = self.leave(true, Duration::ZERO);
    }

    fn leave(&mut self, keep: bool, within: Duration) -> Result<Left> {
        let Some(claim) = self.claim.take() else {
            return Ok(Left::Alone);
        };
        let ring = self.session.session_keys();
        let claim = match ring.leave(&self.key, claim, keep) {
            Leaving::Nothing => return Ok(Left::Alone),
            Leaving::Shared => return Ok(Left::Shared),
            Leaving::Gone => return Ok(Left::Gone),
            Leaving::Delete(claim) => claim,
        };
        // With the lease go its keys.
        if self.session.is_revoked() {
            ring.settle(&self.key, false);
            return Ok(Left::Gone);
        }
        let deleted = ring.delete(&self.key, claim, Instant::now() + within);
        let owed = deleted.as_ref().is_err_and(may_pass);
        ring.settle(&self.key, owed);
        if owed {
            self.session.sweep();
        }
        Ok(if deleted? { Left::Alone } else { Left::Gone })
    }
}

/// How a key was left.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Nobody else uses it: it is deleted, or kept.
    Alone,
    /// Others use it.
    Shared,
    /// It was not there any more.
    Gone,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What fails here is tried again behind it, for as long as the session lives.
        let _ = self.leave(false, DROP_WITHIN);
    }
}

/// Until when to try, and what it is called when it fails.
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
            let reason = format!("it was not our turn in {:?}", self.span);
            return Err(Error::new(ErrorKind::Timeout, reason));
        }
        Ok(())
    }
}

/// One acquisition: a session, what it is called, and until when.
pub(super) struct Queue<'a> {
    pub(super) session: &'a Session,
    pub(super) limit: &'a Limit,
}

/// A ticket that was drawn, or found.
pub(super) struct Drawn {
    pub(super) hold: Hold,
    pub(super) place: QueuePosition,
    /// The key as it was found, when it was there before.
    pub(super) found: Option<KeyValue>,
    /// It is our turn already.
    ours: bool,
    /// An attempt before the one that was answered may have drawn it.
    doubt: bool,
}

impl Queue<'_> {
    /// Draws a ticket and waits for its turn.
    pub(super) fn acquire(&self, ticket: &PositionRequest) -> Result<(Hold, QueuePosition)> {
        let drawn = self.draw(ticket)?;
        self.wait(&drawn)?;
        Ok((drawn.hold, drawn.place))
    }

    /// Draws a ticket, or finds the one that this session has.
    pub(super) fn draw(&self, ticket: &PositionRequest) -> Result<Drawn> {
        let mut hold = Hold::enter(self, &ticket.key)?;
        let response = self.ask(|| ticket.draw(), &mut hold)?;
        let doubt = hold.claim == Some(KeyUse::Asked);
        let (put, found, first) = match (response.succeeded(), response.responses()) {
            (true, [OpResponse::Put(put), OpResponse::Get(first)]) => (put.revision(), None, first),
            (false, [OpResponse::Get(own), OpResponse::Get(first)]) => {
                let found = own.first().ok_or_else(broken)?;
                (found.create_revision(), Some(found.clone()), first)
            }
            _ => return Err(broken()),
        };
        self.refuse_foreign(found.as_ref(), &mut hold)?;
        hold.drew(put);
        let place = ticket.place(put);
        let ours = place.is_ours(first.first());
        Ok(Drawn {
            hold,
            place,
            found,
            ours,
            doubt,
        })
    }

    /// Draws a ticket that nobody has; `None` when somebody has it after all.
    pub(super) fn draw_new(&self, ticket: &PositionRequest) -> Result<Option<Drawn>> {
        let drawn = match self.draw(ticket) {
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
            drawn => drawn?,
        };
        // It was found, and no attempt of ours can have put it.
        if drawn.found.is_some() && !drawn.doubt {
            drawn.hold.keep();
            return Ok(None);
        }
        Ok(Some(drawn))
    }

    /// Draws a ticket only when its turn comes at once.
    pub(super) fn try_acquire(
        &self,
        ticket: &PositionRequest,
    ) -> Result<Option<(Hold, QueuePosition)>> {
        let mut hold = Hold::enter(self, &ticket.key)?;
        let response = self.ask(|| ticket.draw_if_first(), &mut hold)?;
        let revision = match (response.succeeded(), response.responses()) {
            (true, [OpResponse::Put(put)]) => put.revision(),
            (false, [OpResponse::Get(first), OpResponse::Get(own)]) => {
                self.refuse_foreign(own.first(), &mut hold)?;
                let Some(own) = own.first() else {
                    return Ok(None);
                };
                let place = ticket.place(own.create_revision());
                if !place.is_ours(first.first()) {
                    // The ticket of another waiter of this lease; or of an attempt of ours.
                    if hold.claim == Some(KeyUse::Asked) {
                        hold.drew(place.revision);
                    }
                    return Ok(None);
                }
                own.create_revision()
            }
            _ => return Err(broken()),
        };
        hold.drew(revision);
        Ok(Some((hold, ticket.place(revision))))
    }

    /// Waits until everything in front is gone. Two watches at a time, whoever else waits: one on our
    /// own key, and one on the key in front.
    pub(super) fn wait(&self, drawn: &Drawn) -> Result<()> {
        if drawn.ours {
            return Ok(());
        }
        let mut own = None;
        self.insist(|| {
            while !self.step(&drawn.place, &mut own)? {}
            Ok(())
        })
    }

    /// Tries until it works, the session ends or the time is over, as long as what is in the way may
    /// pass. What is done here can be done again.
    pub(super) fn insist<T>(&self, mut step: impl FnMut() -> Result<T>) -> Result<T> {
        let mut backoff = AGAIN;
        loop {
            let error = match step() {
                Err(error) if may_pass(&error) => error,
                settled => return settled,
            };
            self.session.check()?;
            if self.limit.left().is_zero() {
                return Err(error);
            }
            self.pause(backoff.next(jitter::fraction()))?;
        }
    }

    /// Looks whose turn it is; waits for the key in front, or for our `own` one, to go when it is not
    /// ours.
    fn step(&self, place: &QueuePosition, own: &mut Option<Watcher>) -> Result<bool> {
        let client = self.session.client();
        let looked = client.with_timeout(self.patience()?).txn(place.look())?;
        let [OpResponse::Get(found), OpResponse::Get(older)] = looked.responses() else {
            return Err(broken());
        };
        let key = match place.turn(found.first(), older.first()) {
            QueueTurn::Ours => return Ok(true),
            QueueTurn::Gone => return Err(gone(self.session, self.patience()?)),
            QueueTurn::After(key) => key,
        };
        let deletion_of = |key: Bytes| {
            let watch = Watch::key(key).no_put().after(looked.revision());
            client.with_timeout(self.patience()?).watch(watch)
        };
        let ours = match own.take() {
            Some(ours) => ours,
            None => deletion_of(place.key.clone())?,
        };
        let front = deletion_of(key)?;
        if self.until_deleted(&ours, &front)? == Fired::Front {
            *own = Some(ours);
        }
        Ok(false)
    }

    /// Waits for one of two watched keys to go, for the session to end, for the time to be over.
    fn until_deleted(&self, ours: &Watcher, front: &Watcher) -> Result<Fired> {
        loop {
            let mut select = Select::new();
            select.recv(front.receiver());
            select.recv(ours.receiver());
            // Only looked at: the item belongs to whoever reads `lost`.
            select.recv(self.session.lost());
            match self.limit.until {
                Some(until) => drop(select.ready_deadline(until)),
                None => drop(select.ready()),
            }
            self.session.check()?;
            for (watcher, fired) in [(front, Fired::Front), (ours, Fired::Ours)] {
                if is_deleted(watcher)? {
                    return Ok(fired);
                }
            }
            self.limit.check()?;
        }
    }

    /// Runs a transaction that puts the key of `hold`.
    fn ask(&self, request: impl Fn() -> Txn, hold: &mut Hold) -> Result<TxnResponse> {
        self.insist(|| {
            let client = self.session.client().with_timeout(self.patience()?);
            client.txn(request()).inspect_err(|error| {
                if error.outcome_unknown() {
                    hold.claim = Some(KeyUse::Asked);
                }
            })
        })
    }

    /// How long one call may take: a session that ends meanwhile is to be noticed.
    fn patience(&self) -> Result<Duration> {
        self.session.check()?;
        self.limit.check()?;
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
        let _ = select.ready_timeout(span.min(self.limit.left()));
        self.session.check()
    }

    /// A key with our name that does not hang on our lease is nobody's of ours.
    fn refuse_foreign(&self, found: Option<&KeyValue>, hold: &mut Hold) -> Result<()> {
        match found {
            Some(kv) if kv.lease() != Some(self.session.lease()) => {
                hold.claim = Some(KeyUse::None);
                let reason = format!(
                    "the key {} is not on our lease",
                    KeyRange::key(kv.key().clone())
                );
                Err(Error::new(ErrorKind::Conflict, reason))
            }
            _ => Ok(()),
        }
    }
}

/// Which of two watches says that there is something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fired {
    Front,
    Ours,
}

/// Whether a watch says that its key is deleted, or cannot say that any more: then looking does.
fn is_deleted(watcher: &Watcher) -> Result<bool> {
    match watcher.try_recv() {
        Ok(Ok(response)) => {
            let deleted = |event: &Event| event.kind() == EventKind::Delete;
            Ok(response.events().iter().any(deleted))
        }
        Ok(Err(error)) if missed(&error) => Ok(true),
        Ok(Err(error)) => Err(error),
        Err(TryRecvError::Disconnected) => Ok(true),
        Err(TryRecvError::Empty) => Ok(false),
    }
}

/// Why the key that a session waits with is gone. Blocks for at most `within`.
pub(super) fn gone(session: &Session, within: Duration) -> Error {
    if let Err(over) = session.check() {
        return over;
    }
    let client = session.client().with_timeout(within);
    match client.time_to_live(session.lease()) {
        Ok(life) if life.remaining().is_none() => {
            let reason = "the lease of the session is gone: it expired or was revoked";
            Error::new(ErrorKind::LeaseNotFound, reason)
        }
        _ => Error::new(
            ErrorKind::NotFound,
            "somebody deleted the key that we waited with",
        ),
    }
}

fn broken() -> Error {
    Error::protocol("the answer to a transaction does not fit its operations")
}

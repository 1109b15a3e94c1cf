//! Waiting for one's turn: draws the ticket, watches the key in front, gives up cleanly.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Select, TryRecvError};

use super::keyring::Claim;
use super::may_pass;
use super::place::{Place, Ticket, Turn};
use super::session::Session;
use crate::backoff::Backoff;
use crate::chance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::KeyRange;
use crate::kv::{OpResponse, Txn, TxnResponse};
use crate::types::KeyValue;
use crate::watch::{EventKind, Watch, Watcher};

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
    claim: Option<Claim>,
}

impl Hold {
    /// Uses a key. Waits for an earlier use of it that is still being given up.
    fn enter(queue: &Queue<'_>, key: &Bytes) -> Result<Hold> {
        let session = queue.session;
        queue.insist(|| {
            let until = Instant::now() + queue.patience()?;
            session.keyring().enter(key, until)
        })?;
        Ok(Hold {
            session: session.clone(),
            key: key.clone(),
            claim: Some(Claim::None),
        })
    }

    /// A key that this session has put before.
    pub(super) fn resume(queue: &Queue<'_>, place: &Place) -> Result<Hold> {
        let mut hold = Hold::enter(queue, &place.key)?;
        hold.claim = Some(Claim::Drawn(place.revision));
        Ok(hold)
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Takes the key away, if nobody else uses it. `false` when it was not there any more.
    pub(super) fn give_up(mut self, within: Duration) -> Result<bool> {
        self.leave(within)
    }

    /// Leaves the key where it is.
    pub(super) fn keep(mut self) {
        self.claim = Some(Claim::None);
    }

    fn leave(&mut self, within: Duration) -> Result<bool> {
        let Some(claim) = self.claim.take() else {
            return Ok(true);
        };
        let ring = self.session.keyring();
        let Some(claim) = ring.leave(&self.key, claim) else {
            return Ok(true);
        };
        // With the lease go its keys.
        if claim == Claim::None || self.session.is_revoked() {
            ring.settle(&self.key, false);
            return Ok(claim == Claim::None);
        }
        let deleted = ring.delete(&self.key, claim, Instant::now() + within);
        let owed = deleted.as_ref().is_err_and(may_pass);
        ring.settle(&self.key, owed);
        if owed {
            self.session.sweep();
        }
        deleted
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What fails here is tried again behind it, for as long as the session lives.
        let _ = self.leave(DROP_WITHIN);
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
    pub(super) place: Place,
    /// The key as it was found, when it was there before.
    pub(super) found: Option<KeyValue>,
    /// It is our turn already.
    ours: bool,
    /// An attempt before the one that was answered may have drawn it.
    doubt: bool,
}

impl Queue<'_> {
    /// Draws a ticket and waits for its turn.
    pub(super) fn acquire(&self, ticket: &Ticket) -> Result<(Hold, Place)> {
        let drawn = self.draw(ticket)?;
        self.wait(&drawn)?;
        Ok((drawn.hold, drawn.place))
    }

    /// Draws a ticket, or finds the one that this session has.
    pub(super) fn draw(&self, ticket: &Ticket) -> Result<Drawn> {
        let mut hold = Hold::enter(self, &ticket.key)?;
        let response = self.ask(|| ticket.draw(), &mut hold)?;
        let doubt = hold.claim == Some(Claim::Asked);
        let (put, found, first) = match (response.succeeded(), response.responses()) {
            (true, [OpResponse::Put(put), OpResponse::Get(first)]) => (put.revision(), None, first),
            (false, [OpResponse::Get(own), OpResponse::Get(first)]) => {
                let found = own.first().ok_or_else(broken)?;
                (found.create_revision(), Some(found.clone()), first)
            }
            _ => return Err(broken()),
        };
        self.refuse_foreign(found.as_ref(), &mut hold)?;
        hold.claim = Some(Claim::Drawn(put));
        let place = ticket.place(put);
        let ours = place.is_ours(first.first());
        self.session.check()?;
        Ok(Drawn {
            hold,
            place,
            found,
            ours,
            doubt,
        })
    }

    /// Draws a ticket that nobody has; `None` when somebody has it after all.
    pub(super) fn draw_new(&self, ticket: &Ticket) -> Result<Option<Drawn>> {
        let mut drawn = match self.draw(ticket) {
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
            drawn => drawn?,
        };
        // It was found, and no attempt of ours can have put it.
        if drawn.found.is_some() && !drawn.doubt {
            drawn.hold.claim = Some(Claim::None);
            return Ok(None);
        }
        Ok(Some(drawn))
    }

    /// Draws a ticket only when its turn comes at once.
    pub(super) fn try_acquire(&self, ticket: &Ticket) -> Result<Option<(Hold, Place)>> {
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
                    if hold.claim == Some(Claim::Asked) {
                        hold.claim = Some(Claim::Drawn(place.revision));
                    }
                    return Ok(None);
                }
                own.create_revision()
            }
            _ => return Err(broken()),
        };
        hold.claim = Some(Claim::Drawn(revision));
        self.session.check()?;
        Ok(Some((hold, ticket.place(revision))))
    }

    /// Waits until everything in front is gone. One watch at a time, on one key.
    pub(super) fn wait(&self, drawn: &Drawn) -> Result<()> {
        if drawn.ours {
            return Ok(());
        }
        self.insist(|| {
            while !self.step(&drawn.place)? {}
            Ok(())
        })?;
        // Between the answer and here the process may have been stopped.
        self.session.check()
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
            self.pause(backoff.next(chance::fraction()))?;
        }
    }

    /// Looks whose turn it is; waits for the key in front when it is not ours.
    fn step(&self, place: &Place) -> Result<bool> {
        let client = self.session.client();
        let looked = client.with_timeout(self.patience()?).txn(place.look())?;
        let [OpResponse::Get(own), OpResponse::Get(older)] = looked.responses() else {
            return Err(broken());
        };
        match place.turn(own.first(), older.first()) {
            Turn::Ours => Ok(true),
            Turn::Gone => Err(self.gone()),
            Turn::After(key) => {
                let watch = Watch::key(key).no_put().after(looked.revision());
                let watcher = client.with_timeout(self.patience()?).watch(watch)?;
                self.until_deleted(&watcher).map(|()| false)
            }
        }
    }

    /// Waits for the watched key to go, for the session to end, for the time to be over.
    fn until_deleted(&self, watcher: &Watcher) -> Result<()> {
        loop {
            let mut select = Select::new();
            select.recv(watcher.receiver());
            // Only looked at: the item belongs to whoever reads `lost`.
            select.recv(self.session.lost());
            match self.limit.until {
                Some(until) => drop(select.ready_deadline(until)),
                None => drop(select.ready()),
            }
            self.session.check()?;
            match watcher.try_recv() {
                Ok(Ok(response)) => {
                    let deleted = |event: &crate::watch::Event| event.kind() == EventKind::Delete;
                    if response.events().iter().any(deleted) {
                        return Ok(());
                    }
                }
                Ok(Err(error)) => {
                    return match error.kind() {
                        // What there is to know is found by looking.
                        ErrorKind::Compacted | ErrorKind::Rewound => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => self.limit.check()?,
            }
        }
    }

    /// Runs a transaction that puts the key of `hold`.
    fn ask(&self, request: impl Fn() -> Txn, hold: &mut Hold) -> Result<TxnResponse> {
        self.insist(|| {
            let client = self.session.client().with_timeout(self.patience()?);
            client.txn(request()).inspect_err(|error| {
                if error.outcome_unknown() {
                    hold.claim = Some(Claim::Asked);
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
                hold.claim = Some(Claim::None);
                let reason = format!(
                    "the key {} is not on our lease",
                    KeyRange::key(kv.key().clone())
                );
                Err(Error::new(ErrorKind::Conflict, reason))
            }
            _ => Ok(()),
        }
    }

    /// Why our key is gone.
    fn gone(&self) -> Error {
        if let Err(over) = self.session.check() {
            return over;
        }
        let client = self.session.client();
        match client.time_to_live(self.session.lease()) {
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
}

fn broken() -> Error {
    Error::protocol("the answer to a transaction does not fit its operations")
}

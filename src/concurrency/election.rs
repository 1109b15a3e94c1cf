//! Elections: one of many leads.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::mutex::{below, key_of};
use super::observer::Observer;
use super::queue::{Hold, Limit, Queue};
use super::queue_position::{PositionRequest, QueuePosition, first};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Get, Put, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// An election: of those who campaign, the first leads, then the next. It is the same election as
/// Go's `concurrency.Election` of the same name.
///
/// Each candidate puts the key `name/<lease in hexadecimal>` with what it proclaims, and waits as a
/// [`Mutex`](super::Mutex) does. What is true of its waiting, its errors, and of one session being
/// one contender, is true here. A candidate whose session ends is out; a leader whose session ends
/// leads no more, and learns it as the holder of a lock does.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::{Election, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).ttl(Duration::from_secs(10)).start()?;
/// let election = Election::new(&session, "elections/scheduler");
/// let leadership = election.campaign("10.0.0.5:8080")?;
/// while leadership.check().is_ok() {
///     // Lead, one step at a time.
/// #   break;
/// }
/// leadership.resign()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Election {
    session: Session,
    name: Bytes,
}

impl Election {
    /// The election of this name. It asks nobody.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        Election {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Campaigns; blocks until we lead, however long that takes. `value` is what others see of the
    /// leader, such as its address. A session that leads already proclaims `value` and goes on.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](super::Mutex::lock). Whoever fails is no candidate any more.
    pub fn campaign(&self, value: impl IntoBytes) -> Result<Leadership> {
        self.run(value.into_bytes(), None)
    }

    /// The same, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn campaign_timeout(&self, value: impl IntoBytes, timeout: Duration) -> Result<Leadership> {
        self.run(value.into_bytes(), Some(timeout))
    }

    /// Who leads now: the key of the leader, with what it proclaimed. Blocks for at most the client's
    /// timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::get`](crate::Client::get).
    pub fn leader(&self) -> Result<Option<KeyValue>> {
        let limit = self.limit("leader of", None);
        let found = self.session.client().call(first(self.candidates()));
        let found = found.map_err(|error| limit.named(error))?;
        Ok(found.into_kvs().into_iter().next())
    }

    /// Follows who leads, and what they proclaim. Blocks until the candidates are listed.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`](crate::Client::mirror).
    pub fn observe(&self) -> Result<Observer> {
        let limit = self.limit("observe", None);
        Observer::start(&self.session, self.candidates()).map_err(|error| limit.named(error))
    }

    /// Goes on with a leadership that was [kept](Leadership::keep), such as by an earlier run of this
    /// program: the session stands on the same lease.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when that key does not lead any more;
    /// [`Conflict`](ErrorKind::Conflict) when it hangs on another lease than that of the session;
    /// as [`Client::get`](crate::Client::get).
    pub fn resume(&self, key: impl IntoBytes, revision: Revision) -> Result<Leadership> {
        let limit = self.limit("resume election", None);
        let resumed = self.resumed(key.into_bytes(), revision, &limit);
        resumed.map_err(|error| limit.named(error))
    }

    fn resumed(&self, key: Bytes, revision: Revision, limit: &Limit) -> Result<Leadership> {
        let place = QueuePosition {
            key,
            revision,
            before: self.candidates(),
        };
        self.session.check()?;
        let leads = self.session.client().call(first(self.candidates()))?;
        match leads.first() {
            Some(kv) if *kv.key() == place.key && kv.create_revision() == revision => {
                if kv.lease() != Some(self.session.lease()) {
                    let reason = "the leader's key is not on the lease of this session";
                    return Err(Error::new(ErrorKind::Conflict, reason));
                }
            }
            _ => return Err(not_leader()),
        }
        let session = &self.session;
        let hold = Hold::resume(&Queue { session, limit }, &place)?;
        Leadership::new(hold, place, limit.clone())
    }

    fn run(&self, value: Bytes, timeout: Option<Duration>) -> Result<Leadership> {
        let limit = self.limit("campaign", timeout);
        let queue = Queue {
            session: &self.session,
            limit: &limit,
        };
        let prefix = below(&self.name, "");
        let ticket = PositionRequest {
            key: key_of(&prefix, self.session.lease()),
            value,
            lease: self.session.lease(),
            before: self.candidates(),
        };
        let won = queue.draw(&ticket).and_then(|drawn| {
            let stale = |found: &KeyValue| *found.value() != ticket.value;
            if drawn.found.as_ref().is_some_and(stale) {
                queue.insist(|| put_again(&self.session, &drawn.place, ticket.value.clone()))?;
            }
            queue.wait(&drawn)?;
            Ok(drawn)
        });
        match won {
            Ok(drawn) => Leadership::new(drawn.hold, drawn.place, limit),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn candidates(&self) -> KeyRange {
        KeyRange::prefix(below(&self.name, ""))
    }

    fn limit(&self, verb: &'static str, timeout: Option<Duration>) -> Limit {
        Limit::new(verb, &self.name, timeout)
    }
}

/// Leading, until this is dropped.
///
/// Everything that [`LockGuard`](super::LockGuard) says about holding a lock is true of leading: it
/// ends with the session, whatever this process does. Look at [`check`](Leadership::check), listen to
/// [`lost`](Leadership::lost), and guard what must not be done by two: with
/// [`is_leader`](Leadership::is_leader) in etcd, with the [`fencing_token`](Leadership::fencing_token)
/// elsewhere.
///
/// Dropping it resigns, in at most 1 s, and in the background when etcd is out of reach.
/// [`resign`](Leadership::resign) says whether it worked; [`keep`](Leadership::keep) goes on leading
/// without it.
#[must_use = "the leader resigns when this is dropped"]
pub struct Leadership {
    hold: Hold,
    place: QueuePosition,
    limit: Limit,
}

impl Leadership {
    /// The guard of an election that was won, on a session that lives: see [`LockGuard`].
    ///
    /// [`LockGuard`]: super::LockGuard
    fn new(hold: Hold, place: QueuePosition, limit: Limit) -> Result<Self> {
        hold.session().check().map_err(|error| limit.named(error))?;
        Ok(Leadership { hold, place, limit })
    }

    /// Puts another value in place of the one campaigned with; observers see it. Blocks for at most
    /// the client's timeout.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when we do not lead any more; as [`check`](Leadership::check);
    /// as [`Client::txn`](crate::Client::txn), and then it may have been proclaimed all the same if
    /// [`outcome_unknown`](Error::outcome_unknown) says so.
    pub fn proclaim(&self, value: impl IntoBytes) -> Result<()> {
        let put = put_again(self.session(), &self.place, value.into_bytes());
        put.map_err(|error| self.limit.named(error))
    }

    /// Resigns: the next candidate leads. Blocks for at most the client's timeout.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when we did not lead any more; as
    /// [`Client::delete`](crate::Client::delete) when it did not work, and then it is tried again in
    /// the background.
    pub fn resign(self) -> Result<()> {
        let Leadership { hold, limit, .. } = self;
        let within = hold.session().client().timeout();
        match hold.give_up(within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(limit.named(not_leader())),
            Err(error) => Err(limit.named(error)),
        }
    }

    /// Leads on without this guard, for as long as the lease lives: what
    /// [`Election::resume`] needs to take it up again, also in another process. It asks nobody.
    pub fn keep(self) -> (Bytes, Revision) {
        let Leadership { hold, place, .. } = self;
        hold.keep();
        (place.key, place.revision)
    }

    /// The key that leads.
    pub fn key(&self) -> &Bytes {
        &self.place.key
    }

    /// The number of this leadership, greater than that of every one before: the create revision of
    /// its key.
    pub fn fencing_token(&self) -> Revision {
        self.place.revision
    }

    /// Holds for as long as we lead: for [`Txn::when`](crate::Txn::when).
    pub fn is_leader(&self) -> Compare {
        self.place.guard()
    }

    /// Whether the session lives on which we lead: see [`Session::check`]. It asks nobody.
    ///
    /// # Errors
    ///
    /// Why it is over; somebody else may lead.
    pub fn check(&self) -> Result<()> {
        self.session().check()
    }

    /// Fires when the session is lost: see [`Session::lost`].
    pub fn lost(&self) -> &Receiver<Error> {
        self.session().lost()
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.hold.session()
    }

    /// Asks etcd whether we still lead.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when we do not; as [`check`](Leadership::check) when the
    /// session is over; as [`Client::get`](crate::Client::get).
    pub fn verify(&self) -> Result<()> {
        self.check()?;
        let key = Get::key(self.place.key.clone()).keys_only();
        let found = self.session().client().call(key)?;
        match found.first() {
            Some(kv) if kv.create_revision() == self.place.revision => self.check(),
            _ => Err(self.limit.named(not_leader())),
        }
    }
}

/// Puts another value under our key, if it is still ours.
fn put_again(session: &Session, place: &QueuePosition, value: Bytes) -> Result<()> {
    session.check()?;
    let put = Put::new(place.key.clone(), value).lease(session.lease());
    let put = session
        .client()
        .txn(Txn::when([place.guard()]).then([put]))?;
    if put.succeeded() {
        Ok(())
    } else {
        Err(not_leader())
    }
}

fn not_leader() -> Error {
    Error::new(ErrorKind::NotFound, "not the leader: its key is gone")
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("key", &String::from_utf8_lossy(&self.place.key))
            .field("fencing_token", &self.place.revision)
            .field("session", self.session())
            .finish()
    }
}

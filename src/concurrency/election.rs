//! Elections: one of many candidates leads.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::mutex::{below, key_of};
use super::observer::Observer;
use super::queue::{HeldKey, Limit, LockQueue};
use super::queue_position::{PositionRequest, QueuePosition, first};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Get, Put, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// An election: the first of the candidates leads, then the next. It is compatible with Go's
/// `concurrency.Election` of the same name.
///
/// Each candidate puts the key `name/<lease in hexadecimal>` with its proclaimed value, and waits as a
/// [`Mutex`](super::Mutex) does, with the same errors and with one session as one candidate. A
/// candidate whose session ends leaves the election; a leader whose session ends leads no more, and
/// detects that as the holder of a lock does.
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
    /// Creates a handle of the election with this name. It sends nothing.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        Election {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Campaigns, and blocks until this session leads, without a limit in time.
    ///
    /// Other programs read `value` from the key of the leader; it is usually an address. A session that
    /// already leads proclaims `value`.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](super::Mutex::lock). After an error the session is not a candidate.
    pub fn campaign(&self, value: impl IntoBytes) -> Result<Leadership> {
        self.run(value.into_bytes(), None)
    }

    /// Campaigns, and blocks for at most `timeout` until this session leads.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn campaign_timeout(&self, value: impl IntoBytes, timeout: Duration) -> Result<Leadership> {
        self.run(value.into_bytes(), Some(timeout))
    }

    /// Returns the key of the current leader with its proclaimed value, or `None` if there is none.
    ///
    /// Blocks for the client's timeout at most.
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

    /// Returns an observer of the leaders and their values. Blocks until the candidates are listed.
    ///
    /// # Errors
    ///
    /// As [`Client::mirror`](crate::Client::mirror).
    pub fn observe(&self) -> Result<Observer> {
        let limit = self.limit("observe", None);
        Observer::start(&self.session, self.candidates()).map_err(|error| limit.named(error))
    }

    /// Resumes a leadership that was [kept](Leadership::keep), for example by an earlier run of this
    /// program. The session must have the same lease.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the key does not lead any more;
    /// [`Conflict`](ErrorKind::Conflict) when it is attached to another lease than that of the session;
    /// as [`Client::get`](crate::Client::get).
    pub fn resume(&self, key: impl IntoBytes, revision: Revision) -> Result<Leadership> {
        let limit = self.limit("resume election", None);
        let resumed = self.resumed(key.into_bytes(), revision, &limit);
        resumed.map_err(|error| limit.named(error))
    }

    fn resumed(&self, key: Bytes, revision: Revision, limit: &Limit) -> Result<Leadership> {
        let position = QueuePosition {
            key,
            revision,
            before: self.candidates(),
        };
        self.session.check()?;
        // Linearizable: a member that is behind could still show an earlier leader.
        let leads = self.session.client().call(first(self.candidates()))?;
        match leads.first() {
            Some(kv) if *kv.key() == position.key && kv.create_revision() == revision => {
                if kv.lease() != Some(self.session.lease()) {
                    let reason = "the leader's key is not on the lease of this session";
                    return Err(Error::new(ErrorKind::Conflict, reason));
                }
            }
            _ => return Err(not_leader()),
        }
        let session = &self.session;
        let hold = HeldKey::resume(&LockQueue { session, limit }, &position)?;
        Leadership::new(hold, position, limit.clone())
    }

    fn run(&self, value: Bytes, timeout: Option<Duration>) -> Result<Leadership> {
        let limit = self.limit("campaign", timeout);
        let queue = LockQueue {
            session: &self.session,
            limit: &limit,
        };
        let prefix = below(&self.name, "");
        let request = PositionRequest {
            key: key_of(&prefix, self.session.lease()),
            value,
            lease: self.session.lease(),
            before: self.candidates(),
        };
        let won = queue.enqueue(&request).and_then(|queued| {
            // The session is a candidate already, with the value of an earlier campaign.
            let stale = |found: &KeyValue| *found.value() != request.value;
            if queued.found.as_ref().is_some_and(stale) {
                queue
                    .retry(|| put_again(&self.session, &queued.position, request.value.clone()))?;
            }
            queue.wait(&queued)?;
            Ok(queued)
        });
        match won {
            Ok(queued) => Leadership::new(queued.hold, queued.position, limit),
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

/// The leadership of a won election. Dropping it resigns.
///
/// A leadership ends with its session, as a lock does; see [`LockGuard`](super::LockGuard). Call
/// [`check`](Leadership::check), select on [`lost`](Leadership::lost), and guard writes: with
/// [`is_leader`](Leadership::is_leader) in etcd, and with the
/// [`fencing_token`](Leadership::fencing_token) elsewhere.
///
/// Dropping it resigns in 1 s at most, and in the background when etcd is unreachable.
/// [`resign`](Leadership::resign) also returns the outcome; [`keep`](Leadership::keep) continues to
/// lead without it.
///
/// ```no_run
/// use etcd_blocking::{Put, Txn};
/// use etcd_blocking::concurrency::{Election, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// let leads = Election::new(&session, "elections/scheduler").campaign("10.0.0.5:8080")?;
/// // etcd executes this write only while this session leads.
/// let done = client.txn(Txn::when([leads.is_leader()]).then([Put::new("last-run", "now")]))?;
/// println!("written: {}", done.succeeded());
/// # Ok(()) }
/// ```
#[must_use = "the leader resigns when this is dropped"]
pub struct Leadership {
    hold: HeldKey,
    position: QueuePosition,
    limit: Limit,
}

impl Leadership {
    /// The guard of a won election, whose session is checked again: see [`LockGuard`].
    ///
    /// [`LockGuard`]: super::LockGuard
    fn new(hold: HeldKey, position: QueuePosition, limit: Limit) -> Result<Self> {
        // The session may have ended since the last answer.
        hold.session().check().map_err(|error| limit.named(error))?;
        Ok(Leadership {
            hold,
            position,
            limit,
        })
    }

    /// Replaces the value of the leader, which observers receive. Blocks for the client's timeout at
    /// most.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when this session does not lead any more; as
    /// [`check`](Leadership::check); as [`Client::txn`](crate::Client::txn), and then the value may
    /// have been replaced if [`outcome_unknown`](Error::outcome_unknown) is true.
    pub fn proclaim(&self, value: impl IntoBytes) -> Result<()> {
        let put = put_again(self.session(), &self.position, value.into_bytes());
        put.map_err(|error| self.limit.named(error))
    }

    /// Resigns, so that the next candidate leads. Blocks for the client's timeout at most.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when this session did not lead any more; as
    /// [`Client::delete`](crate::Client::delete) when the request failed, and then it is repeated in
    /// the background.
    pub fn resign(self) -> Result<()> {
        let Leadership { hold, limit, .. } = self;
        let within = hold.session().client().timeout();
        match hold.release(within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(limit.named(not_leader())),
            Err(error) => Err(limit.named(error)),
        }
    }

    /// Continues to lead without this guard while the lease lives.
    ///
    /// Returns the key and its revision, with which [`Election::resume`] resumes the leadership, also
    /// in another process. It sends no request.
    pub fn keep(self) -> (Bytes, Revision) {
        let Leadership { hold, position, .. } = self;
        hold.keep();
        (position.key, position.revision)
    }

    /// Returns the key of the leader.
    pub fn key(&self) -> &Bytes {
        &self.position.key
    }

    /// Returns the number of this leadership, which is greater than that of every earlier one: the
    /// create_revision of its key.
    pub fn fencing_token(&self) -> Revision {
        self.position.revision
    }

    /// Returns a condition for [`Txn::when`](crate::Txn::when) that is true while this session leads.
    pub fn is_leader(&self) -> Compare {
        self.position.guard()
    }

    /// Returns an error if the session has ended. It sends no request; see [`Session::check`].
    ///
    /// # Errors
    ///
    /// Why the session ended. Another candidate may lead.
    pub fn check(&self) -> Result<()> {
        self.session().check()
    }

    /// Returns the channel that receives the reason when the session is lost; see [`Session::lost`].
    pub fn lost(&self) -> &Receiver<Error> {
        self.session().lost()
    }

    /// Returns the session.
    pub fn session(&self) -> &Session {
        self.hold.session()
    }

    /// Asks etcd whether this session still leads. Blocks for the client's timeout at most.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when it does not; as [`check`](Leadership::check) when the
    /// session has ended; as [`Client::get`](crate::Client::get).
    pub fn verify(&self) -> Result<()> {
        self.check()?;
        let key = Get::key(self.position.key.clone()).keys_only();
        let found = self.session().client().call(key)?;
        match found.first() {
            // The session is checked again: it may have ended during the read.
            Some(kv) if kv.create_revision() == self.position.revision => self.check(),
            _ => Err(self.limit.named(not_leader())),
        }
    }
}

/// Replaces the value of our key, if the key still exists.
fn put_again(session: &Session, position: &QueuePosition, value: Bytes) -> Result<()> {
    session.check()?;
    let put = Put::new(position.key.clone(), value).lease(session.lease());
    let put = session
        .client()
        .txn(Txn::when([position.guard()]).then([put]))?;
    if put.succeeded() {
        Ok(())
    } else {
        Err(not_leader())
    }
}

fn not_leader() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "this session is not the leader: its key is gone",
    )
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("key", &String::from_utf8_lossy(&self.position.key))
            .field("fencing_token", &self.position.revision)
            .field("session", self.session())
            .finish()
    }
}

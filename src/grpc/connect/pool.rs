//! The connections of each role: which one the next request goes over, and what becomes of one whose
//! member fails.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::connection::Parts;
use super::dial;
use super::member_picker::{Demand, Plan};
use crate::error::ErrorKind;
use crate::grpc::call::RpcError;
use crate::grpc::retry::Suspicion;
use crate::grpc::{ConnectError, Connection, ConnectionRole, Transport};
use crate::util::jitter;

type Dialled = watch::Receiver<Option<Result<Connection, ConnectError>>>;

/// The connections of one role, or the making of one.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    first: Option<Connection>,
    /// Those beside it, where the server limits the streams of one. They end with their last stream.
    more: Vec<Weak<Parts>>,
    pub(crate) dialling: Option<Dialled>,
}

/// The connections of all roles.
pub(crate) type Pools = [Mutex<Pool>; ConnectionRole::COUNT];

/// What a pool has for a request.
enum Found {
    Connection(Connection),
    /// None that is open.
    None,
    /// Each of `open` connections has as many streams as its server permits.
    Full {
        first: Connection,
        open: usize,
    },
}

impl Pool {
    fn find(&mut self) -> Found {
        let Some(first) = self.first.as_ref().filter(|first| first.is_open()) else {
            return Found::None;
        };
        if let Some(connection) = first.with_slot() {
            return Found::Connection(connection);
        }
        let mut found = None;
        self.more.retain(|more| {
            let Some(connection) = Connection::revive(more).filter(Connection::is_open) else {
                return false;
            };
            found = found.take().or_else(|| connection.with_slot());
            true
        });
        match found {
            Some(connection) => Found::Connection(connection),
            None => Found::Full {
                first: first.clone(),
                open: 1 + self.more.len(),
            },
        }
    }

    fn add(&mut self, connection: &Connection) {
        match &self.first {
            Some(first) if first.is_open() => self.more.push(connection.downgrade()),
            _ => self.first = Some(connection.clone()),
        }
    }

    /// Somebody waited in vain for an address: those connections to it on which something is open are
    /// asked whether anybody is there. (etcd counts pings on the others against them.)
    fn suspect(&self, index: usize) {
        let more = self.more.iter().filter_map(Connection::revive);
        for connection in self.first.iter().cloned().chain(more) {
            if connection.index == index && connection.is_busy() {
                connection.suspect();
            }
        }
    }

    /// The next request goes over another connection than those that `which` names.
    fn forget(&mut self, which: impl Fn(&Connection) -> bool) {
        self.first.take_if(|first| which(first));
        let revived = |more: &Weak<Parts>| Connection::revive(more);
        self.more
            .retain(|more| revived(more).is_some_and(|connection| !which(&connection)));
    }
}

impl Transport {
    /// A connection of a role for one request that carries the client's token: an open one, or a new
    /// one.
    ///
    /// It may wait for as long as no member answers: the caller brings the deadline. An error is
    /// that of one round of attempts; an error that is an answer says that there will be no token,
    /// because name or password are wrong.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        role: ConnectionRole,
        demand: Demand,
    ) -> Result<Connection, RpcError> {
        self.identified(demand).await?;
        self.dialled(role, demand)
            .await
            .map_err(RpcError::ConnectError)
    }

    /// What [`connection`](Self::connection) would return at once, if it would.
    pub(crate) fn at_hand(&self, role: ConnectionRole) -> Option<Connection> {
        if !self.is_identified() {
            return None;
        }
        let pool = self.pool(role).lock();
        let first = pool.first.as_ref().filter(|first| first.is_open());
        first?.with_slot()
    }

    /// The same without a token.
    pub(crate) async fn dialled(
        self: &Arc<Self>,
        role: ConnectionRole,
        demand: Demand,
    ) -> Result<Connection, ConnectError> {
        loop {
            let mut outcome = match self.find_or_dial(role, demand)? {
                Next::Connection(connection) => return Ok(connection),
                Next::Outcome(outcome) => outcome,
                Next::Wait(until) => {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
                Next::Slot(connection) => match connection.wait_for_slot().await {
                    Some(connection) if connection.is_open() => return Ok(connection),
                    _ => continue,
                },
            };
            let settled = outcome.wait_for(Option::is_some).await;
            let settled = settled.ok().and_then(|outcome| outcome.clone());
            let dropped = || ConnectError::unconnected("the connection attempt was dropped");
            // Others wait for the same connection, and it may have fewer streams than they need.
            if let Some(connection) = settled.ok_or_else(dropped)??.with_slot() {
                return Ok(connection);
            }
        }
    }

    /// A connection that nobody else has, for a stream that goes at its reader's pace: on a shared
    /// one its unread bytes would fill the window of all.
    pub(crate) async fn own_connection(
        self: &Arc<Self>,
        demand: Demand,
    ) -> Result<Connection, RpcError> {
        self.identified(demand).await?;
        loop {
            let plan = self.picker.lock().plan(Instant::now(), demand);
            match plan {
                Plan::Wait(until) => tokio::time::sleep_until(until.into()).await,
                Plan::Dial(start) => {
                    let dialled = dial::race(self, start, demand).await;
                    return dialled.map_err(RpcError::ConnectError);
                }
            }
        }
    }

    fn find_or_dial(
        self: &Arc<Self>,
        role: ConnectionRole,
        demand: Demand,
    ) -> Result<Next, ConnectError> {
        let mut pool = self.pool(role).lock();
        match pool.find() {
            Found::Connection(connection) => return Ok(Next::Connection(connection)),
            Found::Full { first, .. } if role.most() == 1 => return Ok(Next::Slot(first)),
            Found::Full { first, open } if open >= role.most() => {
                return Err(too_many_streams(&first, open));
            }
            Found::Full { .. } => {}
            Found::None => {
                if let Some(connection) = pool.first.take() {
                    self.broke(&connection);
                }
            }
        }
        // A race whose task is gone without a result is none.
        let dialling = pool.dialling.as_ref();
        if let Some(dialling) = dialling.filter(|outcome| outcome.has_changed().is_ok()) {
            return Ok(Next::Outcome(dialling.clone()));
        }
        let start = match self.picker.lock().plan(Instant::now(), demand) {
            Plan::Wait(until) => return Ok(Next::Wait(until)),
            Plan::Dial(start) => start,
        };
        let (sender, outcome) = watch::channel(None);
        pool.dialling = Some(outcome.clone());
        // A runtime that shuts down drops the task at once, and its end takes the lock.
        drop(pool);
        let mut dialling = Dialling {
            transport: Arc::clone(self),
            role,
            sender,
            result: Err(ConnectError::unconnected(
                "the connection attempt was dropped",
            )),
        };
        tokio::spawn(async move {
            let result = dial::race(&dialling.transport, start, demand).await;
            dialling.settle(result);
        });
        Ok(Next::Outcome(outcome))
    }

    /// A connection that had worked is over: its member is suspect, but the first retry is nearly at
    /// once.
    fn broke(&self, connection: &Connection) {
        let reason = connection.why_ended();
        self.observer.ejected(&connection.endpoint.text, reason);
        let mut picker = self.picker.lock();
        picker.failed(connection.index, Instant::now(), jitter::fraction());
    }

    /// Takes note of what a failure says about the member behind `connection`. The role lets go of
    /// the connection when there is another member to turn to.
    pub(crate) fn report(
        &self,
        role: ConnectionRole,
        connection: &Connection,
        suspicion: Suspicion,
    ) {
        if self.penalise(connection, suspicion) {
            self.observer.ejected(&connection.endpoint.text, suspicion);
            self.let_go(role, connection);
        }
    }

    /// Takes note of the same, and says whether there is another member to turn to.
    pub(crate) fn penalise(&self, connection: &Connection, suspicion: Suspicion) -> bool {
        let (index, now) = (connection.index, Instant::now());
        match suspicion {
            Suspicion::None => false,
            Suspicion::Silent => {
                connection.suspect();
                // What made one deaf may have made deaf those of other roles, who need not find out
                // each by itself.
                for pool in &self.pools {
                    pool.lock().suspect(index);
                }
                self.picker.lock().set_aside(index, now)
            }
            Suspicion::Unable => self.picker.lock().set_aside(index, now),
            Suspicion::Learner => self.picker.lock().learner(index, now),
        }
    }

    /// A stream on `connection` was not answered for `waited`: turns to another member, or, when there
    /// is none, to a new connection if nothing at all arrived on this one for that long.
    ///
    /// The second half matters to leases, whose life can be shorter than it takes to ping a server
    /// and be sure: etcd allows a ping only every 5 s.
    pub(crate) fn unanswered(
        &self,
        role: ConnectionRole,
        connection: &Connection,
        waited: Duration,
    ) {
        self.report(role, connection, Suspicion::Silent);
        if connection.silent_for() >= waited {
            self.let_go(role, connection);
        }
    }

    /// The open connection that requests of a role go over, if there is one.
    pub(crate) fn current(&self, role: ConnectionRole) -> Option<Connection> {
        self.pool(role).lock().first.clone()
    }

    /// The member that requests of a role went to, over `used`, is behind another one: they turn
    /// elsewhere, if there is anybody. Says whether there is one who is known to be there.
    pub(crate) fn behind(&self, role: ConnectionRole, used: &Connection) -> bool {
        let current = self.current(role);
        if !current.is_some_and(|current| current.is_same(used)) {
            // They go elsewhere already, and the answer may have come from there.
            return false;
        }
        if self.picker.lock().behind(used.index, Instant::now()) {
            self.let_go(role, used);
        }
        self.has_others(used.index)
    }

    /// The next request of the role gets another connection.
    fn let_go(&self, role: ConnectionRole, connection: &Connection) {
        let mut pool = self.pool(role).lock();
        pool.forget(|other| other.is_same(connection));
    }

    /// No request of any role goes to an endpoint that is not among these.
    pub(crate) fn keep_only(&self, texts: &[Arc<str>]) {
        for pool in &self.pools {
            let gone = |connection: &Connection| !texts.contains(&connection.endpoint.text);
            pool.lock().forget(gone);
        }
    }

    /// What a request of the role waits for, when that is a stream of a connection that is open.
    pub(crate) fn stream_shortage(&self, role: Option<ConnectionRole>) -> Option<String> {
        let connection = self.current(role?).filter(Connection::is_open)?;
        if connection.with_slot().is_some() {
            return None;
        }
        Some(too_many_streams(&connection, 1).text)
    }

    pub(crate) fn pool(&self, role: ConnectionRole) -> &Mutex<Pool> {
        let [calls, leases, watches, waits, bulk] = &self.pools;
        match role {
            ConnectionRole::Calls => calls,
            ConnectionRole::Leases => leases,
            ConnectionRole::Watches => watches,
            ConnectionRole::Waits => waits,
            ConnectionRole::Bulk => bulk,
        }
    }
}

/// What to do for a connection.
enum Next {
    Connection(Connection),
    Outcome(Dialled),
    Wait(Instant),
    /// Wait for a stream of this one.
    Slot(Connection),
}

/// A connection that is being made. However that ends, also by a panic, who waits for it is told, and
/// the next one can be made.
struct Dialling {
    transport: Arc<Transport>,
    role: ConnectionRole,
    sender: watch::Sender<Option<Result<Connection, ConnectError>>>,
    result: Result<Connection, ConnectError>,
}

impl Dialling {
    fn settle(&mut self, result: Result<Connection, ConnectError>) {
        self.result = result;
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let mut pool = self.transport.pool(self.role).lock();
        pool.dialling = None;
        if let Ok(connection) = &self.result {
            pool.add(connection);
        }
        drop(pool);
        self.sender.send_replace(Some(self.result.clone()));
    }
}

#[cold]
fn too_many_streams(connection: &Connection, open: usize) -> ConnectError {
    let limit = connection.stream_limit().unwrap_or_default();
    ConnectError {
        kind: ErrorKind::RateLimited,
        ..ConnectError::unconnected(format!(
            "the server permits {limit} streams on a connection (etcd --max-concurrent-streams), and \
             those of {open} connections are in use"
        ))
    }
}

#[cfg(test)]
mod tests;

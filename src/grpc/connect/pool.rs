//! The connections of one role.

use std::sync::Weak;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::connect_error::ConnectError;
use super::connection::{Connection, ConnectionInner};
use super::connection_role::ConnectionRole;

pub(super) type DialReceiver = watch::Receiver<Option<Result<Connection, ConnectError>>>;

/// The connections of one role, and the race for a new one.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(in crate::grpc) first: Option<Connection>,
    /// Additional connections, where the server limits the streams of one. They end with their last
    /// stream.
    more: Vec<Weak<ConnectionInner>>,
    pub(crate) dialling: Option<DialReceiver>,
}

/// The connections of all roles.
pub(crate) type Pools = [Mutex<Pool>; ConnectionRole::COUNT];

/// The result of a look for a connection in a pool.
pub(super) enum PoolLookup {
    Connection(Connection),
    /// No connection is open.
    None,
    /// All `open` connections have as many streams as the server permits.
    Full {
        first: Connection,
        open: usize,
    },
}

impl Pool {
    pub(super) fn find(&mut self) -> PoolLookup {
        let Some(first) = self.first.as_ref().filter(|first| first.is_open()) else {
            return PoolLookup::None;
        };
        if let Some(connection) = first.with_slot() {
            return PoolLookup::Connection(connection);
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
            Some(connection) => PoolLookup::Connection(connection),
            None => PoolLookup::Full {
                first: first.clone(),
                open: 1 + self.more.len(),
            },
        }
    }

    pub(super) fn add(&mut self, connection: &Connection) {
        match &self.first {
            Some(first) if first.is_open() => self.more.push(connection.downgrade()),
            _ => self.first = Some(connection.clone()),
        }
    }

    /// Checks the busy connections to an address after a request was not answered. Idle ones are
    /// skipped, because etcd counts pings on them as excess pings.
    pub(super) fn suspect(&self, index: usize) {
        let more = self.more.iter().filter_map(Connection::revive);
        for connection in self.first.iter().cloned().chain(more) {
            if connection.index == index && connection.is_busy() {
                connection.suspect();
            }
        }
    }

    /// Removes the connections that `which` selects, so that the next request uses another one.
    pub(in crate::grpc) fn forget(&mut self, which: impl Fn(&Connection) -> bool) {
        self.first.take_if(|first| which(first));
        let revived = |more: &Weak<ConnectionInner>| Connection::revive(more);
        self.more
            .retain(|more| revived(more).is_some_and(|connection| !which(&connection)));
    }
}

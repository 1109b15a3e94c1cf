//! Records what a failure shows about the member of a connection.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::connection_role::ConnectionRole;
use crate::grpc::member_condition::MemberCondition;
use crate::grpc::transport::Transport;

impl Transport {
    /// Records the condition of the member behind `connection`. If there is another member, the
    /// role stops using the connection.
    pub(crate) fn report(
        &self,
        role: ConnectionRole,
        connection: &Connection,
        condition: MemberCondition,
    ) {
        if self.penalise(connection, condition) {
            self.telemetry.ejected(&connection.endpoint.text, condition);
            self.release(role, connection);
        }
    }

    /// Records the condition of the member behind `connection`, and returns whether there is
    /// another member to use.
    pub(crate) fn penalise(&self, connection: &Connection, condition: MemberCondition) -> bool {
        let (index, now) = (connection.index, Instant::now());
        match condition {
            MemberCondition::Healthy => false,
            MemberCondition::Silent => {
                connection.suspect();
                // The cause may affect the connections of the other roles to this address too, so
                // they are checked at once.
                for pool in &self.pools {
                    pool.lock().suspect(index);
                }
                self.picker.lock().set_aside(index, now)
            }
            MemberCondition::Unable => self.picker.lock().set_aside(index, now),
            MemberCondition::Learner => self.picker.lock().learner(index, now),
        }
    }

    /// Handles a stream on `connection` that got no answer for `waited`: the role uses another
    /// member. If there is none, it uses a new connection, provided that nothing arrived on this
    /// one for that time.
    ///
    /// The new connection matters to leases, whose time to live can be shorter than the time to
    /// confirm a failure by a ping: etcd permits a ping only every 5 s.
    pub(crate) fn unanswered(
        &self,
        role: ConnectionRole,
        connection: &Connection,
        waited: Duration,
    ) {
        self.report(role, connection, MemberCondition::Silent);
        if connection.silent_for() >= waited {
            self.release(role, connection);
        }
    }

    /// The open connection of a role, if there is one.
    pub(crate) fn current(&self, role: ConnectionRole) -> Option<Connection> {
        self.pool(role).lock().first.clone()
    }

    /// Handles a member that lags behind another one: requests of the role no longer use it if
    /// there is another address to try. Returns whether another member is known to work.
    pub(crate) fn lagging(&self, role: ConnectionRole, used: &Connection) -> bool {
        let current = self.current(role);
        if !current.is_some_and(|current| current.is_same(used)) {
            // Requests already use another connection, and the answer may have come from there.
            return false;
        }
        if self.picker.lock().lagging(used.index, Instant::now()) {
            self.release(role, used);
        }
        self.has_others(used.index)
    }

    /// Stops using the connection for new requests of the role.
    pub(super) fn release(&self, role: ConnectionRole, connection: &Connection) {
        let mut pool = self.pool(role).lock();
        pool.forget(|other| other.is_same(connection));
    }
}

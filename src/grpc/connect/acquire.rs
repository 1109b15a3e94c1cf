//! Returns an open connection of a role, or dials a new one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::connect_error::ConnectError;
use super::connection::Connection;
use super::connection_role::ConnectionRole;
use super::member_picker::DialPlan;
use super::pool::{DialReceiver, PoolLookup};
use super::race::race;
use super::urgency::Urgency;
use crate::error::ErrorKind;
use crate::grpc::transport::Transport;
use crate::util::jitter;

impl Transport {
    /// Returns a connection of a role without waiting for a token. Waits as
    /// [`connection`](Self::connection) does.
    pub(crate) async fn dialled(
        self: &Arc<Self>,
        role: ConnectionRole,
        urgency: Urgency,
    ) -> Result<Connection, ConnectError> {
        loop {
            let mut outcome = match self.find_or_dial(role, urgency)? {
                Acquisition::Connection(connection) => return Ok(connection),
                Acquisition::Outcome(outcome) => outcome,
                Acquisition::Wait(until) => {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
                Acquisition::Slot(connection) => match connection.wait_for_slot().await {
                    Some(connection) if connection.is_open() => return Ok(connection),
                    _ => continue,
                },
            };
            let settled = outcome.wait_for(Option::is_some).await;
            let settled = settled.ok().and_then(|outcome| outcome.clone());
            let dropped = || ConnectError::unconnected("the connection attempt was dropped");
            // Other requests wait for the same connection, and it may permit fewer streams than
            // they need.
            if let Some(connection) = settled.ok_or_else(dropped)??.with_slot() {
                return Ok(connection);
            }
        }
    }

    fn find_or_dial(
        self: &Arc<Self>,
        role: ConnectionRole,
        urgency: Urgency,
    ) -> Result<Acquisition, ConnectError> {
        let mut pool = self.pool(role).lock();
        match pool.find() {
            PoolLookup::Connection(connection) => return Ok(Acquisition::Connection(connection)),
            PoolLookup::Full { first, .. } if role.most() == 1 => {
                return Ok(Acquisition::Slot(first));
            }
            PoolLookup::Full { first, open } if open >= role.most() => {
                return Err(too_many_streams(&first, open));
            }
            PoolLookup::Full { .. } => {}
            PoolLookup::None => {
                if let Some(connection) = pool.first.take() {
                    self.ended(&connection);
                }
            }
        }
        // The task of this race ended without a result, so a new race is started.
        let dialling = pool.dialling.as_ref();
        if let Some(dialling) = dialling.filter(|outcome| outcome.has_changed().is_ok()) {
            return Ok(Acquisition::Outcome(dialling.clone()));
        }
        let start = match self.picker.lock().plan(Instant::now(), urgency) {
            DialPlan::Wait(until) => return Ok(Acquisition::Wait(until)),
            DialPlan::Dial(start) => start,
        };
        let (sender, outcome) = watch::channel(None);
        pool.dialling = Some(outcome.clone());
        // A runtime that shuts down drops the task at once, and the drop of its guard takes the
        // lock.
        drop(pool);
        let mut dialling = DialGuard {
            transport: Arc::clone(self),
            role,
            sender,
            result: Err(ConnectError::unconnected(
                "the connection attempt was dropped",
            )),
        };
        tokio::spawn(async move {
            let result = race(&dialling.transport, start, urgency).await;
            dialling.settle(result);
        });
        Ok(Acquisition::Outcome(outcome))
    }

    /// Records that a connection that worked has ended. Its address counts as failing, unless it was
    /// dialled since, but the first retry follows almost at once.
    fn ended(&self, connection: &Connection) {
        let reason = connection.why_ended();
        self.telemetry.ejected(&connection.endpoint.text, reason);
        let mut picker = self.picker.lock();
        let last_sign_of_life = connection.last_sign_of_life();
        let now = Instant::now();
        picker.connection_ended(connection.index, last_sign_of_life, now, jitter::fraction());
    }

    /// Describes why requests of the role wait for a free stream; `None` when they do not.
    pub(crate) fn stream_shortage(&self, role: Option<ConnectionRole>) -> Option<String> {
        let connection = self.current(role?).filter(Connection::is_open)?;
        if connection.with_slot().is_some() {
            return None;
        }
        Some(too_many_streams(&connection, 1).text)
    }
}

/// The next step towards a connection.
enum Acquisition {
    Connection(Connection),
    Outcome(DialReceiver),
    Wait(Instant),
    /// Wait for a free stream of this connection.
    Slot(Connection),
}

/// Publishes the result of one race when it is dropped. A panic in the race also drops it, so
/// waiting requests always get a result and the next race can start.
struct DialGuard {
    transport: Arc<Transport>,
    role: ConnectionRole,
    sender: watch::Sender<Option<Result<Connection, ConnectError>>>,
    result: Result<Connection, ConnectError>,
}

impl DialGuard {
    fn settle(&mut self, result: Result<Connection, ConnectError>) {
        self.result = result;
    }
}

impl Drop for DialGuard {
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

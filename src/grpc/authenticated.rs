//! Connections for requests that carry the client's token.

use std::sync::Arc;
use std::time::Instant;

use super::connect::connection::Connection;
use super::connect::connection_role::ConnectionRole;
use super::connect::member_picker::DialPlan;
use super::connect::race::race;
use super::connect::urgency::Urgency;
use super::rpc_error::RpcError;
use super::transport::Transport;

impl Transport {
    /// Returns a connection of a role for one request that carries the client's token, open or new.
    ///
    /// Waits for as long as no member answers; the caller sets the deadline. A `ConnectError` is
    /// the result of one race. An `Answer` means that there is no token, because the user name or
    /// the password is wrong.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        role: ConnectionRole,
        urgency: Urgency,
    ) -> Result<Connection, RpcError> {
        self.authenticated(urgency).await?;
        self.dialled(role, urgency)
            .await
            .map_err(RpcError::Connection)
    }

    /// Returns a connection if one is open, has a free stream, and no token has to be fetched.
    pub(crate) fn ready_connection(&self, role: ConnectionRole) -> Option<Connection> {
        if !self.is_authenticated() {
            return None;
        }
        let pool = self.pool(role).lock();
        let first = pool.first.as_ref().filter(|first| first.is_open());
        first?.with_slot()
    }

    /// Dials a connection that is used for one stream only, which the reader may read slowly. On a
    /// shared connection its unread bytes would fill the flow-control window of all streams.
    pub(crate) async fn own_connection(
        self: &Arc<Self>,
        urgency: Urgency,
    ) -> Result<Connection, RpcError> {
        self.authenticated(urgency).await?;
        loop {
            let plan = self.picker.lock().plan(Instant::now(), urgency);
            match plan {
                DialPlan::Wait(until) => tokio::time::sleep_until(until.into()).await,
                DialPlan::Dial(start) => {
                    let dialled = race(self, start, urgency).await;
                    return dialled.map_err(RpcError::Connection);
                }
            }
        }
    }
}

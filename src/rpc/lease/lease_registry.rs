//! The leases that a client keeps alive: starts the keep-alive task, and adds leases to it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::keep_alive::KeepAlive;
use super::keep_alive_task::KeepAliveTask;
use super::lease_command::LeaseCommand;
use super::lease_holder::LeaseHolder;
use super::lease_status::lease_status;
use crate::error::{Error, Operation, Result};
use crate::grpc::Transport;
use crate::runtime::{Bridge, Spawn};
use crate::types::LeaseId;
use crate::util::atomic::AtomicU64;

/// The leases that a client keeps alive. The first one starts the task.
#[derive(Debug, Default)]
pub(crate) struct LeaseRegistry {
    commands: Mutex<Option<mpsc::UnboundedSender<LeaseCommand>>>,
    holders: AtomicU64,
}

impl LeaseRegistry {
    /// Keeps a lease alive; its first answer must arrive `within` this time. It does not block.
    pub(crate) fn keep_alive(
        &self,
        bridge: &Bridge,
        transport: &Arc<Transport>,
        lease: LeaseId,
        within: Duration,
    ) -> Result<KeepAlive> {
        let refused = |error: Error| error.operation(Operation::about("keep alive lease", lease));
        bridge.check_open().map_err(refused)?;
        let number = self.holders.fetch_add(1, Relaxed);
        let (writer, status) = lease_status(lease);
        let holder = LeaseHolder {
            number,
            status: writer,
        };
        let commands = self.commands(bridge, transport).map_err(refused)?;
        let join = LeaseCommand::Join {
            lease,
            within,
            holder,
        };
        // When the task has ended, the holder is dropped and its last item is `Closed`.
        let _ = commands.send(join);
        Ok(KeepAlive::new(lease, number, status, commands))
    }

    fn commands(
        &self,
        bridge: &Bridge,
        transport: &Arc<Transport>,
    ) -> Result<mpsc::UnboundedSender<LeaseCommand>> {
        let mut current = self.commands.lock();
        if let Some(commands) = current.as_ref().filter(|commands| !commands.is_closed()) {
            return Ok(commands.clone());
        }
        let (commands, queue) = mpsc::unbounded_channel();
        let task = KeepAliveTask::new(transport, queue);
        bridge.spawn(Box::pin(task.run()))?;
        *current = Some(commands.clone());
        Ok(commands)
    }
}

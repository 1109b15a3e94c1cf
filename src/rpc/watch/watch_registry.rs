//! The watches of a client: starts the watch task, and hands watches to it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::command::{Command, CommandSender};
use super::pending_watch::{PendingWatch, all_created};
use super::set_delivery::SetDelivery;
use super::set_guard::SetGuard;
use super::sink::Sink;
use super::task_watcher::TaskWatcher;
use super::task_watcher_item;
use super::task_watcher_item::TaskWatcherItem;
use super::watch_guard::WatchGuard;
use super::watch_id::WatchId;
use super::watch_request::Watch;
use super::watch_task::WatchTask;
use super::watcher::Watcher;
use crate::error::{Error, Operation, Result};
use crate::grpc::Transport;
use crate::runtime::{BoundedReceiver, BoundedSender, Bridge, Capacity, Spawn, bounded_queue};
use crate::util::atomic::AtomicU64;

/// The watches of a client.
#[derive(Debug)]
pub(crate) struct WatchRegistry {
    transport: Arc<Transport>,
    room: Capacity,
    task: Mutex<Option<CommandSender>>,
    ids: AtomicU64,
}

impl WatchRegistry {
    pub(crate) fn new(transport: Arc<Transport>, room: Capacity) -> Self {
        WatchRegistry {
            transport,
            room,
            task: Mutex::new(None),
            ids: AtomicU64::new(1),
        }
    }

    /// Creates a watch. Blocks until the server has created it, at most for `timeout`.
    pub(crate) fn open(&self, bridge: &Bridge, watch: Watch, timeout: Duration) -> Result<Watcher> {
        let (sender, receiver) = self.bounded_queue(Err);
        let sink = Sink::Reader(sender);
        let (guard, created) = self.add(bridge, self.next_id(), watch, sink)?;
        bridge.call(all_created(vec![created], guard.task().clone(), timeout))?;
        Ok(Watcher::new(receiver, guard))
    }

    /// Adds a watch that a task of the runtime reads. It does not wait for the server.
    pub(crate) fn open_for_task(&self, spawn: &impl Spawn, watch: Watch) -> Result<TaskWatcher> {
        let last_item = |error| TaskWatcherItem::Response(Err(error));
        let (items, receiver) = bounded_queue(task_watcher_item::ROOM, last_item);
        let sink = Sink::Task { items, down: false };
        let id = self.next_id();
        let task = self.submit(spawn, id, watch, sink, None)?;
        Ok(TaskWatcher::new(receiver, WatchGuard::new(id, task)))
    }

    /// A queue with the bounds that the client's settings give to each watch queue.
    pub(super) fn bounded_queue<T: Send + 'static>(
        &self,
        last_item: fn(Error) -> T,
    ) -> (BoundedSender<T>, BoundedReceiver<T>) {
        let (sender, receiver) = bounded_queue(self.room, last_item);
        // The metrics read the length of the queue while it exists.
        self.transport.telemetry().watch_queue(sender.queue());
        (sender, receiver)
    }

    /// Adds an empty set.
    pub(super) fn add_set(&self, spawn: &impl Spawn, delivery: SetDelivery) -> Result<SetGuard> {
        let number = self.next_id();
        let task = self.task(spawn)?;
        task.send(Command::AddSet(number, delivery))?;
        Ok(SetGuard::new(number, task))
    }

    /// The id of a watch that is to be added or submitted.
    pub(super) fn next_id(&self) -> WatchId {
        self.ids.fetch_add(1, Relaxed)
    }

    /// Adds a watch whose caller waits until the server has created it.
    pub(super) fn add(
        &self,
        spawn: &impl Spawn,
        id: WatchId,
        watch: Watch,
        sink: Sink,
    ) -> Result<(WatchGuard, PendingWatch)> {
        let (created, receiver) = oneshot::channel();
        let about = Operation::about("watch", watch.keys());
        let task = self.submit(spawn, id, watch, sink, Some(created))?;
        let pending = PendingWatch::new(receiver, about);
        Ok((WatchGuard::new(id, task), pending))
    }

    pub(super) fn submit(
        &self,
        spawn: &impl Spawn,
        id: WatchId,
        watch: Watch,
        sink: Sink,
        created: Option<oneshot::Sender<Result<()>>>,
    ) -> Result<CommandSender> {
        let about = || Operation::about("watch", watch.keys());
        // Checked before the task is started, which needs the runtime.
        watch.check().map_err(|e| e.operation(about()))?;
        let task = self.task(spawn).map_err(|e| e.operation(about()))?;
        task.send(Command::Add {
            id,
            watch,
            sink,
            created,
        })?;
        Ok(task)
    }

    /// The task. Starts it when there is none: the first time, and after it panicked.
    fn task(&self, spawn: &impl Spawn) -> Result<CommandSender> {
        let mut task = self.task.lock();
        if let Some(task) = task.as_ref().filter(|task| !task.is_closed()) {
            return Ok(task.clone());
        }
        let (commands, queue) = CommandSender::new();
        // Started under the lock, so that two callers do not start two tasks.
        let running = WatchTask::run(Arc::clone(&self.transport), queue);
        spawn.spawn(Box::pin(running))?;
        *task = Some(commands.clone());
        Ok(commands)
    }
}

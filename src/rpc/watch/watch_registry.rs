//! The way to the watch task of a client: started by the first watch, told what is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::event::WatchResponse;
use super::handle::Watcher;
use super::latest::{Feed, LatestSetParts};
use super::request::Watch;
use super::set::WatchKey;
use super::sets::{Delivery, Watched};
use super::sink::Sink;
use super::state::Id;
use super::task::Task;
use super::task_watcher;
use super::task_watcher::TaskWatcher;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::Transport;
use crate::runtime::{BoundedSender, Bridge, Room, Spawn};

/// What the task is told.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        id: Id,
        watch: Watch,
        sink: Sink,
        created: Option<oneshot::Sender<Result<()>>>,
    },
    Remove(Id),
    Progress(Id),
    AddSet(u64, Delivery),
    RemoveSet(u64),
    /// What keeps the watches waiting.
    Why(oneshot::Sender<Option<String>>),
}

/// What a set of watches stands on, and keeps alive: its client.
pub(crate) trait Host: Send + Sync + std::fmt::Debug {
    fn registry(&self) -> &WatchRegistry;
    fn bridge(&self) -> &Bridge;
    fn timeout(&self) -> Duration;
    /// The watch, confined to what the client is confined to.
    fn confine(&self, watch: Watch) -> Watch;
}

/// The watches of a client.
#[derive(Debug)]
pub(crate) struct WatchRegistry {
    transport: Arc<Transport>,
    room: Room,
    task: Mutex<Option<mpsc::UnboundedSender<Command>>>,
    ids: AtomicU64,
}

/// WatchEntry watch of the task; dropped, the task forgets it.
#[derive(Debug)]
pub(crate) struct WatchGuard {
    pub(super) id: Id,
    task: mpsc::UnboundedSender<Command>,
    kept: bool,
}

impl WatchGuard {
    fn new(id: Id, task: mpsc::UnboundedSender<Command>) -> Self {
        let kept = false;
        WatchGuard { id, task, kept }
    }

    pub(super) fn request_progress(&self) {
        // A task that is gone has said so to its readers.
        let _ = self.task.send(Command::Progress(self.id));
    }

    /// The id of a watch that goes on without its ticket.
    pub(super) fn keep(mut self) -> Id {
        self.kept = true;
        self.id
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.task.send(Command::Remove(self.id));
        }
    }
}

/// The last item when the task goes away.
fn farewell() -> Option<Result<WatchResponse>> {
    Some(Err(Error::abandoned()))
}

impl WatchRegistry {
    pub(crate) fn new(transport: Arc<Transport>, room: Room) -> Self {
        WatchRegistry {
            transport,
            room,
            task: Mutex::new(None),
            ids: AtomicU64::new(1),
        }
    }

    /// A watch that the server has.
    pub(crate) fn open(&self, bridge: &Bridge, watch: Watch, timeout: Duration) -> Result<Watcher> {
        let (bounded_sender, receiver) = BoundedSender::new(self.room, farewell);
        self.transport
            .observer()
            .watch_queue(bounded_sender.queue());
        let (ticket, created) =
            self.add(bridge, self.next_id(), watch, Sink::Reader(bounded_sender))?;
        bridge.call(all_created(vec![created], ticket.task.clone(), timeout))?;
        Ok(Watcher::new(receiver, ticket))
    }

    /// A watch for a task on the runtime; it does not wait for the server.
    pub(crate) fn open_for_task(&self, spawn: &impl Spawn, watch: Watch) -> Result<TaskWatcher> {
        let (notes, receiver) = mpsc::channel(task_watcher::ROOM);
        let sink = Sink::Task { notes, down: false };
        let id = self.next_id();
        let task = self.submit(spawn, id, watch, sink, None)?;
        Ok(TaskWatcher {
            receiver,
            ticket: WatchGuard::new(id, task),
        })
    }

    /// An empty set.
    pub(crate) fn set(&self, spawn: &impl Spawn) -> Result<WatchSetParts> {
        let number = self.next_id();
        let (bounded_sender, receiver) =
            BoundedSender::new(self.room, || Some((WatchKey::SET, Err(Error::abandoned()))));
        self.transport
            .observer()
            .watch_queue(bounded_sender.queue());
        let task = self.task(spawn)?;
        let watched = Watched::default();
        let delivery = Delivery::All {
            bounded_sender,
            watched: Arc::clone(&watched),
        };
        tell(&task, Command::AddSet(number, delivery))?;
        Ok(WatchSetParts {
            number,
            receiver,
            watched,
            task,
        })
    }

    /// An empty set that keeps the newest event of each watch.
    pub(crate) fn latest_set(&self, spawn: &impl Spawn) -> Result<LatestSetParts> {
        let number = self.next_id();
        let task = self.task(spawn)?;
        let (feed, shared, receiver) = Feed::new();
        tell(&task, Command::AddSet(number, Delivery::Latest(feed)))?;
        Ok(LatestSetParts {
            number,
            shared,
            receiver,
            task,
        })
    }

    /// The id of a watch that is to be added or submitted.
    pub(super) fn next_id(&self) -> Id {
        self.ids.fetch_add(1, Relaxed)
    }

    /// Hands over a watch, and what its creation is told by.
    pub(super) fn add(
        &self,
        spawn: &impl Spawn,
        id: Id,
        watch: Watch,
        sink: Sink,
    ) -> Result<(WatchGuard, Waiting)> {
        let (created, waiting) = oneshot::channel();
        let about = Operation::about("watch", watch.keys());
        let task = self.submit(spawn, id, watch, sink, Some(created))?;
        Ok((WatchGuard::new(id, task), Waiting { waiting, about }))
    }

    pub(super) fn submit(
        &self,
        spawn: &impl Spawn,
        id: Id,
        watch: Watch,
        sink: Sink,
        created: Option<oneshot::Sender<Result<()>>>,
    ) -> Result<mpsc::UnboundedSender<Command>> {
        let about = || Operation::about("watch", watch.keys());
        watch.check().map_err(|e| e.operation(about()))?;
        let task = self.task(spawn).map_err(|e| e.operation(about()))?;
        let add = Command::Add {
            id,
            watch,
            sink,
            created,
        };
        tell(&task, add)?;
        Ok(task)
    }

    /// The task, started if there is none: at first, and again after it panicked.
    fn task(&self, spawn: &impl Spawn) -> Result<mpsc::UnboundedSender<Command>> {
        let mut task = self.task.lock();
        if let Some(task) = task.as_ref().filter(|task| !task.is_closed()) {
            return Ok(task.clone());
        }
        let (commands, queue) = mpsc::unbounded_channel();
        spawn.spawn(Box::pin(Task::run(Arc::clone(&self.transport), queue)))?;
        *task = Some(commands.clone());
        Ok(commands)
    }
}

/// The reader's half of a set.
#[derive(Debug)]
pub(crate) struct WatchSetParts {
    pub(super) number: u64,
    pub(super) receiver: crossbeam_channel::Receiver<(WatchKey, Result<WatchResponse>)>,
    pub(super) watched: Watched,
    pub(super) task: mpsc::UnboundedSender<Command>,
}

/// A watch that the server does not have yet.
#[derive(Debug)]
pub(super) struct Waiting {
    waiting: oneshot::Receiver<Result<()>>,
    about: Operation,
}

fn tell(task: &mpsc::UnboundedSender<Command>, command: Command) -> Result<()> {
    task.send(command).map_err(|_| Error::closed())
}

/// Waits until the server has all of them, or for the first that it refuses.
pub(super) async fn all_created(
    watches: Vec<Waiting>,
    task: mpsc::UnboundedSender<Command>,
    timeout: Duration,
) -> Result<()> {
    let begun = Instant::now();
    let deadline = begun + timeout;
    for Waiting { waiting, about } in watches {
        match tokio::time::timeout_at(deadline.into(), waiting).await {
            Ok(Ok(result)) => result.map_err(|error| error.or_operation(&about))?,
            Ok(Err(_)) => return Err(Error::closed().operation(about)),
            Err(_) => {
                let (reply, why) = oneshot::channel();
                let _ = task.send(Command::Why(reply));
                let why = why.await.ok().flatten();
                let kind = match why {
                    Some(_) => ErrorKind::Unavailable,
                    None => ErrorKind::Timeout,
                };
                let reason =
                    format!("the server did not create it in {timeout:?}; it is cancelled");
                let error = Error::new(kind, reason)
                    .operation(about)
                    .tried(1, begun.elapsed());
                return Err(match why {
                    Some(why) => error.last(why),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

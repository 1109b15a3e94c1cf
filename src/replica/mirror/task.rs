//! The life of a mirror on the runtime: list, watch, and begin again when history is gone.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::change_queue::ChangeQueue;
use super::handle::{Command, Mirror, Shared};
use super::list::{List, Lister};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::Transport;
use crate::rpc::namespace::Namespace;
use crate::rpc::watch::{TaskWatcher, TaskWatcherItem, Watch, WatchRegistry};
use crate::runtime::{BoundedSender, Bridge, Here, Room, Spawn};
use crate::types::key_range::KeyRange;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// Events that may wait for a slow reader; more become one `Reset`.
const QUEUE: Room = Room {
    items: 1024,
    bytes: 16 << 20,
};

/// The wait between lists that fail, and between watches that are refused. A list itself takes its time
/// to give up.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// Opens a mirror. Blocks until the first list is there.
pub(crate) fn open(
    bridge: &Bridge,
    transport: Arc<Transport>,
    registry: Arc<WatchRegistry>,
    range: KeyRange,
    namespace: Option<Namespace>,
    timeout: Duration,
) -> Result<Mirror> {
    let about = Operation::about("mirror", &range);
    if let Some(problem) = range.problem() {
        return Err(Error::invalid(problem).operation(about));
    }
    let (bounded_sender, changes) = BoundedSender::new(QUEUE, || Some(Err(Error::abandoned())));
    transport.observer().watch_queue(bounded_sender.queue());
    let (commands, queue) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let (listed, first) = oneshot::channel();
    let task = Task {
        lister: Lister {
            transport,
            range: range.clone(),
            namespace,
            timeout,
        },
        registry,
        teller: ChangeQueue::new(bounded_sender, Arc::clone(&shared)),
        ending: Ending(Arc::clone(&shared)),
        shared: Arc::clone(&shared),
        commands: queue,
        look: None,
    };
    bridge.spawn(Box::pin(task.run(listed)))?;
    bridge
        .call(async move { first.await.unwrap_or_else(|_| Err(Error::closed())) })
        .map_err(|error| error.operation(about))?;
    Ok(Mirror {
        range,
        shared,
        changes,
        commands,
    })
}

struct Task {
    lister: Lister,
    registry: Arc<WatchRegistry>,
    teller: ChangeQueue,
    shared: Arc<Shared>,
    /// Only for its drop.
    #[expect(
        dead_code,
        reason = "it tells waiters why, when the runtime drops the task"
    )]
    ending: Ending,
    commands: mpsc::UnboundedReceiver<Command>,
    /// When to look whether a slow reader has made room.
    look: Option<std::pin::Pin<Box<Sleep>>>,
}

/// Tells those who wait for a revision that the task is gone.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Error::abandoned());
    }
}

/// How a watch ended.
struct Ended {
    why: Error,
    /// The server had it.
    followed: bool,
}

impl Task {
    async fn run(mut self, listed: oneshot::Sender<Result<()>>) {
        let give_up = Instant::now() + self.lister.timeout;
        match self.lister.list(Some(give_up)).await {
            Ok(list) => self.take_over(list),
            Err(error) => return drop(listed.send(Err(error))),
        }
        let ended = self.follow(Some(listed)).await;
        self.teller.end(ended);
    }

    /// Watches, and lists again whenever the watch ends. It returns why the mirror cannot go on, or
    /// nothing when its owner let go of it.
    async fn follow(&mut self, mut opening: Option<oneshot::Sender<Result<()>>>) -> Option<Error> {
        let mut backoff = BETWEEN_TRIES;
        loop {
            let (revision, epoch) = self.shared.position();
            let mut watch = Watch::range(self.lister.range.clone());
            watch = watch.after(revision).of_epoch(epoch);
            if let Some(namespace) = &self.lister.namespace {
                watch = watch.within(namespace);
            }
            let mut notes = match self.registry.open_for_task(&Here, watch) {
                Ok(notes) => notes,
                Err(error) => return Some(error),
            };
            let refused = match opening.take() {
                Some(opening) => self.opened(&mut notes, opening).await,
                None => None,
            };
            let ended = match refused {
                Some(why) => Ended {
                    why,
                    followed: false,
                },
                None => self.watch(&mut notes).await?,
            };
            if is_final(&ended.why) {
                return Some(ended.why);
            }
            drop(notes);
            self.teller.set_stale(ended.why);
            if ended.followed {
                backoff.reset();
            } else {
                let pause = tokio::time::sleep(backoff.next(jitter::fraction()));
                self.meanwhile(pause).await?;
            }
            match self.list_for_ever().await? {
                Ok(list) => self.take_over(list),
                Err(error) => return Some(error),
            }
        }
    }

    fn take_over(&mut self, list: List) {
        self.teller.reset(list.kvs, list.revision, list.epoch);
    }

    /// Lets the owner go on when the mirror follows, or when that takes too long: it has its list.
    /// Returns why the watch was refused, if it was.
    async fn opened(
        &mut self,
        notes: &mut TaskWatcher,
        opening: oneshot::Sender<Result<()>>,
    ) -> Option<Error> {
        let mut refused = None;
        match tokio::time::timeout(self.lister.timeout, notes.recv()).await {
            Ok(TaskWatcherItem::Up) => {}
            Ok(TaskWatcherItem::Item(Ok(response))) => self.teller.apply(&response),
            Ok(TaskWatcherItem::Item(Err(error))) => refused = Some(error),
            Ok(TaskWatcherItem::Down) | Err(_) => self.teller.set_stale(cut_off()),
        }
        // An owner that gave up waiting has dropped the commands too.
        let _ = opening.send(Ok(()));
        refused
    }

    /// Applies what the watch brings until it ends; `None` when the owner is gone.
    async fn watch(&mut self, notes: &mut TaskWatcher) -> Option<Ended> {
        let mut followed = false;
        loop {
            let woken = self.wait(|cx| notes.poll_recv(cx)).await;
            match woken {
                Wake::Gone => return None,
                Wake::Progress => notes.request_progress(),
                Wake::Done(TaskWatcherItem::Down) if self.teller.is_stale() => {}
                Wake::Done(TaskWatcherItem::Down) => self.teller.set_stale(cut_off()),
                Wake::Done(TaskWatcherItem::Up) => {
                    followed = true;
                    self.teller.set_live();
                }
                Wake::Done(TaskWatcherItem::Item(Err(why))) => {
                    return Some(Ended { why, followed });
                }
                Wake::Done(TaskWatcherItem::Item(Ok(response))) => {
                    followed = true;
                    self.teller.apply(&response);
                }
            }
        }
    }

    /// Lists until it works; `None` when the owner is gone meanwhile.
    async fn list_for_ever(&mut self) -> Option<Result<List>> {
        let mut backoff = BETWEEN_TRIES;
        loop {
            let lister = self.lister.clone();
            match self.meanwhile(lister.list(None)).await? {
                Err(error) if !is_final(&error) => {
                    self.teller.set_stale(error);
                    let pause = tokio::time::sleep(backoff.next(jitter::fraction()));
                    self.meanwhile(pause).await?;
                }
                settled => return Some(settled),
            }
        }
    }

    /// Waits for something, and serves the reader of the changes until it is done; `None` when the owner
    /// is gone meanwhile.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            match self.wait(|cx| future.as_mut().poll(cx)).await {
                Wake::Done(done) => return Some(done),
                Wake::Gone => return None,
                // There is no watch to ask about.
                Wake::Progress => {}
            }
        }
    }

    /// Waits for something, or for what its owner wants of the mirror; serves the reader meanwhile.
    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>,
    ) -> Wake<T> {
        std::future::poll_fn(|cx| {
            while let Poll::Ready(command) = self.commands.poll_recv(cx) {
                match command {
                    None => return Poll::Ready(Wake::Gone),
                    Some(Command::Progress) => return Poll::Ready(Wake::Progress),
                    Some(Command::Read) => {
                        self.teller.read();
                        self.look = None;
                    }
                }
            }
            if let Poll::Ready(done) = poll(cx) {
                return Poll::Ready(Wake::Done(done));
            }
            self.look_at_reader(cx);
            Poll::Pending
        })
        .await
    }

    /// Looks at a queue that was full, when it is time.
    fn look_at_reader(&mut self, cx: &mut std::task::Context<'_>) {
        while let Some(pause) = self.teller.next_look() {
            let look = self
                .look
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if look.as_mut().poll(cx).is_pending() {
                return;
            }
            self.look = None;
            self.teller.look();
        }
        self.look = None;
    }
}

/// What a mirror waited for.
enum Wake<T> {
    Done(T),
    /// The owner wants to know how far the watch is.
    Progress,
    /// The owner is gone.
    Gone,
}

/// The reason of a mirror whose watch has no server.
fn cut_off() -> Error {
    let reason = "the watch is cut off from etcd; it resumes as soon as a member answers";
    Error::new(ErrorKind::Unavailable, reason)
}

/// Whether trying again is pointless: only the end of the client, or of its runtime, ends a mirror.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Panicked)
}

//! Task of a mirror: lists, watches, and lists again when the watch ends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use super::change_queue::MirrorChangeQueue;
use super::contents::Snapshot;
use super::free::free_later;
use super::handle::{Mirror, MirrorRequest, Shared};
use super::list::{List, Lister};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::Transport;
use crate::rpc::namespace::Namespace;
use crate::rpc::watch::{TaskWatcher, TaskWatcherItem, Watch, WatchRegistry};
use crate::runtime::{Bridge, Capacity, CurrentRuntime, Spawn, bounded_queue};
use crate::types::key_range::KeyRange;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// Bounds of the queue of changes; what does not fit becomes one `Reset`.
const QUEUE: Capacity = Capacity {
    items: 4096,
    bytes: 16 << 20,
};

/// Backoff after a failed list or a refused watch. It is counted from the beginning of a list, so that a list
/// that was not answered until its timeout is repeated at once.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// What a mirror is opened with.
#[derive(Debug)]
pub(crate) struct MirrorSettings {
    pub(crate) range: KeyRange,
    pub(crate) namespace: Option<Namespace>,
    /// The timeout of the first list.
    pub(crate) timeout: Duration,
}

/// Opens a mirror. The result arrives when the first list is complete.
pub(crate) fn open(
    bridge: &Bridge,
    transport: Arc<Transport>,
    registry: Arc<WatchRegistry>,
    settings: MirrorSettings,
) -> impl Future<Output = Result<Mirror>> + Send + 'static {
    let about = Operation::about("mirror", &settings.range);
    let begun = begin(bridge, transport, registry, settings);
    async move {
        let opened = async {
            let (mirror, first) = begun?;
            first.await.unwrap_or_else(|_| Err(Error::closed()))?;
            Ok(mirror)
        };
        opened.await.map_err(|error: Error| error.operation(about))
    }
}

/// Opens a mirror that has no list yet. It is stale, with the revision 0, until etcd answers. Does not block.
pub(crate) fn open_unlisted(
    bridge: &Bridge,
    transport: Arc<Transport>,
    registry: Arc<WatchRegistry>,
    settings: MirrorSettings,
) -> Result<Mirror> {
    let about = Operation::about("mirror", &settings.range);
    let prepared = prepare(transport, registry, settings);
    let (mirror, task) = prepared.map_err(|error| error.operation(about))?;
    bridge.spawn(Box::pin(task.run_unlisted()))?;
    Ok(mirror)
}

/// Starts the task of a mirror. The receiver is told of the first list.
fn begin(
    bridge: &Bridge,
    transport: Arc<Transport>,
    registry: Arc<WatchRegistry>,
    settings: MirrorSettings,
) -> Result<(Mirror, oneshot::Receiver<Result<()>>)> {
    let (mirror, task) = prepare(transport, registry, settings)?;
    let (listed, first) = oneshot::channel();
    // On an error the mirror is dropped, which ends the task.
    bridge.spawn(Box::pin(task.run(listed)))?;
    Ok((mirror, first))
}

fn prepare(
    transport: Arc<Transport>,
    registry: Arc<WatchRegistry>,
    settings: MirrorSettings,
) -> Result<(Mirror, Task)> {
    let MirrorSettings {
        range,
        namespace,
        timeout,
    } = settings;
    if let Some(problem) = range.problem() {
        return Err(Error::invalid(problem));
    }
    let (bounded_sender, changes) = bounded_queue(QUEUE, Err);
    transport.telemetry().watch_queue(bounded_sender.queue());
    let shared = Arc::new(Shared::default());
    let mirror = Mirror {
        range: range.clone(),
        shared: Arc::clone(&shared),
        store: Arc::clone(transport.store()),
        changes,
    };
    let task = Task {
        lister: Lister {
            transport,
            range,
            namespace,
            timeout,
        },
        registry,
        changes: MirrorChangeQueue::new(bounded_sender, Arc::clone(&shared)),
        end_on_drop: EndOnDrop(Arc::clone(&shared)),
        shared,
        poll_timer: None,
    };
    Ok((mirror, task))
}

struct Task {
    lister: Lister,
    registry: Arc<WatchRegistry>,
    changes: MirrorChangeQueue,
    shared: Arc<Shared>,
    /// Held for its destructor.
    #[expect(
        dead_code,
        reason = "its destructor wakes waiters when the runtime drops the task"
    )]
    end_on_drop: EndOnDrop,
    /// Timer of the next poll for room in the queue of changes.
    poll_timer: Option<std::pin::Pin<Box<Sleep>>>,
}

/// Guard that wakes waiters when the task ends.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Error::abandoned());
    }
}

/// The end of a watch.
struct WatchEnd {
    why: Error,
    /// Whether the server had created the watch.
    created: bool,
}

impl Task {
    async fn run(mut self, listed: oneshot::Sender<Result<()>>) {
        let give_up = Instant::now() + self.lister.timeout;
        // Boxed, because lists are rare, and the task would hold the room for one for its whole life.
        match Box::pin(self.lister.list(Some(give_up))).await {
            Ok(list) => self.apply_list(list).await,
            Err(error) => return drop(listed.send(Err(error))),
        }
        let ended = self.follow(Some(listed)).await;
        self.end(ended);
    }

    /// Lists until a list succeeds, and watches.
    async fn run_unlisted(mut self) {
        let reason = "etcd has not answered since the mirror was opened";
        self.changes
            .set_stale(Error::new(ErrorKind::Unavailable, reason));
        let ended = match self.list_until_success().await {
            Some(Ok(list)) => {
                self.apply_list(list).await;
                self.follow(None).await
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.end(ended);
    }

    /// Ends the mirror, with an error or because its handle was dropped.
    fn end(self, why: Option<Error>) {
        let is_dropped = why.is_none();
        self.changes.end(why).into_iter().for_each(free_later);
        if is_dropped {
            let contents = self.shared.replace(Snapshot::default(), 0);
            free_later(contents.into_remains());
        }
    }

    /// Watches, and lists again whenever the watch ends. Returns the error that ends the mirror, or `None`
    /// when the handle was dropped.
    async fn follow(&mut self, mut opening: Option<oneshot::Sender<Result<()>>>) -> Option<Error> {
        let mut backoff = RETRY;
        loop {
            let (revision, epoch) = self.shared.position();
            let mut watch = Watch::range(self.lister.range.clone());
            watch = watch.after(revision).of_epoch(epoch);
            if let Some(namespace) = &self.lister.namespace {
                watch = watch.within(namespace);
            }
            let mut watcher = match self.registry.open_for_task(&CurrentRuntime, watch) {
                Ok(watcher) => watcher,
                Err(error) => return Some(error),
            };
            let refused = match opening.take() {
                Some(opening) => self.opened(&mut watcher, opening).await,
                None => None,
            };
            let ended = match refused {
                Some(why) => WatchEnd {
                    why,
                    created: false,
                },
                None => self.watch(&mut watcher).await?,
            };
            if is_final(&ended.why) {
                return Some(ended.why);
            }
            drop(watcher);
            self.changes.set_stale(ended.why);
            if ended.created {
                backoff.reset();
            } else {
                let pause = tokio::time::sleep(backoff.next(jitter::fraction()));
                self.run_while_serving(pause).await?;
            }
            match self.list_until_success().await? {
                Ok(list) => self.apply_list(list).await,
                Err(error) => return Some(error),
            }
        }
    }

    async fn apply_list(&mut self, list: List) {
        self.changes.reset(list);
        while self.changes.is_resetting() {
            self.changes.step();
            yield_now().await;
        }
        self.changes.take_unneeded().for_each(free_later);
    }

    /// Completes `open` when the watch is created, or after the timeout, since the list is complete. Returns
    /// the error if the watch was refused.
    async fn opened(
        &mut self,
        watcher: &mut TaskWatcher,
        opening: oneshot::Sender<Result<()>>,
    ) -> Option<Error> {
        let mut refused = None;
        match tokio::time::timeout(self.lister.timeout, watcher.recv()).await {
            Ok(TaskWatcherItem::Up) => {}
            Ok(TaskWatcherItem::Response(Ok(response))) => self.changes.apply(&response),
            Ok(TaskWatcherItem::Response(Err(error))) => refused = Some(error),
            Ok(TaskWatcherItem::Down) | Err(_) => self.changes.set_stale(disconnected()),
        }
        // A caller that no longer waits has dropped the handle.
        let _ = opening.send(Ok(()));
        refused
    }

    /// Applies the responses of the watch until it ends; `None` when the handle was dropped.
    async fn watch(&mut self, watcher: &mut TaskWatcher) -> Option<WatchEnd> {
        let mut created = false;
        loop {
            let woken = self.wait(|cx| watcher.poll_recv(cx)).await;
            match woken {
                Wake::Gone => return None,
                Wake::Progress => watcher.request_progress(),
                Wake::List(why) => return Some(WatchEnd { why, created: true }),
                Wake::Done(TaskWatcherItem::Down) if self.changes.is_stale() => {}
                Wake::Done(TaskWatcherItem::Down) => self.changes.set_stale(disconnected()),
                Wake::Done(TaskWatcherItem::Up) => {
                    created = true;
                    self.changes.set_live();
                }
                Wake::Done(TaskWatcherItem::Response(Err(why))) => {
                    return Some(WatchEnd { why, created });
                }
                Wake::Done(TaskWatcherItem::Response(Ok(response))) => {
                    created = true;
                    self.changes.apply(&response);
                }
            }
        }
    }

    /// Lists until a list succeeds; `None` when the handle was dropped.
    async fn list_until_success(&mut self) -> Option<Result<List>> {
        let mut backoff = RETRY;
        loop {
            let (lister, begun) = (self.lister.clone(), Instant::now());
            match self.run_while_serving(Box::pin(lister.list(None))).await? {
                Err(error) if !is_final(&error) => {
                    self.changes.set_stale(error);
                    let next = begun + backoff.next(jitter::fraction());
                    self.run_while_serving(sleep_until(next.into())).await?;
                }
                settled => return Some(settled),
            }
        }
    }

    /// Awaits a future, and serves the reader of the changes until it completes; `None` when the handle was
    /// dropped.
    async fn run_while_serving<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            match self.wait(|cx| future.as_mut().poll(cx)).await {
                Wake::Done(done) => return Some(done),
                Wake::Gone => return None,
                // There is no watch whose progress could be requested, and a list is under way.
                Wake::Progress | Wake::List(_) => {}
            }
        }
    }

    /// Waits until `poll` is ready or a command arrives, and serves the reader of the changes until then.
    async fn wait<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Wake<T> {
        std::future::poll_fn(|cx| {
            if self.changes.is_resetting() {
                if self.shared.is_dropped() {
                    return Poll::Ready(Wake::Gone);
                }
                self.changes.step();
            }
            // The caller may change the contents after this returns, so the `Reset` is queued first.
            if self.changes.is_resetting() {
                return yield_once(cx);
            }
            self.changes.take_unneeded().for_each(free_later);
            while let Poll::Ready(request) = self.shared.poll_request(cx) {
                match request {
                    MirrorRequest::Drop => return Poll::Ready(Wake::Gone),
                    MirrorRequest::Progress => return Poll::Ready(Wake::Progress),
                    MirrorRequest::List(why) => return Poll::Ready(Wake::List(why)),
                    MirrorRequest::Read => {
                        self.changes.read();
                        self.poll_timer = None;
                        if self.changes.is_resetting() {
                            return yield_once(cx);
                        }
                    }
                }
            }
            if let Poll::Ready(done) = poll(cx) {
                return Poll::Ready(Wake::Done(done));
            }
            self.poll_reader(cx);
            self.changes.take_unneeded().for_each(free_later);
            if self.changes.is_resetting() {
                return yield_once(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// Polls a full queue for room when its timer has elapsed.
    fn poll_reader(&mut self, cx: &mut Context<'_>) {
        while let Some(pause) = self.changes.next_poll() {
            let timer = self
                .poll_timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.poll_timer = None;
            self.changes.poll();
        }
        self.poll_timer = None;
    }
}

/// Wakes the task after the runtime has polled its sockets and other tasks.
fn yield_once<T>(cx: &mut Context<'_>) -> Poll<T> {
    // The first poll is always pending, and registers the waker.
    let _ = pin!(yield_now()).poll(cx);
    Poll::Pending
}

/// Result of [`Task::wait`].
enum Wake<T> {
    Done(T),
    /// The handle requests the progress of the watch.
    Progress,
    /// The handle requests a list, because the contents are wrong for this reason.
    List(Error),
    /// The handle was dropped.
    Gone,
}

/// The reason of staleness while the watch is disconnected.
fn disconnected() -> Error {
    let reason = "the watch is disconnected from etcd; it resumes as soon as a member answers";
    Error::new(ErrorKind::Unavailable, reason)
}

/// Returns whether the error ends the mirror: only the end of the client or of its runtime does.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Panicked)
}

//! The life of a mirror on the runtime: list, watch, and begin again when history is gone.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::handle::{Command, Mirror, Shared};
use super::teller::Teller;
use crate::backoff::Backoff;
use crate::chance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::KeyRange;
use crate::kv::{Chunks, Ended, Get, Paging, Trust};
use crate::namespace::Namespace;
use crate::observe::Underway;
use crate::request;
use crate::request::sealed::Exchange as _;
use crate::rt::{Bridge, Here, Outlet, Room, Spawn};
use crate::transport::Transport;
use crate::types::{KeyValue, Revision};
use crate::watch::{Hub, Note, Notes, Watch};

/// Keys in one answer of a list.
const PAGE: u32 = 1000;

/// Events that may wait for a slow reader; more become one `Reset`.
const QUEUE: Room = Room {
    items: 1024,
    bytes: 16 << 20,
};

/// How often to look whether a slow reader has caught up.
const LOOK: Duration = Duration::from_millis(20);

/// The wait between lists that fail. A list itself takes its time to give up.
const BETWEEN_LISTS: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// A list at one revision that is compacted before its last page begins anew; so often at once.
const LIST_TRIES: u32 = 3;

/// Opens a mirror. Blocks until the first list is there.
pub(crate) fn open(
    bridge: &Bridge,
    transport: Arc<Transport>,
    hub: Arc<Hub>,
    range: KeyRange,
    namespace: Option<Namespace>,
    timeout: Duration,
) -> Result<Mirror> {
    let about = Operation::about("mirror", &range);
    if let Some(problem) = range.problem() {
        return Err(Error::invalid(problem).operation(about));
    }
    let (outlet, changes) = Outlet::new(QUEUE, || Some(Err(Error::abandoned())));
    transport.observer().watch_queue(outlet.queue());
    let (commands, queue) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let (listed, first) = oneshot::channel();
    let task = Task {
        transport,
        hub,
        range: range.clone(),
        namespace,
        timeout,
        teller: Teller::new(outlet, Arc::clone(&shared)),
        ending: Ending(Arc::clone(&shared)),
        shared: Arc::clone(&shared),
        commands: queue,
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
    transport: Arc<Transport>,
    hub: Arc<Hub>,
    range: KeyRange,
    namespace: Option<Namespace>,
    timeout: Duration,
    teller: Teller,
    shared: Arc<Shared>,
    /// Only for its drop.
    #[expect(
        dead_code,
        reason = "it tells waiters why, when the runtime drops the task"
    )]
    ending: Ending,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// Tells those who wait for a revision that the task is gone.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Error::abandoned());
    }
}

/// What a mirror waits for.
enum Wake {
    Note(Note),
    Command(Option<Command>),
    Look,
}

impl Task {
    async fn run(mut self, listed: oneshot::Sender<Result<()>>) {
        match self.list().await {
            Ok((list, revision)) => self.teller.reset(list, revision),
            Err(error) => return drop(listed.send(Err(error))),
        }
        let ended = self.follow(Some(listed)).await;
        self.teller.end(ended);
    }

    /// Watches, and lists again whenever the watch ends. It returns why the mirror cannot go on, or
    /// nothing when its owner let go of it.
    async fn follow(&mut self, mut opening: Option<oneshot::Sender<Result<()>>>) -> Option<Error> {
        loop {
            let mut watch = Watch::range(self.range.clone()).after(self.shared.revision());
            if let Some(namespace) = &self.namespace {
                watch = watch.within(namespace);
            }
            let mut notes = match self.hub.open_for_task(&Here, watch) {
                Ok(notes) => notes,
                Err(error) => return Some(error),
            };
            if let Some(opening) = opening.take() {
                self.opened(&mut notes, opening).await;
            }
            let ended = self.watch(&mut notes).await?;
            if is_final(&ended) {
                return Some(ended);
            }
            self.set_stale(true);
            match self.list_for_ever().await? {
                Ok((list, revision)) => self.teller.reset(list, revision),
                Err(error) => return Some(error),
            }
        }
    }

    /// Lets the owner go on when the mirror follows, or when that takes too long: it has its list.
    async fn opened(&mut self, notes: &mut Notes, opening: oneshot::Sender<Result<()>>) {
        match tokio::time::timeout(self.timeout, notes.recv()).await {
            Ok(Note::Up) => {}
            Ok(Note::Item(Ok(response))) => self.teller.apply(&response),
            Ok(Note::Down | Note::Item(Err(_))) | Err(_) => self.set_stale(true),
        }
        // An owner that gave up waiting has dropped the commands too.
        let _ = opening.send(Ok(()));
    }

    /// Applies what the watch brings until it ends; `None` when the owner is gone.
    async fn watch(&mut self, notes: &mut Notes) -> Option<Error> {
        loop {
            let look = self.teller.is_behind();
            match wake(notes, &mut self.commands, look).await {
                Wake::Command(None) => return None,
                Wake::Command(Some(Command::Progress)) => notes.request_progress(),
                Wake::Look => self.teller.catch_up(),
                Wake::Note(Note::Down) => self.set_stale(true),
                Wake::Note(Note::Up) => self.set_stale(false),
                Wake::Note(Note::Item(Err(error))) => return Some(error),
                Wake::Note(Note::Item(Ok(response))) => self.teller.apply(&response),
            }
        }
    }

    fn set_stale(&mut self, stale: bool) {
        self.teller.set_stale(stale.then(Instant::now));
    }

    /// Lists until it works; `None` when the owner is gone meanwhile.
    async fn list_for_ever(&mut self) -> Option<Result<(Vec<KeyValue>, Revision)>> {
        let mut backoff = BETWEEN_LISTS;
        loop {
            match self.list().await {
                Err(error) if !is_final(&error) => {
                    tokio::time::sleep(backoff.next(chance::fraction())).await;
                    if self.commands.is_closed() {
                        return None;
                    }
                }
                settled => return Some(settled),
            }
        }
    }

    /// The range, all of it as of one revision.
    async fn list(&mut self) -> Result<(Vec<KeyValue>, Revision)> {
        let mut tries = 1;
        'anew: loop {
            let mut paging = Paging::new(Get::range(self.range.clone()), PAGE)?;
            let mut list = Vec::new();
            let mut trust = Trust::default();
            while let Some(get) = paging.next() {
                let transport = Arc::clone(&self.transport);
                let call = Underway::begin(transport.observer(), get.verb(), || get.operation());
                let namespace = self.namespace.as_ref();
                let exchange = request::exchange(get, namespace, transport, self.timeout);
                match request::run(call, Box::pin(exchange)).await {
                    Ok(page) => list.extend(paging.take(page)),
                    Err(error) if error.kind() == ErrorKind::Compacted && tries < LIST_TRIES => {
                        tries += 1;
                        continue 'anew;
                    }
                    Err(error) => return Err(error),
                }
                if let Some(rest) = paging.stream().filter(|_| trust.holds())
                    && let Err(ended) = self.stream(rest, &mut paging, &mut list, &mut trust).await
                {
                    trust.ended(ended);
                }
            }
            return Ok((list, paging.revision().unwrap_or_default()));
        }
    }

    /// What is left of a list by a stream, as far as it goes.
    async fn stream(
        &self,
        rest: Get,
        paging: &mut Paging,
        list: &mut Vec<KeyValue>,
        trust: &mut Trust,
    ) -> Result<(), Ended> {
        let (transport, namespace) = (Arc::clone(&self.transport), self.namespace.clone());
        let mut chunks = Chunks::open(transport, rest, namespace, self.timeout).await?;
        while let Some(chunk) = chunks.next().await? {
            if !chunk.is_empty() {
                trust.worked();
                paging.advance(&chunk, true);
                list.extend(chunk);
            }
        }
        paging.advance(&[], false);
        Ok(())
    }
}

/// The next thing that happens.
async fn wake(
    notes: &mut Notes,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    look: bool,
) -> Wake {
    let mut tick = std::pin::pin!(tokio::time::sleep(if look {
        LOOK
    } else {
        Duration::from_secs(3600)
    }));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(command) = commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        if let Poll::Ready(note) = notes.poll_recv(cx) {
            return Poll::Ready(Wake::Note(note));
        }
        if look {
            tick.as_mut().poll(cx).map(|()| Wake::Look)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Whether trying again is pointless.
fn is_final(error: &Error) -> bool {
    use ErrorKind::{
        Closed, InvalidArgument, Panicked, PermissionDenied, Unauthenticated, Unimplemented,
    };

    let kind = error.kind();
    matches!(
        kind,
        Closed | Panicked | PermissionDenied | Unauthenticated | InvalidArgument | Unimplemented
    )
}

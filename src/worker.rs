//! One thread that serves the registrations, views and observers of a client.
//!
//! Each of them is a *part*: a state machine that never blocks. A part gives its waker to the sources
//! that it waits for. A source with an item wakes only that part, so the cost of an event does not
//! depend on the number of parts.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::util::atomic::{AtomicBool, Ordering::SeqCst};
use crate::util::sync::thread::{self, JoinHandle};

/// How many items of one source a part processes before the other parts run, so that a busy source
/// does not block them.
pub(crate) const AT_ONCE: usize = 256;

/// A state machine that the worker runs.
pub(crate) trait Part: Send {
    /// Does the work that is due, without blocking, and returns when the next work is due. `None`
    /// ends the part.
    fn work(&mut self, now: Instant) -> Option<NextWork>;

    /// Reports the error to the users of the part, after it panicked.
    fn failed(&mut self, error: &Error);

    /// Gives the waker to all sources that the part waits for. It is called after each `work`; a source
    /// that still has an item wakes the part again.
    fn wait(&self, waker: &Waker);

    /// Adds the full channels for which the part waits: it continues when their reader takes an item. A
    /// crossbeam channel cannot wake a waker then.
    fn wait_for_room<'a>(&'a self, _select: &mut Select<'a>) {}

    /// Whether [`wait_for_room`](Part::wait_for_room) adds any channel.
    fn is_full(&self) -> bool {
        false
    }
}

/// The time at which a part runs again if no source wakes it earlier; `None` for no such time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextWork(pub(crate) Option<Instant>);

/// The worker of a client. It ends when its last handle is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    inbox: Arc<Inbox>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// The handle of a part. Dropping it ends the part.
#[derive(Debug)]
pub(crate) struct PartHandle {
    // Declared first, so that it is dropped first: the worker ends after its parts.
    part: DropEndsPart,
    _worker: Arc<Worker>,
}

#[derive(Debug)]
struct DropEndsPart(Arc<PartWaker>);

/// The messages of the other threads to the worker.
#[derive(Debug)]
struct Inbox {
    messages: Mutex<Messages>,
    /// Notified of messages while the thread waits for nothing else. A channel spins before it sleeps.
    changed: Condvar,
    /// Gets a token for messages while the thread selects on full channels.
    signal: Sender<()>,
}

#[derive(Default)]
struct Messages {
    added: Vec<(Arc<PartWaker>, Box<dyn Part>)>,
    woken: Vec<u64>,
    next_id: u64,
    closed: bool,
    /// The thread selects on full channels.
    is_selecting: bool,
}

/// Wakes one part.
#[derive(Debug)]
struct PartWaker {
    id: u64,
    inbox: Arc<Inbox>,
    /// The id is in `woken` of the messages.
    woken: AtomicBool,
    /// The handle was dropped.
    dropped: AtomicBool,
}

/// How long dropping the last handle waits for the thread.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The maximum number of full channels in one select. Each of them costs time at every event, so
/// more of them are checked at intervals.
const MAX_FULL: usize = 32;

/// The interval of these checks.
const FULL_INTERVAL: Duration = Duration::from_millis(100);

impl Worker {
    /// Returns the worker of this client: all its registrars, views and observers share one.
    pub(crate) fn of(client: &Client) -> Result<Arc<Worker>> {
        client.attached(Worker::start)
    }

    fn start() -> Result<Worker> {
        let (signal, signalled) = bounded(1);
        let (alive, ended) = bounded(0);
        let inbox = Arc::new(Inbox {
            messages: Mutex::default(),
            changed: Condvar::new(),
            signal,
        });
        let thread = WorkerThread {
            inbox: Arc::clone(&inbox),
            signalled,
            parts: HashMap::new(),
            due: BTreeSet::new(),
            full: BTreeSet::new(),
            next_look: None,
        };
        let thread = thread::Builder::new()
            .name("etcd-discovery".into())
            .spawn(move || {
                thread.run();
                drop(alive);
            })
            .map_err(|error| {
                let reason = format!("cannot start the worker thread: {error}");
                Error::new(ErrorKind::Os, reason).caused_by(error)
            })?;
        Ok(Worker {
            inbox,
            ended,
            thread: Some(thread),
        })
    }

    /// Runs a part until its handle is dropped, or until it ends.
    pub(crate) fn serve(self: &Arc<Self>, part: Box<dyn Part>) -> PartHandle {
        let waker = self.inbox.send(|messages| {
            messages.next_id += 1;
            let waker = Arc::new(PartWaker {
                id: messages.next_id,
                inbox: Arc::clone(&self.inbox),
                woken: AtomicBool::new(true),
                dropped: AtomicBool::new(false),
            });
            messages.added.push((Arc::clone(&waker), part));
            messages.woken.push(waker.id);
            waker
        });
        PartHandle {
            part: DropEndsPart(waker),
            _worker: Arc::clone(self),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.inbox.send(|messages| messages.closed = true);
        let ended = self.ended.recv_timeout(END_WITHIN);
        let gone = ended == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
        if let (true, Some(thread)) = (gone, self.thread.take()) {
            // The panic hook has printed the panic.
            let _ = thread.join();
        }
    }
}

impl PartHandle {
    /// Makes the part work soon.
    pub(crate) fn wake(&self) {
        self.part.0.wake_by_ref();
    }

    /// Returns a waker of the part, which does not keep the part.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.part.0))
    }
}

impl Drop for DropEndsPart {
    fn drop(&mut self) {
        self.0.dropped.store(true, SeqCst);
        self.0.wake_by_ref();
    }
}

impl Wake for PartWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, SeqCst) {
            self.inbox.send(|messages| messages.woken.push(self.id));
        }
    }
}

impl Inbox {
    /// Changes the messages, and wakes the thread.
    fn send<T>(&self, change: impl FnOnce(&mut Messages) -> T) -> T {
        let mut messages = self.messages.lock();
        let result = change(&mut messages);
        let is_selecting = messages.is_selecting;
        drop(messages);
        if is_selecting {
            // A full channel already holds a token.
            let _ = self.signal.try_send(());
        } else {
            self.changed.notify_one();
        }
        result
    }
}

impl Messages {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.woken.is_empty() && !self.closed
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages")
            .field("added", &self.added.len())
            .field("woken", &self.woken.len())
            .field("closed", &self.closed)
            .finish()
    }
}

struct WorkerThread {
    inbox: Arc<Inbox>,
    signalled: Receiver<()>,
    parts: HashMap<u64, RunningPart>,
    /// The parts that run at a certain time.
    due: BTreeSet<(Instant, u64)>,
    /// The parts that wait for room in a channel.
    full: BTreeSet<u64>,
    /// The time of the next check of the full channels. `None` while they are few.
    next_look: Option<Instant>,
}

struct RunningPart {
    part: Box<dyn Part>,
    part_waker: Arc<PartWaker>,
    waker: Waker,
    due: Option<Instant>,
}

impl WorkerThread {
    fn run(mut self) {
        loop {
            let mut woken = {
                let mut messages = self.inbox.messages.lock();
                for (part_waker, part) in messages.added.drain(..) {
                    let running = RunningPart {
                        part,
                        waker: Waker::from(Arc::clone(&part_waker)),
                        part_waker,
                        due: None,
                    };
                    self.parts.insert(running.part_waker.id, running);
                }
                if messages.closed {
                    return;
                }
                std::mem::take(&mut messages.woken)
            };
            let now = Instant::now();
            let due = self.due.iter().take_while(|(at, _)| *at <= now);
            woken.extend(due.map(|(_, id)| *id));
            for id in woken {
                self.work(id, now);
            }
            self.sleep();
        }
    }

    fn work(&mut self, id: u64, now: Instant) {
        let Some(running) = self.parts.get_mut(&id) else {
            return;
        };
        if let Some(due) = running.due.take() {
            self.due.remove(&(due, id));
        }
        // Before the work, so that a source that wakes the part meanwhile makes it work again.
        running.part_waker.woken.store(false, SeqCst);
        let next = match running.part_waker.dropped.load(SeqCst) {
            true => None,
            false => running.work(now),
        };
        match next {
            None => {
                self.full.remove(&id);
                if let Some(ended) = self.parts.remove(&id) {
                    // A drop that panics must not end the other parts.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
                }
            }
            Some(NextWork(due)) => {
                running.due = due;
                self.due.extend(due.map(|due| (due, id)));
                match running.part.is_full() {
                    true => self.full.insert(id),
                    false => self.full.remove(&id),
                };
            }
        }
    }

    /// Sleeps until a part is woken or due, or a full channel has room.
    fn sleep(&mut self) {
        self.next_look = match self.full.len() > MAX_FULL {
            true => self
                .next_look
                .or_else(|| Some(Instant::now() + FULL_INTERVAL)),
            false => None,
        };
        let due = self.due.first().map(|(at, _)| *at);
        let until = due.into_iter().chain(self.next_look).min();
        if self.full.is_empty() || self.next_look.is_some() {
            self.wait_for_messages(until);
            let now = Instant::now();
            if self.next_look.take_if(|at| *at <= now).is_some() {
                self.wake_full();
            }
        } else if self.wait_for_room(until) {
            self.wake_full();
        }
    }

    /// Waits until there are messages, or the time is over.
    fn wait_for_messages(&self, until: Option<Instant>) {
        let mut messages = self.inbox.messages.lock();
        while messages.is_empty() {
            match until {
                Some(until) => {
                    if self
                        .inbox
                        .changed
                        .wait_until(&mut messages, until)
                        .timed_out()
                    {
                        return;
                    }
                }
                None => self.inbox.changed.wait(&mut messages),
            }
        }
    }

    /// Waits until a part is woken or the time is over. Returns `true` when a full channel has room
    /// earlier.
    fn wait_for_room(&self, until: Option<Instant>) -> bool {
        {
            let mut messages = self.inbox.messages.lock();
            if !messages.is_empty() {
                return false;
            }
            messages.is_selecting = true;
        }
        let mut select = Select::new();
        select.recv(&self.signalled);
        for running in self.full.iter().filter_map(|id| self.parts.get(id)) {
            running.part.wait_for_room(&mut select);
        }
        let ready = match until {
            Some(until) => select.ready_deadline(until).ok(),
            None => Some(select.ready()),
        };
        self.inbox.messages.lock().is_selecting = false;
        // A token that arrives later wakes the next select for nothing.
        let _ = self.signalled.try_recv();
        ready.is_some_and(|index| index > 0)
    }

    /// Wakes all parts with full channels. It is not known which channel has room.
    fn wake_full(&self) {
        for running in self.full.iter().filter_map(|id| self.parts.get(id)) {
            running.part_waker.wake_by_ref();
        }
    }
}

impl RunningPart {
    /// Runs the part. A part that panics ends, and its users get the error; the other parts continue.
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        let RunningPart { part, waker, .. } = self;
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let next = part.work(now)?;
            part.wait(waker);
            Some(next)
        }));
        worked.unwrap_or_else(|_| {
            // The panic hook has printed the panic. If `failed` panics as well, the users of the part
            // notice its drop.
            let failed = catch_unwind(AssertUnwindSafe(|| part.failed(&Error::panicked())));
            drop(failed);
            None
        })
    }
}

#[cfg(test)]
mod tests;

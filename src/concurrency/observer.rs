//! The observer of an election: reports each new leader from a mirror of the candidates.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded};

use super::candidates::Candidates;
use super::session::Session;
use crate::error::{Error, Result};
use crate::replica::mirror::Mirror;
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;
use crate::util::receive::receive_methods;
use crate::worker::{AT_ONCE, NextWork, Part, PartHandle, Worker};

/// The number of leaders that wait for a slow reader.
const CAPACITY: usize = 128;

/// The leaders of an election, received as a channel. [`Election::observe`](super::Election::observe)
/// creates it.
///
/// The first item is the current leader, or `None` if there is none. One item follows for each change:
/// another leader, another value of the leader, or no leader. When more than 128 items wait for the
/// reader, older items are dropped; the newest one always arrives.
///
/// Outages, changes of members and compactions do not end an observer. While the keys may not be read,
/// it reports nothing, and continues once they may. An `Err` is the last item; it is sent when the
/// client is closed.
///
/// Dropping the observer ends it, without blocking.
///
/// ```no_run
/// # use etcd_blocking::Client;
/// # use etcd_blocking::concurrency::{Election, Session};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// # let session = Session::builder(&client).start()?;
/// let observer = Election::new(&session, "elections/scheduler").observe()?;
/// for leader in observer.receiver() {
///     match leader? {
///         Some(kv) => println!("{:?} leads, since {}", kv.value_str(), kv.create_revision()),
///         None => println!("there is no leader"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping an observer ends it"]
pub struct Observer {
    leaders: Receiver<Result<Option<KeyValue>>>,
    ended: Arc<OnceLock<Error>>,
    _part: PartHandle,
}

impl Observer {
    pub(super) fn start(session: &Session, candidates: KeyRange) -> Result<Observer> {
        let mirror = session.client().mirror(candidates)?;
        let worker = Worker::of(session.client())?;
        let (sender, leaders) = bounded(CAPACITY);
        let ended = Arc::default();
        let part = worker.serve(Box::new(ObserverTask {
            mirror,
            sender,
            waiting: VecDeque::new(),
            candidates: Candidates::default(),
            ended: Arc::clone(&ended),
        }));
        Ok(Observer {
            leaders,
            ended,
            _part: part,
        })
    }

    /// Returns the channel of leaders, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<Option<KeyValue>>> {
        &self.leaders
    }

    /// Returns the error of the last item: the client was closed. `None` before the last item. It does not
    /// block.
    pub fn ended(&self) -> Option<Error> {
        self.ended.get().cloned()
    }
}

receive_methods!(Observer, Result<Option<KeyValue>>);

/// One observer, on the worker of its client.
struct ObserverTask {
    mirror: Mirror,
    sender: Sender<Result<Option<KeyValue>>>,
    /// Items that do not fit into the channel.
    waiting: VecDeque<Result<Option<KeyValue>>>,
    candidates: Candidates,
    ended: Arc<OnceLock<Error>>,
}

impl ObserverTask {
    fn push(&mut self, item: Result<Option<KeyValue>>) {
        // The newest leader must arrive, so the oldest item is dropped.
        if self.waiting.len() >= CAPACITY {
            self.waiting.pop_front();
        }
        self.waiting.push_back(item);
    }

    fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    fn end(&mut self, error: Error) {
        if self.ended.set(error.clone()).is_ok() {
            self.push(Err(error));
        }
    }

    fn follow(&mut self) {
        for _ in 0..AT_ONCE {
            match self.mirror.try_next() {
                Ok(Ok(event)) => {
                    for leader in self.candidates.on(event) {
                        self.push(Ok(leader));
                    }
                }
                Ok(Err(error)) => return self.end(error),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.end(Error::abandoned()),
            }
        }
    }
}

impl Part for ObserverTask {
    fn work(&mut self, _: Instant) -> Option<NextWork> {
        if !self.has_ended() {
            self.follow();
        }
        while let Some(item) = self.waiting.pop_front() {
            match self.sender.try_send(item) {
                Ok(()) => {}
                // `wait` selects on room in the channel.
                Err(TrySendError::Full(item)) => {
                    self.waiting.push_front(item);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return None,
            }
        }
        match self.has_ended() && self.waiting.is_empty() {
            true => None,
            false => Some(NextWork(None)),
        }
    }

    fn failed(&mut self, error: &Error) {
        self.ended.get_or_init(|| error.clone());
        // Without room, the reader sees only the end of the channel.
        let _ = self.sender.try_send(Err(error.clone()));
    }

    fn wait(&self, waker: &Waker) {
        if !self.has_ended() {
            self.mirror.wake_when_ready(waker);
        }
    }

    fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        if self.is_full() {
            select.send(&self.sender);
        }
    }

    fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }
}

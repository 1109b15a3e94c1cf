//! Following an election: a mirror of the candidates, told as a flow of leaders.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded};

use super::candidates::Candidates;
use super::session::Session;
use crate::error::{Error, Result};
use crate::replica::mirror::Mirror;
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;
use crate::util::receive::receive_methods;
use crate::worker::{AT_ONCE, Next, Part, Worker};

/// So many leaders wait for a reader; one who is slower misses some, and never the last.
const ROOM: usize = 128;

/// Who leads an election, from now on. Made by [`Election::observe`](super::Election::observe).
///
/// The first item is there at once: the leader, or `None` when nobody leads. Then one for each
/// change: another leader, another value that the leader proclaimed, nobody. An observer sees every
/// proclamation that it has time to see: when more than 128 items wait, the oldest of those that
/// came since are left out, and the newest one always arrives.
///
/// Connections, members and history may come and go meanwhile. An `Err` is the last item, and says
/// why nothing more can be observed: the client was closed. While it may not read the keys, nothing is told;
/// it goes on by itself once it may.
///
/// Dropping it ends it, without blocking.
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
///         None => println!("nobody leads"),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "an observer that is dropped sees nothing"]
pub struct Observer {
    leaders: Receiver<Result<Option<KeyValue>>>,
    // Carries nothing: it ends with the observer. Before the worker, which waits for its parts.
    _alive: Sender<()>,
    _worker: Arc<Worker>,
}

impl Observer {
    pub(super) fn start(session: &Session, candidates: KeyRange) -> Result<Observer> {
        let mirror = session.client().mirror(candidates)?;
        let worker = Worker::of(session.client())?;
        let (told, leaders) = bounded(ROOM);
        let (alive, owner) = bounded(0);
        worker.serve(Box::new(Telling {
            mirror,
            owner,
            told,
            waiting: VecDeque::new(),
            candidates: Candidates::default(),
            ended: false,
        }))?;
        Ok(Observer {
            leaders,
            _alive: alive,
            _worker: worker,
        })
    }

    /// The channel that leaders arrive on, for `select!`.
    pub fn receiver(&self) -> &Receiver<Result<Option<KeyValue>>> {
        &self.leaders
    }
}

receive_methods!(Observer, Result<Option<KeyValue>>);

/// One observer, on the worker of its client.
struct Telling {
    mirror: Mirror,
    owner: Receiver<()>,
    told: Sender<Result<Option<KeyValue>>>,
    /// What the channel has no room for.
    waiting: VecDeque<Result<Option<KeyValue>>>,
    candidates: Candidates,
    ended: bool,
}

impl Telling {
    fn tell(&mut self, item: Result<Option<KeyValue>>) {
        if self.waiting.len() >= ROOM {
            self.waiting.pop_front();
        }
        self.waiting.push_back(item);
    }

    fn follow(&mut self) {
        for _ in 0..AT_ONCE {
            match self.mirror.changes().try_recv() {
                Ok(Ok(event)) => {
                    for leader in self.candidates.on(event) {
                        self.tell(Ok(leader));
                    }
                }
                Ok(Err(ended)) => {
                    self.tell(Err(ended));
                    self.ended = true;
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if !self.ended {
                        self.tell(Err(Error::abandoned()));
                        self.ended = true;
                    }
                    return;
                }
            }
        }
    }
}

impl Part for Telling {
    fn work(&mut self, now: Instant) -> Option<Next> {
        if self.owner.try_recv() == Err(TryRecvError::Disconnected) {
            return None;
        }
        if !self.ended {
            self.follow();
        }
        while let Some(item) = self.waiting.pop_front() {
            match self.told.try_send(item) {
                Ok(()) => {}
                Err(TrySendError::Full(item)) => {
                    self.waiting.push_front(item);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return None,
            }
        }
        if self.ended && self.waiting.is_empty() {
            return None;
        }
        let more = !self.ended && !self.mirror.changes().is_empty();
        Some(Next(more.then_some(now)))
    }

    fn failed(&mut self, error: &Error) {
        let _ = self.told.try_send(Err(error.clone()));
    }

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.owner);
        if !self.ended {
            select.recv(self.mirror.changes());
        }
        if !self.waiting.is_empty() {
            select.send(&self.told);
        }
    }
}

//! The task that keeps the leases of a client alive: it does what the keeper decides.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::handle::{GONE, KeepAlive, Renewal};
use super::lease_status::{LeaseStatusWriter, fate};
use super::renewal_schedule::{Action, Gone, Input, Path, RenewalSchedule};
use super::stream::{Event, RenewalStream};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::{Demand, Transport};
use crate::observe::Observer;
use crate::runtime::{BoundedSender, Bridge, Room, Spawn, clock};
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;
use crate::util::jitter;

/// The longest sleep while there are leases: the runtime's clock stands still while the machine
/// sleeps, theirs does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Renewals that wait for a reader.
const ROOM: Room = Room {
    items: 16,
    bytes: usize::MAX,
};

/// What the owners of leases ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    Join {
        lease: LeaseId,
        within: Duration,
        owner: Owner,
    },
    Leave {
        lease: LeaseId,
        number: u64,
    },
}

/// Somebody who wants a lease kept alive.
#[derive(Debug)]
pub(super) struct Owner {
    number: u64,
    bounded_sender: BoundedSender<Result<Renewal>>,
    oracle: LeaseStatusWriter,
}

/// The way to the task, which is started when the first lease is to be kept alive.
#[derive(Debug, Default)]
pub(crate) struct LeaseKeeping {
    commands: Mutex<Option<mpsc::UnboundedSender<Command>>>,
    owners: AtomicU64,
}

impl LeaseKeeping {
    /// Keeps `lease` alive; its first answer has to come `within` this time.
    pub(crate) fn keep_alive(
        &self,
        bridge: &Bridge,
        transport: &Arc<Transport>,
        lease: LeaseId,
        within: Duration,
    ) -> Result<KeepAlive> {
        let refused = |error: Error| error.operation(Operation::about("keep alive lease", lease));
        bridge.check_open().map_err(refused)?;
        let (bounded_sender, receiver) = BoundedSender::new(ROOM, || Some(Err(Error::abandoned())));
        let number = self.owners.fetch_add(1, Relaxed);
        let (oracle, fate) = fate(lease);
        let owner = Owner {
            number,
            bounded_sender,
            oracle,
        };
        let commands = self.commands(bridge, transport).map_err(refused)?;
        let join = Command::Join {
            lease,
            within,
            owner,
        };
        // When the task is gone, so is the runtime, and the receiver says that it is closed.
        let _ = commands.send(join);
        Ok(KeepAlive::new(lease, number, receiver, fate, commands))
    }

    fn commands(
        &self,
        bridge: &Bridge,
        transport: &Arc<Transport>,
    ) -> Result<mpsc::UnboundedSender<Command>> {
        let mut current = self.commands.lock();
        if let Some(commands) = current.as_ref().filter(|commands| !commands.is_closed()) {
            return Ok(commands.clone());
        }
        let (commands, queue) = mpsc::unbounded_channel();
        let task = Task {
            observer: Arc::clone(transport.observer()),
            keeper: RenewalSchedule::new(jitter::number()),
            shared: RenewalStream::new(Arc::clone(transport)),
            alone: RenewalStream::new(Arc::clone(transport)),
            commands: queue,
            held: HashMap::new(),
        };
        bridge.spawn(Box::pin(task.run()))?;
        *current = Some(commands.clone());
        Ok(commands)
    }
}

/// A lease that is kept alive.
#[derive(Default)]
struct Held {
    owners: Vec<Owner>,
    latest: Option<(Renewal, BootTime)>,
}

struct Task {
    keeper: RenewalSchedule,
    shared: RenewalStream,
    alone: RenewalStream,
    commands: mpsc::UnboundedReceiver<Command>,
    held: HashMap<LeaseId, Held>,
    observer: Arc<Observer>,
}

enum Next {
    Command(Command),
    Stream(Path, Event),
    Time,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.observer
                .leases
                .are(self.held.len(), self.keeper.first_end());
            let mut alarm = self.alarm().map(sleep).map(Box::pin);
            let next = std::future::poll_fn(|cx| self.poll_next(alarm.as_mut(), cx)).await;
            let input = match next {
                None => return,
                Some(Next::Command(command)) => self.input(command),
                Some(Next::Stream(path, event)) => Some(event.on(path)),
                Some(Next::Time) => Some(Input::Tick),
            };
            self.note_stream(input.as_ref());
            if let Some(input) = input {
                self.take(input);
            }
        }
    }

    fn take(&mut self, input: Input) {
        let mut unwanted = Vec::new();
        for action in self.keeper.on(input, clock::now()) {
            unwanted.extend(self.act(action));
        }
        for lease in unwanted {
            self.take(Input::Remove(lease));
        }
    }

    /// Answers go first: those that are here already are not late, however long nobody looked.
    fn poll_next(
        &mut self,
        alarm: Option<&mut Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Next>> {
        for path in Path::BOTH {
            if let Poll::Ready(event) = self.stream(path).poll(cx) {
                return Poll::Ready(Some(Next::Stream(path, event)));
            }
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(command.map(Next::Command));
        }
        match alarm {
            Some(alarm) => alarm.as_mut().poll(cx).map(|()| Some(Next::Time)),
            None => Poll::Pending,
        }
    }

    fn alarm(&self) -> Option<Duration> {
        let at = self.keeper.wake_at()?;
        // The timer of the runtime counts milliseconds; a little later is on time.
        let wait = at.since(clock::now()) + Duration::from_millis(1);
        Some(wait.min(LONGEST_SLEEP))
    }

    fn input(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::Join {
                lease,
                within,
                mut owner,
            } => {
                let held = self.held.entry(lease).or_default();
                if let Some((renewal, until)) = &held.latest {
                    owner.renewed(renewal, *until);
                }
                held.owners.push(owner);
                Some(Input::Add { lease, within })
            }
            Command::Leave { lease, number } => {
                let held = self.held.get_mut(&lease)?;
                let index = held.owners.iter().position(|o| o.number == number)?;
                held.owners.swap_remove(index).left();
                if !held.owners.is_empty() {
                    return None;
                }
                self.held.remove(&lease);
                Some(Input::Remove(lease))
            }
        }
    }

    fn stream(&mut self, path: Path) -> &mut RenewalStream {
        match path {
            Path::Shared => &mut self.shared,
            Path::Alone => &mut self.alone,
        }
    }

    fn note_stream(&self, input: Option<&Input>) {
        match input {
            Some(Input::Opened(_)) => self.observer.leases.stream_opened(),
            Some(Input::Broken(_, trouble) | Input::Refused(_, trouble)) => {
                self.observer.leases.stream_lost(&trouble.text);
            }
            _ => {}
        }
    }

    /// Does it; returns the lease when nobody wants that any more.
    fn act(&mut self, action: Action) -> Option<LeaseId> {
        match action {
            Action::Open(path) => {
                let demand = match self.keeper.is_in_hurry(clock::now()) {
                    true => Demand::Call,
                    false => Demand::Background,
                };
                self.stream(path).open(demand);
            }
            Action::Abandon { path, waited } => {
                let reason = format_args!("no answer to a renewal in {waited:.1?}");
                self.observer.leases.stream_lost(reason);
                self.stream(path).abandon(waited);
            }
            Action::Close(path) => self.stream(path).close(),
            Action::Send(path, lease) => self.stream(path).send(lease),
            Action::Renewed { lease, ttl, until } => {
                self.observer.leases.renewed(lease, ttl);
                let held = self.held.get_mut(&lease)?;
                let renewal = Renewal::new(lease, ttl, until);
                for mut owner in std::mem::take(&mut held.owners) {
                    if owner.renewed(&renewal, until) {
                        held.owners.push(owner);
                    } else {
                        owner.lost(Error::new(ErrorKind::LeaseExpired, "its time ran out"));
                    }
                }
                held.latest = Some((renewal, until));
                if held.owners.is_empty() {
                    self.held.remove(&lease);
                    return Some(lease);
                }
            }
            Action::Gone { lease, why } => {
                let held = self.held.remove(&lease)?;
                let error = farewell(lease, why);
                self.observer.leases.lost(lease, &error);
                for owner in held.owners {
                    owner.lost(error.clone());
                }
            }
        }
        None
    }
}

impl Drop for Task {
    /// Who left before the client closed, if only just, is not told that it did.
    fn drop(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.input(command);
        }
        self.observer.leases.are(0, None);
    }
}

impl Owner {
    /// `false` when it was told already that the lease is over.
    fn renewed(&mut self, renewal: &Renewal, until: BootTime) -> bool {
        let wanted = self.oracle.renewed(until);
        if wanted {
            // A reader that does not read has what it needs in its fate.
            let _ = self.bounded_sender.offer(Ok(renewal.clone()), 0);
        }
        wanted
    }

    fn lost(self, why: Error) {
        let why = self.oracle.gone(why);
        self.bounded_sender.finish(Err(why));
    }

    fn left(self) {
        self.oracle.left();
        self.bounded_sender.end();
    }
}

/// The last thing that is said about a lease.
fn farewell(lease: LeaseId, why: Gone) -> Error {
    let (error, last) = match why {
        Gone::NotFound => (Error::new(ErrorKind::LeaseNotFound, GONE), None),
        Gone::Expired { ttl, silent, last } => {
            let reason = format!("unreachable for {silent:.1?}, and it lived {ttl:?} only");
            (Error::new(ErrorKind::LeaseExpired, reason), last)
        }
        Gone::Unanswered { within, last } => {
            let kind = last.as_ref().map_or(ErrorKind::Timeout, |last| last.kind);
            let reason = format!("no renewal was answered in {within:?}");
            (Error::new(kind, reason), last)
        }
        Gone::Refused(trouble) => {
            let error = Error::new(trouble.kind, trouble.text);
            (error.at(trouble.endpoint), None)
        }
    };
    let error = error.operation(Operation::about("keep alive lease", lease));
    match last {
        Some(last) => error.at(last.endpoint).last(last.text),
        None => error,
    }
}

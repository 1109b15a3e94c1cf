//! Carries out what the state of the watches decides. It decides nothing about the protocol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::request::Watch;
use super::sets::Sets;
use super::sink::Sink;
use super::state::{Action, Ending, Id, Input, SHARED, StreamNo, Streams};
use super::watch_registry::Command;
use super::watch_stream::WatchStream;
use crate::error::{Error, ErrorKind, Result};
use crate::grpc::{Demand, Transport};
use crate::observe::{Observer, Subject};
use crate::runtime::Offer;
use crate::util::jitter;

/// How soon a reader that was slow is noticed to have caught up.
const LOOK: Duration = Duration::from_millis(20);

/// So many watches of one slow reader are taken up again at a time: they share its room.
const RESUMED_TOGETHER: usize = 16;

/// The task of all watches of a client.
pub(super) struct Task {
    commands: mpsc::UnboundedReceiver<Command>,
    transport: Arc<Transport>,
    state: Streams,
    /// The streams that are open or being opened.
    lines: BTreeMap<StreamNo, WatchStream>,
    /// The stream that was heard last: the others come first.
    heard: StreamNo,
    entries: BTreeMap<Id, Entry>,
    sets: Sets,
    stalled: Stalled,
    /// Watches that wait for progress and whose reader had no room for it.
    unasked: BTreeSet<Id>,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    /// Why there is no stream.
    trouble: Option<String>,
    observer: Arc<Observer>,
}

struct Entry {
    sink: Sink,
    created: Option<oneshot::Sender<Result<()>>>,
    about: Subject,
}

/// Watches whose reader had no room, in that order.
#[derive(Debug, Default)]
struct Stalled {
    order: BTreeMap<u64, Id>,
    places: BTreeMap<Id, u64>,
    last: u64,
}

impl Stalled {
    fn push(&mut self, id: Id) {
        self.remove(id);
        self.last += 1;
        self.places.insert(id, self.last);
        self.order.insert(self.last, id);
    }

    fn remove(&mut self, id: Id) {
        if let Some(place) = self.places.remove(&id) {
            self.order.remove(&place);
        }
    }

    fn oldest_first(&self) -> impl Iterator<Item = Id> {
        self.order.values().copied()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}

enum Wake {
    Command(Command),
    WatchStream(StreamNo, Input),
    Timer,
    Over,
}

impl Task {
    /// Runs for as long as its client.
    pub(super) async fn run(transport: Arc<Transport>, commands: mpsc::UnboundedReceiver<Command>) {
        let now = Instant::now();
        let task = Task {
            commands,
            state: Streams::new(transport.settings().limits.receive, now),
            observer: Arc::clone(transport.observer()),
            transport,
            lines: BTreeMap::new(),
            heard: SHARED,
            entries: BTreeMap::new(),
            sets: Sets::default(),
            stalled: Stalled::default(),
            unasked: BTreeSet::new(),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            armed: None,
            trouble: None,
        };
        task.work().await;
    }

    async fn work(mut self) {
        loop {
            self.arm();
            let watches = &self.observer.watches;
            watches.are(self.entries.len(), self.stalled.len());
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                Wake::Command(command) => self.command(command),
                Wake::WatchStream(stream, input) => {
                    self.refuse(&input);
                    self.feed(stream, input);
                }
                Wake::Timer => {
                    self.resume_stalled();
                    self.tick();
                }
                Wake::Over => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        match self.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => return Poll::Ready(Wake::Command(command)),
            Poll::Ready(None) => return Poll::Ready(Wake::Over),
            Poll::Pending => {}
        }
        if self.armed.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            return Poll::Ready(Wake::Timer);
        }
        let heard = self.heard;
        for of_those_behind in [true, false] {
            for (stream, line) in &mut self.lines {
                if (*stream > heard) == of_those_behind
                    && let Poll::Ready(input) = line.poll(cx)
                {
                    self.heard = *stream;
                    return Poll::Ready(Wake::WatchStream(*stream, input));
                }
            }
        }
        self.sets.wake();
        Poll::Pending
    }

    /// Says that time has passed, and first on which streams something arrives.
    fn tick(&mut self) {
        let now = Instant::now();
        let due = self.state.deadlines().filter(|(_, due)| *due <= now);
        for (stream, _) in due.collect::<Vec<_>>() {
            let line = self.lines.get_mut(&stream);
            if line.is_some_and(WatchStream::has_arrived) {
                self.feed(stream, Input::Arriving);
            }
            self.feed(stream, Input::Tick);
        }
    }

    /// Sets the timer when something is due before it fires. WatchEntry that fires early does no harm, and
    /// most messages only move a deadline away.
    fn arm(&mut self) {
        let slow = !(self.stalled.is_empty() && self.unasked.is_empty());
        let look = slow.then(|| Instant::now() + LOOK);
        let streams = self.state.deadlines().map(|(_, due)| due).min();
        let due = [streams, look].into_iter().flatten().min();
        if let Some(due) = due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            self.timer.as_mut().reset(due.into());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Add {
                id,
                watch,
                sink,
                created,
            } => {
                if let Some(line) = self.lines.get_mut(&SHARED)
                    && created.is_some()
                {
                    line.hurry();
                }
                self.insert(id, &watch, sink, created);
                self.feed(SHARED, Input::Add(id, watch));
            }
            Command::Remove(id) => self.remove(id),
            Command::Progress(id) => self.feed_watch(id, Input::Progress(id)),
            Command::AddSet(set, delivery) => self.sets.add(set, delivery),
            Command::RemoveSet(set) => {
                for id in self.sets.remove(set) {
                    self.remove(id);
                }
            }
            Command::Why(reply) => {
                let _ = reply.send(self.trouble.clone());
            }
        }
    }

    fn insert(
        &mut self,
        id: Id,
        watch: &Watch,
        sink: Sink,
        created: Option<oneshot::Sender<Result<()>>>,
    ) {
        if let Sink::Set(set) = sink {
            self.sets.join(set, id);
        }
        let about = Subject::keys(watch.keys());
        let entry = Entry {
            sink,
            created,
            about,
        };
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: Id) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.sink.end(&mut self.sets, id);
            self.forget_slow(id);
            self.feed_watch(id, Input::Remove(id));
        }
    }

    /// What happened to a watch.
    fn feed_watch(&mut self, id: Id, input: Input) {
        self.feed(self.state.stream_of(id), input);
    }

    fn feed(&mut self, stream: StreamNo, input: Input) {
        let (mut next, mut inputs) = (Some((stream, input)), VecDeque::new());
        while let Some((stream, input)) = next.take().or_else(|| inputs.pop_front()) {
            self.note_trouble(&input);
            let now = Instant::now();
            let actions = self.state.on(stream, input, now, jitter::fraction());
            for (stream, action) in actions {
                let outcome = self.act(stream, action);
                inputs.extend(outcome.map(|input| (stream, input)));
            }
        }
    }

    /// Does it; returns what the state must know about how it went.
    fn act(&mut self, stream: StreamNo, action: Action) -> Option<Input> {
        match action {
            Action::Open => {
                let somebody_waits = self.entries.values().any(|entry| entry.created.is_some());
                let line = self.lines.entry(stream);
                let line = line.or_insert_with(|| WatchStream::new(Arc::clone(&self.transport)));
                line.connect(match somebody_waits {
                    true => Demand::Call,
                    false => Demand::Background,
                });
            }
            Action::Renew(refused) => self.lines.get_mut(&stream)?.renew(refused),
            Action::Close(doubt) => {
                self.lines.get_mut(&stream)?.close(doubt);
                if !self.state.has_stream(stream) {
                    self.lines.remove(&stream);
                }
            }
            Action::Send(request) => self.lines.get(&stream)?.send(request),
            Action::Read(key) => self.lines.get_mut(&stream)?.read(key),
            Action::Created(id) => {
                let entry = self.entries.get_mut(&id)?;
                self.observer.watches.created(&entry.about);
                entry.sink.created(&mut self.sets, id);
                if let Some(created) = entry.created.take() {
                    let _ = created.send(Ok(()));
                }
            }
            Action::Deliver {
                id,
                response,
                size,
                undo,
                up,
            } => {
                let progress = response.is_progress();
                let entry = self.entries.get_mut(&id)?;
                match entry.sink.offer(&mut self.sets, id, response, size) {
                    Offer::Taken => {
                        self.observer.watches.delivered();
                        if up {
                            self.up(id);
                        }
                    }
                    // Progress that is late is worth no less. It is asked for when there is room:
                    // one that cannot be delivered would only be asked for again.
                    Offer::Full if progress => drop(self.unasked.insert(id)),
                    Offer::Full => {
                        self.observer.watches.paused(&entry.about);
                        self.stalled.push(id);
                        return Some(Input::Full(id, undo));
                    }
                    Offer::Gone => {
                        if let Some(entry) = self.entries.remove(&id) {
                            entry.sink.end(&mut self.sets, id);
                        }
                        self.forget_slow(id);
                        return Some(Input::Remove(id));
                    }
                }
            }
            Action::Down(id) => {
                let entry = self.entries.get_mut(&id)?;
                entry.sink.note(&mut self.sets, id, true);
            }
            Action::Up(id) => self.up(id),
            Action::Finish(id, error) => self.finish(id, error),
        }
        None
    }

    fn up(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.observer.watches.resumed(&entry.about);
            entry.sink.note(&mut self.sets, id, false);
        }
    }

    fn finish(&mut self, id: Id, error: Error) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.forget_slow(id);
        self.observer.watches.ended(&entry.about, &error);
        match entry.created {
            Some(created) => {
                entry.sink.end(&mut self.sets, id);
                let _ = created.send(Err(error));
            }
            None => entry.sink.finish(&mut self.sets, id, error),
        }
    }

    /// Whoever waits for a watch to be created is told at once that there is nothing to wait for.
    /// Watches that had been created go on trying: certificates can be put right again.
    fn refuse(&mut self, input: &Input) {
        let Input::Ended(Ending::Refused(why)) = input else {
            return;
        };
        let waited_for = |(id, entry): (&Id, &Entry)| entry.created.is_some().then_some(*id);
        let ids: Vec<Id> = self.entries.iter().filter_map(waited_for).collect();
        for id in ids {
            let error = Error::new(ErrorKind::Tls, why.as_str());
            self.finish(id, error.at(Some(self.transport.name())));
            self.feed_watch(id, Input::Remove(id));
        }
    }

    fn forget_slow(&mut self, id: Id) {
        self.stalled.remove(id);
        self.unasked.remove(&id);
    }

    /// Takes up the watches whose readers have caught up.
    fn resume_stalled(&mut self) {
        let mut ready = Vec::new();
        for id in self.stalled.oldest_first() {
            if ready.len() == RESUMED_TOGETHER {
                break;
            }
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.sink.has_room(&mut self.sets)
            {
                self.observer.watches.caught_up(&entry.about);
                ready.push(id);
            }
        }
        for id in ready {
            self.stalled.remove(id);
            self.feed_watch(id, Input::Room(id));
        }
        let mut asked = Vec::new();
        self.unasked.retain(|id| {
            let entry = self.entries.get_mut(id);
            let wait = entry.is_some_and(|entry| !entry.sink.has_room(&mut self.sets));
            if !wait {
                asked.push(*id);
            }
            wait
        });
        for id in asked {
            self.feed_watch(id, Input::Progress(id));
        }
    }

    fn note_trouble(&mut self, input: &Input) {
        match input {
            Input::Opened => {
                self.observer.watches.stream_opened();
                self.sets.stream_opened();
            }
            Input::Message(_) => self.trouble = None,
            Input::Ended(ending) | Input::Read(Err(ending)) => {
                let trouble = match ending {
                    Ending::Unconnected(text)
                    | Ending::Refused(text)
                    | Ending::Broken(text)
                    | Ending::Silent(text) => text.clone(),
                    Ending::Answer(answer) => answer.text.clone(),
                    Ending::Eof => "the server ended the stream".into(),
                };
                self.observer.watches.stream_lost(&trouble);
                self.trouble = Some(trouble);
            }
            _ => {}
        }
    }
}

impl Drop for Task {
    /// Who cancelled before the client closed, if only just, is not told that it did.
    fn drop(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add {
                    id,
                    watch,
                    sink,
                    created,
                } => {
                    self.insert(id, &watch, sink, created);
                }
                Command::Remove(id) => {
                    if let Some(entry) = self.entries.remove(&id) {
                        entry.sink.end(&mut self.sets, id);
                    }
                }
                Command::AddSet(set, delivery) => self.sets.add(set, delivery),
                Command::RemoveSet(set) => drop(self.sets.remove(set)),
                Command::Progress(_) | Command::Why(_) => {}
            }
        }
        self.observer.watches.are(0, 0);
    }
}

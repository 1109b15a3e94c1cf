//! The task of all watches of a client: feeds the state machine and performs its actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::set_delivery::SetDeliveries;
use super::sink::Sink;
use super::stalled_watches::StalledWatches;
use super::state::{Action, Input, SHARED, StreamEnd, StreamNo, Streams};
use super::turn::Turn;
use super::watch_id::WatchId;
use super::watch_request::Watch;
use super::watch_stream::WatchStream;
use crate::error::{Error, ErrorKind, Result};
use crate::grpc::{Timer, Timers, Transport, Urgency, Window};
use crate::observe::{Subject, Telemetry};
use crate::runtime::SendOutcome;
use crate::util::jitter;

/// The interval at which the queues of paused watches are checked for room.
const ROOM_CHECK: Duration = Duration::from_millis(20);

/// The most watches that are resumed at a time: those of one set share its room.
const MAX_RESUMED: usize = 16;

/// The task of all watches of a client.
pub(super) struct WatchTask {
    commands: mpsc::UnboundedReceiver<Command>,
    transport: Arc<Transport>,
    state: Streams,
    /// The streams that are open or being opened.
    streams: BTreeMap<StreamNo, WatchStream>,
    /// The stream that was polled last with a result: the others are polled before it.
    last_polled: StreamNo,
    /// The work since the task last yielded.
    turn: Turn,
    entries: BTreeMap<WatchId, Entry>,
    sets: SetDeliveries,
    stalled: StalledWatches,
    /// Watches whose reader had no room for the progress that it requested.
    postponed_progress: BTreeSet<WatchId>,
    timers: Timers,
    timer: Timer,
    armed: Option<Instant>,
    /// The reason why the last stream failed, until a stream delivers a message.
    last_failure: Option<String>,
    telemetry: Arc<Telemetry>,
}

/// The data of the task about a watch.
struct Entry {
    sink: Sink,
    created: Option<oneshot::Sender<Result<()>>>,
    about: Subject,
}

/// The reason why the task woke up.
enum Wake {
    Command(Command),
    Stream(StreamNo, Input),
    Timer,
    ClientGone,
}

impl WatchTask {
    /// Runs until the client has ended.
    pub(super) async fn run(transport: Arc<Transport>, commands: mpsc::UnboundedReceiver<Command>) {
        let now = Instant::now();
        let timers = transport.settings().timers.clone();
        let task = WatchTask {
            commands,
            state: Streams::new(transport.settings().limits.receive, now),
            telemetry: Arc::clone(transport.telemetry()),
            transport,
            streams: BTreeMap::new(),
            last_polled: SHARED,
            turn: Turn::default(),
            entries: BTreeMap::new(),
            sets: SetDeliveries::default(),
            stalled: StalledWatches::default(),
            postponed_progress: BTreeSet::new(),
            timer: timers.timer(),
            timers,
            armed: None,
            last_failure: None,
        };
        task.work().await;
    }

    async fn work(mut self) {
        loop {
            self.arm();
            let watches = &self.telemetry.watches;
            watches.are(self.entries.len(), self.stalled.len());
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                Wake::Command(command) => self.command(command),
                Wake::Stream(stream, input) => {
                    // Before the state handles the input, which would open the stream again for
                    // them.
                    self.fail_callers(&input);
                    self.feed(stream, input);
                }
                Wake::Timer => {
                    self.resume_stalled();
                    self.tick();
                }
                Wake::ClientGone => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        match self.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => return Poll::Ready(Wake::Command(command)),
            Poll::Ready(None) => return Poll::Ready(Wake::ClientGone),
            Poll::Pending => {}
        }
        if self.timer.poll(cx).is_ready() {
            self.armed = None;
            return Poll::Ready(Wake::Timer);
        }
        if self.turn.is_over() {
            self.turn = Turn::default();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Round robin: a busy stream does not starve the others.
        let last = self.last_polled;
        for after_last in [true, false] {
            for (no, stream) in &mut self.streams {
                if (*no > last) == after_last
                    && let Poll::Ready(input) = stream.poll(cx)
                {
                    self.last_polled = *no;
                    self.turn.input();
                    return Poll::Ready(Wake::Stream(*no, input));
                }
            }
        }
        self.turn = Turn::default();
        self.sets.wake();
        Poll::Pending
    }

    /// Feeds `Tick` to the streams that are due, after `Arriving` if bytes have arrived.
    fn tick(&mut self) {
        let now = Instant::now();
        let due = self.state.ticks_from().filter(|(_, from)| *from <= now);
        for (stream, _) in due.collect::<Vec<_>>() {
            let open = self.streams.get_mut(&stream);
            if open.is_some_and(WatchStream::has_arrived) {
                self.feed(stream, Input::Arriving);
            }
            self.feed(stream, Input::Tick);
        }
    }

    /// Sets the timer if a deadline is earlier. An timer that fires early does no harm, and most
    /// messages only move a deadline to a later time.
    fn arm(&mut self) {
        // A reader cannot wake this task, so the task checks for room.
        let slow = !(self.stalled.is_empty() && self.postponed_progress.is_empty());
        let now = Instant::now();
        let room_check = slow.then(|| now + ROOM_CHECK);
        let streams = self.state.deadlines().map(|(_, due)| due).min();
        let due = [streams, room_check].into_iter().flatten().min();
        if let Some(due) = due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            let from = self.state.ticks_from().map(|(_, from)| from).min();
            let from = from.map_or(due, |from| from.min(due));
            let boot_now = self.timers.now();
            self.timer.set(Some(Window {
                from: boot_now + from.saturating_duration_since(now),
                until: boot_now + due.saturating_duration_since(now),
            }));
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
                if let Some(stream) = self.streams.get_mut(&SHARED)
                    && created.is_some()
                {
                    // A caller waits for this watch, so the stream must not wait in the background.
                    stream.hurry();
                }
                self.insert(id, &watch, sink, created);
                self.feed(SHARED, Input::Add(id, watch));
            }
            Command::Remove(id) => self.remove(id),
            Command::RequestProgress(id) => self.feed_watch(id, Input::Progress(id)),
            Command::AddSet(set, delivery) => self.sets.add(set, delivery),
            Command::RemoveSet(set) => {
                for id in self.sets.remove(set) {
                    self.remove(id);
                }
            }
            Command::LastFailure(reply) => {
                let _ = reply.send(self.last_failure.clone());
            }
        }
    }

    fn insert(
        &mut self,
        id: WatchId,
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

    fn remove(&mut self, id: WatchId) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.sink.end(&mut self.sets, id);
            self.forget_stalled(id);
            self.feed_watch(id, Input::Remove(id));
        }
    }

    /// Feeds an input about one watch.
    fn feed_watch(&mut self, id: WatchId, input: Input) {
        self.feed(self.state.stream_of(id), input);
    }

    fn feed(&mut self, stream: StreamNo, input: Input) {
        let (mut next, mut inputs) = (Some((stream, input)), VecDeque::new());
        while let Some((stream, input)) = next.take().or_else(|| inputs.pop_front()) {
            self.observe(&input);
            let now = Instant::now();
            let actions = self.state.on(stream, input, now, jitter::fraction());
            for (stream, action) in actions {
                // An action can cause an input, such as `Full`, which is handled after the other
                // actions.
                let outcome = self.act(stream, action);
                inputs.extend(outcome.map(|input| (stream, input)));
            }
        }
    }

    /// Performs an action. Returns the input that results from it.
    fn act(&mut self, stream: StreamNo, action: Action) -> Option<Input> {
        match action {
            Action::Open => {
                let has_caller = self.entries.values().any(|entry| entry.created.is_some());
                let stream = self.streams.entry(stream);
                let new = || WatchStream::new(Arc::clone(&self.transport));
                stream.or_insert_with(new).connect(match has_caller {
                    true => Urgency::Call,
                    false => Urgency::Background,
                });
            }
            Action::RenewToken(refused) => self.streams.get_mut(&stream)?.renew(refused),
            Action::Close(suspicion) => {
                self.streams.get_mut(&stream)?.close(suspicion);
                if !self.state.has_stream(stream) {
                    self.streams.remove(&stream);
                }
            }
            Action::Send(request) => self.streams.get(&stream)?.send(request),
            Action::Read(key) => self.streams.get_mut(&stream)?.read(key),
            Action::Created(id) => {
                let entry = self.entries.get_mut(&id)?;
                self.telemetry.watches.created(&entry.about);
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
                    SendOutcome::Sent => {
                        self.turn.delivered(size);
                        self.telemetry.watches.delivered();
                        if up {
                            self.up(id);
                        }
                    }
                    // Requested again when there is room: now it could not be delivered either.
                    SendOutcome::Full if progress => drop(self.postponed_progress.insert(id)),
                    SendOutcome::Full => {
                        self.telemetry.watches.paused(&entry.about);
                        self.stalled.push(id);
                        return Some(Input::Full(id, undo));
                    }
                    SendOutcome::Disconnected => {
                        if let Some(entry) = self.entries.remove(&id) {
                            entry.sink.end(&mut self.sets, id);
                        }
                        self.forget_stalled(id);
                        return Some(Input::Remove(id));
                    }
                }
            }
            Action::Down(id) => {
                let entry = self.entries.get_mut(&id)?;
                entry.sink.set_down(&mut self.sets, id, true);
            }
            Action::Up(id) => self.up(id),
            Action::Finish(id, error) => self.finish(id, error),
        }
        None
    }

    fn up(&mut self, id: WatchId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.telemetry.watches.resumed(&entry.about);
            entry.sink.set_down(&mut self.sets, id, false);
        }
    }

    fn finish(&mut self, id: WatchId, error: Error) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.forget_stalled(id);
        self.telemetry.watches.ended(&entry.about, &error);
        match entry.created {
            Some(created) => {
                entry.sink.end(&mut self.sets, id);
                // The caller gets the error; an item would reach no reader.
                let _ = created.send(Err(error));
            }
            None => entry.sink.finish(&mut self.sets, id, error),
        }
    }

    /// Fails the watches whose callers wait for their creation when TLS fails at every endpoint.
    /// Watches that the server had created go on retrying: certificates can be replaced.
    fn fail_callers(&mut self, input: &Input) {
        let Input::Ended(StreamEnd::TlsFailed(why)) = input else {
            return;
        };
        let has_caller = |(id, entry): (&WatchId, &Entry)| entry.created.is_some().then_some(*id);
        let ids: Vec<WatchId> = self.entries.iter().filter_map(has_caller).collect();
        for id in ids {
            let error = Error::new(ErrorKind::Tls, why.as_str());
            self.finish(id, error.at(Some(self.transport.name())));
            self.feed_watch(id, Input::Remove(id));
        }
    }

    fn forget_stalled(&mut self, id: WatchId) {
        self.stalled.remove(id);
        self.postponed_progress.remove(&id);
    }

    /// Resumes the watches whose readers have room again.
    fn resume_stalled(&mut self) {
        let mut ready = Vec::new();
        for id in self.stalled.oldest_first() {
            if ready.len() == MAX_RESUMED {
                break;
            }
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.sink.has_room(&mut self.sets)
            {
                self.telemetry.watches.caught_up(&entry.about);
                ready.push(id);
            }
        }
        for id in ready {
            self.stalled.remove(id);
            self.feed_watch(id, Input::Room(id));
        }
        let mut ready = Vec::new();
        self.postponed_progress.retain(|id| {
            let entry = self.entries.get_mut(id);
            let full = entry.is_some_and(|entry| !entry.sink.has_room(&mut self.sets));
            if !full {
                ready.push(*id);
            }
            full
        });
        for id in ready {
            self.feed_watch(id, Input::Progress(id));
        }
    }

    /// Updates the metrics and the reason of the last failure.
    fn observe(&mut self, input: &Input) {
        match input {
            Input::Opened => {
                self.telemetry.watches.stream_opened();
                self.sets.stream_opened();
            }
            Input::Message(_) => self.last_failure = None,
            Input::Ended(ending) | Input::Read(Err(ending)) => {
                let reason = match ending {
                    StreamEnd::Unconnected(text)
                    | StreamEnd::TlsFailed(text)
                    | StreamEnd::Broken(text)
                    | StreamEnd::Silent(text) => text.clone(),
                    StreamEnd::Answer(answer) => answer.text.clone(),
                    StreamEnd::Eof => "the server ended the stream".into(),
                };
                self.telemetry.watches.stream_lost(&reason);
                self.last_failure = Some(reason);
            }
            _ => {}
        }
    }
}

impl Drop for WatchTask {
    /// Performs the commands that are still queued: a watch that was removed before the client closed
    /// gets no last item.
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
                // Dropping the reply ends the wait of the caller.
                Command::RequestProgress(_) | Command::LastFailure(_) => {}
            }
        }
        self.telemetry.watches.are(0, 0);
    }
}

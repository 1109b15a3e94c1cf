//! Thread of a copy: lists, follows a watch, and lists again when history is lost.

mod list;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select};

use super::batch::{Batcher, CopyBatch, KeyWrite, TxnLimits};
use super::plan::{Begin, CopyPlan, Extraneous};
use super::progress::{Command, CopyProgress, Shared};
use super::writer::{Mark, WriteOutcome, Writer, is_transient};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::Get;
use crate::rpc::watch::{EventKind, Watch, WatchResponse, Watcher};
use crate::types::Revision;
use crate::types::key_range::{KeyRange, Printed};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// Maximum number of watch responses that are copied between two checks for a stop.
const RESPONSES_PER_STEP: usize = 128;

/// Backoff between failed attempts.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(3));

pub(super) struct Copier {
    source: Client,
    writer: Writer,
    prefix: Bytes,
    dest_prefix: Bytes,
    begin: Begin,
    checkpoint: Option<Bytes>,
    extraneous: Extraneous,
    limits: TxnLimits,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// The cluster id of the source.
    cluster: u64,
    /// The revision up to which everything is copied; `None` when a list is needed.
    copied: Option<Revision>,
    /// The epoch of the source's store that `copied` is a revision of. It may be too low, never too high.
    epoch: u64,
    /// Whether all keys below the destination's prefix count as copies.
    owned: bool,
}

/// Reason why a step ended early.
enum Halt {
    /// The owner stopped the copying.
    Stopped,
    /// The history that the copy needs was compacted or lost.
    HistoryLost(Error),
    Failed(Error),
}

/// Guard that wakes waiters when the thread ends, also after a panic.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Some(Error::abandoned()));
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Compacted | ErrorKind::Rewound => Halt::HistoryLost(error),
            _ => Halt::Failed(error),
        }
    }
}

impl Copier {
    pub(super) fn new(plan: CopyPlan, shared: Arc<Shared>, commands: Receiver<Command>) -> Self {
        Copier {
            source: plan.source,
            writer: Writer {
                client: plan.destination,
                list: plan.limits.list,
                checkpoint: None,
            },
            dest_prefix: plan.dest_prefix.unwrap_or_else(|| plan.prefix.clone()),
            prefix: plan.prefix,
            begin: plan.begin,
            checkpoint: plan.checkpoint,
            extraneous: plan.extraneous,
            limits: plan.limits,
            shared,
            commands,
            cluster: 0,
            copied: None,
            epoch: 0,
            owned: false,
        }
    }

    /// Copies until it is stopped or fails.
    pub(super) fn run(mut self, end_sender: &Sender<Error>) {
        // Waiting callers are released even if this thread panics.
        let _end = EndOnDrop(Arc::clone(&self.shared));
        let why = match self.copy() {
            Halt::Stopped => None,
            Halt::HistoryLost(error) | Halt::Failed(error) => {
                let about = Operation::on("make mirror of", KeyRange::prefix(self.prefix.clone()));
                Some(error.operation(about))
            }
        };
        if let Some(error) = &why {
            // The channel has capacity for this one item.
            let _ = end_sender.try_send(error.clone());
        }
        self.shared.end(why);
    }

    fn copy(&mut self) -> Halt {
        if let Err(halt) = self.begin() {
            return halt;
        }
        loop {
            let halt = match self.copied {
                Some(at) => self.follow(at),
                None => self.list(),
            };
            match halt {
                Ok(()) => {}
                Err(Halt::HistoryLost(error)) if self.copied.is_some() => {
                    // Without deletions, a new list cannot make the copy equal to the source.
                    if self.extraneous == Extraneous::Keep {
                        return Halt::HistoryLost(error);
                    }
                    self.copied = None;
                }
                // The revision of the list was compacted while it was read.
                Err(Halt::HistoryLost(error)) => {
                    if let Err(halt) = self.pause(&mut RETRY.clone(), error) {
                        return halt;
                    }
                }
                Err(halt) => return halt,
            }
        }
    }

    /// Reads the cluster ids and the checkpoint, and determines where to begin.
    fn begin(&mut self) -> Result<(), Halt> {
        self.epoch = self.source.known_store().epoch;
        // The cluster ids show whether source and destination are the same store.
        let here = self.cluster_of(&self.source, &self.prefix)?;
        let there = self.cluster_of(&self.writer.client, &self.dest_prefix)?;
        if here == there
            && let Some(reason) = self.overlap()
        {
            return Err(Halt::Failed(Error::invalid(reason)));
        }
        self.cluster = here;
        (self.copied, self.owned) = match self.begin {
            Begin::List => (None, false),
            // Copying begins after the revision before the first one.
            Begin::Revision(first) => (Some(Revision::new(first.get().saturating_sub(1))), false),
            Begin::After(at) => (Some(at), true),
        };
        if let Some(key) = self.checkpoint.clone() {
            let mut backoff = RETRY;
            let mark = loop {
                match self.writer.open(key.clone()) {
                    Ok(mark) => break mark,
                    Err(error) => self.pause(&mut backoff, error)?,
                }
            };
            if let Some(mark) = mark {
                self.owned = true;
                // A checkpoint of another source cluster has revisions of another store.
                let known = mark.cluster == here && mark.revision > Revision::NONE;
                self.copied = known.then_some(mark.revision);
            }
        }
        if let Some(at) = self.copied {
            self.shared.copied(self.epoch, at);
        }
        Ok(())
    }

    /// Returns why the written keys would be copied again, if both clients are of the same cluster. Either
    /// client may be a namespace view.
    fn overlap(&self) -> Option<&'static str> {
        let from = self.source.absolute(&self.prefix);
        let destination = &self.writer.client;
        let to = destination.absolute(&self.dest_prefix);
        let checkpoint = self
            .checkpoint
            .as_ref()
            .map(|key| destination.absolute(key));
        if from.starts_with(&to) || to.starts_with(&from) {
            Some("source and destination are overlapping prefixes of the same cluster")
        } else if checkpoint.is_some_and(|key| key.starts_with(&from)) {
            // Each write of the checkpoint would be a change to copy.
            Some("the checkpoint key is below the prefix that is copied; choose another key")
        } else {
            None
        }
    }

    fn cluster_of(&self, client: &Client, prefix: &Bytes) -> Result<u64, Halt> {
        let mut backoff = RETRY;
        loop {
            match client.call(header_request(prefix)) {
                Ok(answer) => return Ok(answer.header().cluster_id),
                Err(error) => self.pause(&mut backoff, error)?,
            }
        }
    }

    /// Waits before the next attempt; fails when the error is not transient.
    fn pause(&self, backoff: &mut Backoff, error: Error) -> Result<(), Halt> {
        if !is_transient(&error) && error.kind() != ErrorKind::Compacted {
            return Err(error.into());
        }
        self.shared
            .update(|progress| progress.stalled = Some(error));
        let deadline = Instant::now() + backoff.next(jitter::fraction());
        loop {
            match self.commands.recv_deadline(deadline) {
                Ok(Command::Progress) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Halt::Stopped),
            }
        }
    }

    /// Returns the function from the key of an original to the key of its copy.
    fn rename(&self) -> impl Fn(&Bytes) -> Result<Bytes> + use<> {
        let (from, to) = (self.prefix.len(), self.dest_prefix.clone());
        let own = self.checkpoint.clone();
        move |key| {
            let rest = key.get(from..).unwrap_or_default();
            let copy = Bytes::from([&to[..], rest].concat());
            let problem = if copy.is_empty() {
                "equals the prefix, so the key of its copy would be empty"
            } else if Some(&copy) == own.as_ref() {
                "would overwrite the checkpoint key"
            } else {
                return Ok(copy);
            };
            Err(Error::invalid(format!(
                "the key {:?} {problem}",
                Printed(key)
            )))
        }
    }

    /// Watches the source from after `at` and copies its changes until the watch ends.
    fn follow(&mut self, at: Revision) -> Result<(), Halt> {
        let watch = Watch::prefix(self.prefix.clone())
            .after(at)
            .of_epoch(self.epoch)
            .progress_notify();
        let mut backoff = RETRY;
        let watcher = loop {
            match self.source.watch(watch.clone()) {
                Ok(watcher) => break watcher,
                Err(error) => self.pause(&mut backoff, error)?,
            }
        };
        self.shared.update(|progress| progress.stalled = None);
        let commands = self.commands.clone();
        loop {
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Progress) => watcher.request_progress(),
                    Err(_) => return Err(Halt::Stopped),
                },
                recv(watcher.receiver()) -> item => match item {
                    Ok(response) => self.take(response?, &watcher)?,
                    // The next request to the client returns the reason.
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    /// Copies one response, together with the responses that are already queued.
    fn take(&mut self, first: WatchResponse, watcher: &Watcher) -> Result<(), Halt> {
        let rename = self.rename();
        let mut batcher = self.batcher();
        let mut next = Some(Ok(first));
        let mut reached = self.copied.unwrap_or_default();
        let mut ended = None;
        let mut taken = 0;
        while let Some(item) = next {
            let response: WatchResponse = match item {
                Ok(response) => response,
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            };
            for events in response
                .events()
                .chunk_by(|a, b| a.revision() == b.revision())
            {
                let mut changes = Vec::with_capacity(events.len());
                for event in events {
                    let key = rename(event.key())?;
                    changes.push(match event.kind() {
                        EventKind::Put => KeyWrite::Put(key, event.kv().value().clone()),
                        EventKind::Delete => KeyWrite::Delete(key),
                    });
                }
                let upto = events.first().map(|event| event.revision());
                for batch in batcher.add(changes, upto) {
                    self.write_mark(&batch)?;
                }
            }
            reached = reached.max(response.revision());
            taken += 1;
            next = (taken < RESPONSES_PER_STEP)
                .then(|| watcher.try_recv().ok())
                .flatten();
        }
        if let Some(batch) = batcher.flush() {
            self.write_mark(&batch)?;
        }
        // A progress notification also moves the position: there was no change up to its revision.
        self.set_copied(reached);
        ended.map_or(Ok(()), |error| Err(error.into()))
    }

    fn write_mark(&mut self, batch: &CopyBatch) -> Result<(), Halt> {
        let before = Mark {
            cluster: self.cluster,
            revision: self.copied.unwrap_or_default(),
        };
        self.write(batch, &before)
    }

    fn check_stopped(&self) -> Result<(), Halt> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Progress) => {}
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Halt::Stopped),
            }
        }
    }

    /// Writes a batch, and retries until it succeeds. `mark` is the progress of the copy if this batch does
    /// not complete a revision.
    fn write(&mut self, batch: &CopyBatch, mark: &Mark) -> Result<(), Halt> {
        let mark = Mark {
            cluster: mark.cluster,
            revision: batch.upto.unwrap_or(mark.revision),
        };
        self.check_stopped()?;
        let mut backoff = RETRY;
        let mut again = false;
        if !batch.changes.is_empty() || self.checkpoint.is_some() {
            loop {
                match self.writer.write(batch, &mark, again) {
                    WriteOutcome::Written => break,
                    WriteOutcome::Failed(error) => return Err(Halt::Failed(error)),
                    WriteOutcome::Again(error) => self.pause(&mut backoff, error)?,
                }
                again = true;
            }
        }
        let puts = batch
            .changes
            .iter()
            .filter(|change| matches!(change, KeyWrite::Put(..)));
        let puts = u64::try_from(puts.count()).unwrap_or(u64::MAX);
        let all = u64::try_from(batch.changes.len()).unwrap_or(u64::MAX);
        self.shared.update(|progress: &mut CopyProgress| {
            progress.puts += puts;
            progress.deletes += all - puts;
            progress.stalled = None;
        });
        if let Some(upto) = batch.upto {
            self.set_copied(upto);
        }
        Ok(())
    }

    fn batcher(&self) -> Batcher {
        // The checkpoint takes one operation of each transaction.
        let list = self.limits.list - usize::from(self.checkpoint.is_some());
        Batcher::new(TxnLimits {
            list,
            ..self.limits
        })
    }

    fn set_copied(&mut self, at: Revision) {
        self.copied = Some(at);
        self.shared.copied(self.epoch, at);
    }
}

/// A linearizable read of the prefix's first key, which returns no keys; it needs no more permission than
/// the copy itself.
fn header_request(prefix: &Bytes) -> Get {
    let range = KeyRange::prefix(prefix.clone());
    Get::key(range.start().clone()).count_only()
}

//! The thread of a mirror: list, then follow, and list again when history is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, select};

use super::batch::{Batch, Batcher, Change, Limits};
use super::difference::{Difference, Pair};
use super::handle::{Begin, Command, CopyProgress, Extraneous, MakeMirror, Shared};
use super::writer::{Mark, Tried, Writer, is_passing};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::Get;
use crate::rpc::watch::{EventKind, Watch, WatchResponse, Watcher};
use crate::types::key_range::{KeyRange, Printed};
use crate::types::{KeyValue, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// So many responses are copied before it is seen whether to stop.
const AT_ONCE: usize = 128;

/// Keys in one answer of a list.
const PAGE: u32 = 1000;

/// The wait between tries that failed.
const BETWEEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(3));

pub(super) struct Copier {
    source: Client,
    writer: Writer,
    prefix: Bytes,
    dest_prefix: Bytes,
    begin: Begin,
    checkpoint: Option<Bytes>,
    extraneous: Extraneous,
    limits: Limits,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// Which cluster the source is.
    cluster: u64,
    /// What the copy has: everything up to here.
    at: Option<Revision>,
    /// Whether what is below the destination's prefix is this mirror's work.
    owned: bool,
}

/// Why it does not go on.
enum Halt {
    Stopped,
    /// History that it needs is gone.
    Gone(Error),
    Failed(Error),
}

/// Tells those who wait that the thread is gone, also by a panic.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(Some(Error::abandoned()));
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Compacted | ErrorKind::Rewound => Halt::Gone(error),
            _ => Halt::Failed(error),
        }
    }
}

impl Copier {
    pub(super) fn new(make: MakeMirror, shared: Arc<Shared>, commands: Receiver<Command>) -> Self {
        Copier {
            source: make.source,
            writer: Writer {
                client: make.destination,
                list: make.limits.list,
                checkpoint: None,
            },
            dest_prefix: make.dest_prefix.unwrap_or_else(|| make.prefix.clone()),
            prefix: make.prefix,
            begin: make.begin,
            checkpoint: make.checkpoint,
            extraneous: make.extraneous,
            limits: make.limits,
            shared,
            commands,
            cluster: 0,
            at: None,
            owned: false,
        }
    }

    /// Copies until it is stopped or fails.
    pub(super) fn run(mut self, telling: &Sender<Error>) {
        let _ending = Ending(Arc::clone(&self.shared));
        let why = match self.copy() {
            Halt::Stopped => None,
            Halt::Gone(error) | Halt::Failed(error) => {
                let about = Operation::on("make mirror of", KeyRange::prefix(self.prefix.clone()));
                Some(error.operation(about))
            }
        };
        if let Some(error) = &why {
            // There is room for the one.
            let _ = telling.try_send(error.clone());
        }
        self.shared.end(why);
    }

    fn copy(&mut self) -> Halt {
        if let Err(halt) = self.begin() {
            return halt;
        }
        loop {
            let halt = match self.at {
                Some(at) => self.follow(at),
                None => self.list(),
            };
            match halt {
                Ok(()) => {}
                Err(Halt::Gone(error)) if self.at.is_some() => {
                    if self.extraneous == Extraneous::Keep {
                        return Halt::Gone(error);
                    }
                    self.at = None;
                }
                // A list that took so long that its revision is gone.
                Err(Halt::Gone(error)) => {
                    if let Err(halt) = self.pause(&mut BETWEEN.clone(), error) {
                        return halt;
                    }
                }
                Err(halt) => return halt,
            }
        }
    }

    /// Finds out who is who, and where to begin.
    fn begin(&mut self) -> Result<(), Halt> {
        let here = self.cluster_of(&self.source, &self.prefix)?;
        let there = self.cluster_of(&self.writer.client, &self.dest_prefix)?;
        if here == there
            && let Some(reason) = self.circle()
        {
            return Err(Halt::Failed(Error::invalid(reason)));
        }
        self.cluster = here;
        (self.at, self.owned) = match self.begin {
            Begin::List => (None, false),
            Begin::Revision(first) => (Some(Revision::new(first.get().saturating_sub(1))), false),
            Begin::After(at) => (Some(at), true),
        };
        if let Some(key) = self.checkpoint.clone() {
            let mut backoff = BETWEEN;
            let mark = loop {
                match self.writer.open(key.clone()) {
                    Ok(mark) => break mark,
                    Err(error) => self.pause(&mut backoff, error)?,
                }
            };
            if let Some(mark) = mark {
                self.owned = true;
                let known = mark.cluster == here && mark.revision > Revision::NONE;
                self.at = known.then_some(mark.revision);
            }
        }
        if let Some(at) = self.at {
            self.shared.update(|progress| progress.revision = at);
        }
        Ok(())
    }

    /// Why what it writes would be what it copies, if both are in one cluster. Either may be a view
    /// of a namespace.
    fn circle(&self) -> Option<&'static str> {
        let from = self.source.absolute(&self.prefix);
        let destination = &self.writer.client;
        let to = destination.absolute(&self.dest_prefix);
        let checkpoint = self
            .checkpoint
            .as_ref()
            .map(|key| destination.absolute(key));
        if from.starts_with(&to) || to.starts_with(&from) {
            Some("source and destination are the same keys of the same cluster")
        } else if checkpoint.is_some_and(|key| key.starts_with(&from)) {
            // Each write of it would be a change to copy.
            Some("the checkpoint is one of the keys that are copied")
        } else {
            None
        }
    }

    fn cluster_of(&self, client: &Client, prefix: &Bytes) -> Result<u64, Halt> {
        let mut backoff = BETWEEN;
        loop {
            match client.call(cheap(prefix)) {
                Ok(answer) => return Ok(answer.header().cluster_id),
                Err(error) => self.pause(&mut backoff, error)?,
            }
        }
    }

    /// Waits before the next try, or fails when that cannot help.
    fn pause(&self, backoff: &mut Backoff, error: Error) -> Result<(), Halt> {
        if !is_passing(&error) && error.kind() != ErrorKind::Compacted {
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

    /// Makes the copy that of one revision of the source.
    fn list(&mut self) -> Result<(), Halt> {
        let mut backoff = BETWEEN;
        loop {
            match self.try_list() {
                Err(Halt::Failed(error)) => self.pause(&mut backoff, error)?,
                settled => return settled,
            }
        }
    }

    fn try_list(&mut self) -> Result<(), Halt> {
        let at = self.source.call(cheap(&self.prefix))?.header().revision;
        if self.extraneous == Extraneous::Refuse && !self.owned {
            self.refuse_extraneous(at)?;
        }
        // A copy of a key that goes while this is written would look like somebody else's.
        self.owned = true;
        let listing = Mark {
            cluster: self.cluster,
            revision: Revision::NONE,
        };
        let mut batcher = self.batcher();
        for change in self.difference(at, false)? {
            let change = change?;
            if self.extraneous == Extraneous::Keep && matches!(change, Change::Delete(_)) {
                continue;
            }
            for batch in batcher.add(vec![change], None) {
                self.write(&batch, &listing)?;
            }
        }
        let mut last = batcher.flush().unwrap_or_default();
        last.upto = Some(at);
        self.shared.update(|progress| progress.lists += 1);
        self.write(&last, &listing)
    }

    /// Before anything is written: is there something below the prefix that is not a copy?
    fn refuse_extraneous(&self, at: Revision) -> Result<(), Halt> {
        for change in self.difference(at, true)? {
            if let Change::Delete(key) = change? {
                let reason = format!(
                    "the destination has a key that the source does not have, {:?}: say what is \
                     to become of such keys, with extraneous()",
                    Printed(&key)
                );
                return Err(Halt::Failed(Error::new(
                    ErrorKind::FailedPrecondition,
                    reason,
                )));
            }
        }
        Ok(())
    }

    /// What leads from the copy as it is to the source as it was at `at`.
    fn difference(
        &self,
        at: Revision,
        keys_only: bool,
    ) -> Result<impl Iterator<Item = Result<Change>> + use<>> {
        let wanted = |get: Get| if keys_only { get.keys_only() } else { get };
        let source = wanted(Get::prefix(self.prefix.clone())).revision(at);
        let copy = wanted(Get::prefix(self.dest_prefix.clone()));
        let rename = self.rename();
        let source = pages(&self.source, source)?.map(move |kv| {
            let kv = kv?;
            Ok((rename(kv.key())?, kv.value().clone()))
        });
        let own = self.checkpoint.clone();
        let copy = pages(&self.writer.client, copy)?
            .map(|kv| kv.map(|kv| (kv.key().clone(), kv.value().clone())))
            .filter(move |pair: &Result<Pair>| !matches!(pair, Ok((key, _)) if Some(key) == own.as_ref()));
        Ok(Difference::new(source, copy))
    }

    /// The name of a copy.
    fn rename(&self) -> impl Fn(&Bytes) -> Result<Bytes> + use<> {
        let (from, to) = (self.prefix.len(), self.dest_prefix.clone());
        let own = self.checkpoint.clone();
        move |key| {
            let rest = key.get(from..).unwrap_or_default();
            let copy = Bytes::from([&to[..], rest].concat());
            let problem = if copy.is_empty() {
                "has no name without the prefix"
            } else if Some(&copy) == own.as_ref() {
                "would be copied over the checkpoint"
            } else {
                return Ok(copy);
            };
            Err(Error::invalid(format!(
                "the key {:?} {problem}",
                Printed(key)
            )))
        }
    }

    /// Copies what a watch brings, until that ends.
    fn follow(&mut self, at: Revision) -> Result<(), Halt> {
        let watch = Watch::prefix(self.prefix.clone())
            .after(at)
            .progress_notify();
        let mut backoff = BETWEEN;
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
                    // The client says why when it is asked the next time.
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    /// Copies one response, and with it all that has arrived meanwhile.
    fn take(&mut self, first: WatchResponse, watcher: &Watcher) -> Result<(), Halt> {
        let rename = self.rename();
        let mut batcher = self.batcher();
        let mut next = Some(Ok(first));
        let mut told = self.at.unwrap_or_default();
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
                        EventKind::Put => Change::Put(key, event.kv().value().clone()),
                        EventKind::Delete => Change::Delete(key),
                    });
                }
                let upto = events.first().map(|event| event.revision());
                for batch in batcher.add(changes, upto) {
                    self.write_mark(&batch)?;
                }
            }
            told = told.max(response.revision());
            taken += 1;
            next = (taken < AT_ONCE).then(|| watcher.try_recv().ok()).flatten();
        }
        if let Some(batch) = batcher.flush() {
            self.write_mark(&batch)?;
        }
        // Also what progress told: nothing happened up to there.
        self.arrived(told);
        ended.map_or(Ok(()), |error| Err(error.into()))
    }

    fn write_mark(&mut self, batch: &Batch) -> Result<(), Halt> {
        let before = Mark {
            cluster: self.cluster,
            revision: self.at.unwrap_or_default(),
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

    /// Writes a batch, however long that takes. `mark` is what the copy has if this batch does not
    /// complete a revision.
    fn write(&mut self, batch: &Batch, mark: &Mark) -> Result<(), Halt> {
        let mark = Mark {
            cluster: mark.cluster,
            revision: batch.upto.unwrap_or(mark.revision),
        };
        self.check_stopped()?;
        let mut backoff = BETWEEN;
        let mut again = false;
        if !batch.changes.is_empty() || self.checkpoint.is_some() {
            loop {
                match self.writer.write(batch, &mark, again) {
                    Tried::Written => break,
                    Tried::Failed(error) => return Err(Halt::Failed(error)),
                    Tried::Again(error) => self.pause(&mut backoff, error)?,
                }
                again = true;
            }
        }
        let puts = batch
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Put(..)));
        let puts = u64::try_from(puts.count()).unwrap_or(u64::MAX);
        let all = u64::try_from(batch.changes.len()).unwrap_or(u64::MAX);
        self.shared.update(|progress: &mut CopyProgress| {
            progress.puts += puts;
            progress.deletes += all - puts;
            progress.stalled = None;
        });
        if let Some(upto) = batch.upto {
            self.arrived(upto);
        }
        Ok(())
    }

    fn batcher(&self) -> Batcher {
        // The checkpoint needs a place in each transaction.
        let list = self.limits.list - usize::from(self.checkpoint.is_some());
        Batcher::new(Limits {
            list,
            ..self.limits
        })
    }

    fn arrived(&mut self, at: Revision) {
        self.at = Some(at);
        self.shared.update(|progress| progress.revision = at);
    }
}

/// A linearizable read without keys, of what whoever copies the prefix may read.
fn cheap(prefix: &Bytes) -> Get {
    let range = KeyRange::prefix(prefix.clone());
    Get::key(range.start().clone()).count_only()
}

/// All keys of a range, page by page.
fn pages(client: &Client, get: Get) -> Result<impl Iterator<Item = Result<KeyValue>> + use<>> {
    let pages = client.pages(get, PAGE)?;
    Ok(pages.flat_map(|page| match page {
        Ok(kvs) => kvs.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    }))
}

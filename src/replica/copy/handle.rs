//! What is to be copied where, and what its owner holds while it runs.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::{Condvar, Mutex};

use super::batch::Limits;
use super::copier::Copier;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::Revision;
use crate::types::into_bytes::IntoBytes;

/// Room in a request of 1.5 MiB, etcd's limit unless it is told otherwise (`--max-request-bytes`).
const BYTES: usize = 1 << 20;

/// How often a waiter has the source asked how far the watch is.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Copies a prefix to another cluster and keeps the copy up to date: puts, deletions, and keys whose
/// leases end. The copies hang on no lease.
///
/// First it lists the source at one revision and writes what the destination lacks; then it follows
/// a watch. What the source wrote at one revision is written at one revision, together with others
/// while they touch different keys; only a revision over 1 MiB, or of more than 74,088 keys, is written
/// in parts. While the first list is being written, the copy is that of no revision. Each version of
/// a key is copied, in order, unless history was compacted.
///
/// When either cluster is away it waits and goes on. When the history it needs was compacted
/// meanwhile, or the source lost data, it lists again and writes the exact difference, deletions
/// included.
///
/// # Resuming
///
/// [`CopyProgress::revision`] is how far the copy is. Store it, and go on with
/// [`resume_after`](MakeMirror::resume_after); or let it be kept in the destination with
/// [`checkpoint`](MakeMirror::checkpoint), written in the same transactions as the copy. That also
/// sees to it that a write whose answer was lost, and which is repeated, cannot take effect late, over
/// a newer one; and that two copiers do not write over each other.
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::mirror::MakeMirror;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (a, b) = (etcd_blocking::local::LocalEtcd::start()?, etcd_blocking::local::LocalEtcd::start()?);
/// let source = Client::connect([a.endpoint()])?;
/// let destination = Client::connect([b.endpoint()])?;
/// let put = source.put("app/config", "on")?;
///
/// let copy = MakeMirror::new(&source, &destination)
///     .prefix("app/")
///     .dest_prefix("backup/app/")
///     .checkpoint("mirrors/app")
///     .start()?;
/// copy.wait_revision(put.revision(), Duration::from_secs(10))?;
/// assert_eq!(destination.get("backup/app/config")?.expect("copied").value(), "on");
/// let progress = copy.stop()?;
/// assert!(progress.revision() >= put.revision());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is copied until start()"]
pub struct MakeMirror {
    pub(super) source: Client,
    pub(super) destination: Client,
    pub(super) prefix: Bytes,
    /// The same as the source's unless set.
    pub(super) dest_prefix: Option<Bytes>,
    pub(super) begin: Begin,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) extraneous: Extraneous,
    pub(super) limits: Limits,
}

/// Where the copy begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    List,
    Revision(Revision),
    /// What this made before, up to there.
    After(Revision),
}

/// What to do about keys below the destination's prefix that the source does not have, when the
/// source is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Extraneous {
    /// To begin with, refuse to start, before anything is written: whose are they? After that the
    /// prefix is the mirror's own, and what has disappeared from the source is deleted (the default).
    #[default]
    Refuse,
    /// Delete them: whatever is below the prefix is a copy or goes.
    Delete,
    /// Keep them. What disappeared from the source while it could not be watched cannot be told from
    /// them, so then the mirror ends with [`Compacted`](ErrorKind::Compacted).
    Keep,
}

impl MakeMirror {
    /// Copies every key of `source` to `destination`, unless told otherwise.
    pub fn new(source: &Client, destination: &Client) -> Self {
        MakeMirror {
            source: source.clone(),
            destination: destination.clone(),
            prefix: Bytes::new(),
            dest_prefix: None,
            begin: Begin::List,
            checkpoint: None,
            extraneous: Extraneous::default(),
            limits: Limits {
                list: destination.max_txn_ops(),
                bytes: BYTES,
            },
        }
    }

    /// Copies the keys that begin with this.
    pub fn prefix(mut self, prefix: impl IntoBytes) -> Self {
        self.prefix = prefix.into_bytes();
        self
    }

    /// Replaces the prefix by this one; without it the copies have the names of the originals.
    pub fn dest_prefix(mut self, prefix: impl IntoBytes) -> Self {
        self.dest_prefix = Some(prefix.into_bytes());
        self
    }

    /// Leaves the prefix out of the names of the copies.
    pub fn no_dest_prefix(self) -> Self {
        self.dest_prefix(Bytes::new())
    }

    /// Lists nothing at first and begins with the changes of this revision, as etcdctl's `--rev`.
    pub fn from_revision(mut self, revision: Revision) -> Self {
        self.begin = Begin::Revision(revision);
        self
    }

    /// Goes on after an earlier run that had copied everything up to this revision.
    ///
    /// What is below the destination's prefix is taken for the work of that run.
    pub fn resume_after(mut self, revision: Revision) -> Self {
        self.begin = Begin::After(revision);
        self
    }

    /// Keeps the progress under this key of the destination, and goes on from there when there is one
    /// of the same source; that comes before `resume_after` and `from_revision`.
    ///
    /// The key is the mirror's; one below the destination's prefix is left out of the copy. When it
    /// is not as this mirror left it, the copying ends with [`Conflict`](ErrorKind::Conflict): another
    /// mirror uses it too, or the destination lost data.
    pub fn checkpoint(mut self, key: impl IntoBytes) -> Self {
        self.checkpoint = Some(key.into_bytes());
        self
    }

    /// What to do about keys at the destination that the source does not have.
    pub fn extraneous(mut self, extraneous: Extraneous) -> Self {
        self.extraneous = extraneous;
        self
    }

    /// How many operations a transaction of the destination may have. It is that of the destination's
    /// client unless set ([`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops), 128 by
    /// default), and never more.
    pub fn max_txn_ops(mut self, ops: usize) -> Self {
        self.limits.list = ops.min(self.destination.max_txn_ops());
        self
    }

    /// About how many bytes a transaction of the destination may have; 1 MiB unless set. A key that
    /// is larger goes alone.
    pub fn max_txn_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Begins to copy, in a thread of its own. Returns at once.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for settings that cannot work;
    /// [`Os`](ErrorKind::Os) when the thread cannot be started. What fails later is in
    /// [`MirrorCopy::ended`].
    pub fn start(self) -> Result<MirrorCopy> {
        let about = || Operation::new("make mirror");
        // Two is what a checkpoint and a change are.
        if self.limits.list < 2 || self.limits.bytes == 0 {
            let reason = "a transaction must have room for two operations and for some bytes";
            return Err(Error::invalid(reason).operation(about()));
        }
        if self.checkpoint.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::invalid("the key of the checkpoint is empty").operation(about()));
        }
        let shared = Arc::new(Shared::default());
        let (commands, told) = unbounded();
        let (telling, ended) = bounded(1);
        let copier = Copier::new(self, Arc::clone(&shared), told);
        thread::Builder::new()
            .name("etcd-make-mirror".into())
            .spawn(move || copier.run(&telling))
            .map_err(|error| {
                let reason = format!("cannot start the mirror's thread: {error}");
                Error::new(ErrorKind::Os, reason)
                    .caused_by(error)
                    .operation(about())
            })?;
        Ok(MirrorCopy {
            shared,
            commands: Mutex::new(Some(commands)),
            ended,
        })
    }
}

/// A copy that is being made: see [`MakeMirror`].
///
/// Dropping it ends the copying, after the transaction that is on its way, and does not block.
#[derive(Debug)]
#[must_use = "dropping it ends the copying"]
pub struct MirrorCopy {
    shared: Arc<Shared>,
    commands: Mutex<Option<Sender<Command>>>,
    ended: Receiver<Error>,
}

/// What the thread is told; it ends when nobody can tell it anything any more.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody waits for a revision: ask the source how far the watch is.
    Progress,
}

/// How far a copy is.
#[derive(Clone, Debug, Default)]
pub struct CopyProgress {
    pub(super) revision: Revision,
    pub(super) puts: u64,
    pub(super) deletes: u64,
    pub(super) lists: u64,
    pub(super) stalled: Option<Error>,
}

impl CopyProgress {
    /// Everything that the source wrote up to this revision is copied; none before the first list is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Keys that were put, since the start.
    pub fn puts(&self) -> u64 {
        self.puts
    }

    /// Keys that were deleted, since the start.
    pub fn deletes(&self) -> u64 {
        self.deletes
    }

    /// How often the source was listed: once to begin with, and once for each time that history was
    /// gone.
    pub fn lists(&self) -> u64 {
        self.lists
    }

    /// What is in the way now, if something is; it is tried again.
    pub fn stalled(&self) -> Option<&Error> {
        self.stalled.as_ref()
    }
}

/// What the thread and the handle share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    progress: CopyProgress,
    /// Why it failed; nothing when it was stopped.
    ended: Option<Option<Error>>,
}

impl Shared {
    pub(super) fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        change(&mut self.state.lock().progress);
        self.changed.notify_all();
    }

    /// The first reason stays.
    pub(super) fn end(&self, why: Option<Error>) {
        self.state.lock().ended.get_or_insert(why);
        self.changed.notify_all();
    }
}

impl MirrorCopy {
    /// How far it is. Does not block.
    pub fn progress(&self) -> CopyProgress {
        self.shared.state.lock().progress.clone()
    }

    /// Fires once, with the reason, when the copying failed; it ends without an item when it was
    /// stopped. `recv` on it is how to wait for ever, and it can be `select!`ed.
    pub fn ended(&self) -> &Receiver<Error> {
        &self.ended
    }

    /// Blocks until everything up to `revision` of the source is copied, also when nothing below the
    /// prefix changed. (Servers before 3.4.25 and 3.5.8 do not say truly how far a watch is: with those
    /// it sees only revisions that did change something.)
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it takes longer than `timeout`; why the copying failed;
    /// [`Closed`](ErrorKind::Closed) when it was stopped.
    pub fn wait_revision(&self, revision: Revision, timeout: Duration) -> Result<CopyProgress> {
        let begun = Instant::now();
        let about = || Operation::about("wait for the copy of revision", revision);
        let mut state = self.shared.state.lock();
        loop {
            if state.progress.revision >= revision {
                return Ok(state.progress.clone());
            }
            if let Some(ended) = &state.ended {
                let stopped = || Error::new(ErrorKind::Closed, "the copying was stopped");
                return Err(ended.clone().unwrap_or_else(stopped).operation(about()));
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let reason = format!(
                    "the copy is at revision {} after {timeout:?}",
                    state.progress.revision
                );
                let late = Error::new(ErrorKind::Timeout, reason).operation(about());
                return Err(match &state.progress.stalled {
                    Some(error) => late.last(error.to_string()),
                    None => late,
                });
            }
            if let Some(commands) = &*self.commands.lock() {
                // One that has ended says so in the state.
                let _ = commands.send(Command::Progress);
            }
            self.shared
                .changed
                .wait_for(&mut state, left.min(ASK_AGAIN));
        }
    }

    /// Ends the copying and returns how far it came. Blocks until the transaction that is on its way
    /// is answered, at most for the destination's timeout.
    ///
    /// # Errors
    ///
    /// Why the copying had failed before; [`progress`](MirrorCopy::progress) still says how far it
    /// came.
    pub fn stop(&self) -> Result<CopyProgress> {
        drop(self.commands.lock().take());
        let mut state = self.shared.state.lock();
        loop {
            match &state.ended {
                Some(None) => return Ok(state.progress.clone()),
                Some(Some(error)) => return Err(error.clone()),
                None => self.shared.changed.wait(&mut state),
            }
        }
    }
}

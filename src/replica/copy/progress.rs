//! Progress of a copy, shared by the copying thread and the handle.

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::types::Revision;

/// Progress of a [`MirrorCopy`](crate::mirror::MirrorCopy) at one moment.
///
/// ```no_run
/// use etcd_blocking::mirror::MakeMirror;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// # let other = client.clone();
/// let copy = MakeMirror::new(&client, &other).prefix("app/").dest_prefix("copy/").start()?;
/// let progress = copy.progress();
/// println!("copied up to revision {}, {} keys put", progress.revision(), progress.puts());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CopyProgress {
    pub(super) revision: Revision,
    pub(super) puts: u64,
    pub(super) deletes: u64,
    pub(super) lists: u64,
    pub(super) stalled: Option<Error>,
}

impl CopyProgress {
    /// The revision of the source up to which everything is copied; 0 until the first list is copied.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The number of keys put since the start.
    pub fn puts(&self) -> u64 {
        self.puts
    }

    /// The number of keys deleted since the start.
    pub fn deletes(&self) -> u64 {
        self.deletes
    }

    /// The number of lists of the source: the first one, and one for each time that history was lost.
    pub fn lists(&self) -> u64 {
        self.lists
    }

    /// The error that blocks the copy at present; `None` while it makes progress. The failed step is
    /// retried until it succeeds.
    pub fn stalled(&self) -> Option<&Error> {
        self.stalled.as_ref()
    }
}

/// Commands from the handle to the copying thread, which ends when the channel is disconnected.
#[derive(Debug)]
pub(super) enum Command {
    /// A caller waits for a revision: request the progress of the source's watch.
    Progress,
}

/// State shared by the copying thread and the handle.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) progress: CopyProgress,
    /// The epoch of the store of `progress.revision`.
    pub(super) epoch: u64,
    /// Set when the copying has ended: the error, or `None` when it was stopped.
    pub(super) ended: Option<Option<Error>>,
}

impl Shared {
    pub(super) fn update(&self, change: impl FnOnce(&mut CopyProgress)) {
        change(&mut self.state.lock().progress);
        self.changed.notify_all();
    }

    /// Records that everything up to this revision of the store with this epoch is copied.
    pub(super) fn copied(&self, epoch: u64, revision: Revision) {
        let mut state = self.state.lock();
        (state.epoch, state.progress.revision) = (epoch, revision);
        drop(state);
        self.changed.notify_all();
    }

    /// Records the end; the first reason is kept.
    pub(super) fn end(&self, why: Option<Error>) {
        self.state.lock().ended.get_or_insert(why);
        self.changed.notify_all();
    }
}

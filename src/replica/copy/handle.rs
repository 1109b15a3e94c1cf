//! Handle of a running copy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::progress::{Command, CopyProgress, Shared};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::SharedStoreIdentity;
use crate::types::Revision;

/// Interval at which a waiter requests the progress of the source's watch: the first request may be sent
/// before the watch is created.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Handle of a running copy, started by [`MakeMirror::start`](crate::mirror::MakeMirror::start).
///
/// Dropping it ends the copying after the transaction in flight, and does not block. Call
/// [`stop`](MirrorCopy::stop) to wait for the end.
///
/// ```no_run
/// use etcd_blocking::Client;
/// use etcd_blocking::mirror::MakeMirror;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let source = Client::connect(["http://10.0.0.1:2379"])?;
/// let destination = Client::connect(["http://10.1.0.1:2379"])?;
/// let copy = MakeMirror::new(&source, &destination).prefix("app/").start()?;
/// if let Ok(error) = copy.ended().recv() {
///     eprintln!("{error}, after revision {}", copy.progress().revision());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the copying"]
pub struct MirrorCopy {
    pub(super) shared: Arc<Shared>,
    /// The store of the source.
    pub(super) store: Arc<SharedStoreIdentity>,
    pub(super) commands: Mutex<Option<Sender<Command>>>,
    pub(super) ended: Receiver<Error>,
}

impl MirrorCopy {
    /// The current progress. Does not block.
    pub fn progress(&self) -> CopyProgress {
        self.shared.state.lock().progress.clone()
    }

    /// Receives one item, the error, when the copying has failed. The channel is disconnected without an
    /// item when it was stopped. `recv` blocks until the end of the copying, and the receiver can be used in
    /// `select!`.
    pub fn ended(&self) -> &Receiver<Error> {
        &self.ended
    }

    /// Blocks until everything up to `revision` of the source is copied, for `timeout` at most.
    ///
    /// `revision` is one of the store that answered the source's client last: after the source lost its data, this
    /// waits until the new list is copied. It also returns when `revision` changed no key below the prefix. (Servers
    /// before 3.4.25 and 3.5.8 report a wrong watch progress; with those, `revision` must have changed such a key.)
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it takes longer than `timeout`; the error with which the copying
    /// failed; [`Closed`](ErrorKind::Closed) when it was stopped.
    pub fn wait_revision(&self, revision: Revision, timeout: Duration) -> Result<CopyProgress> {
        let begun = Instant::now();
        let about = || Operation::about("wait for the copy of revision", revision);
        // Revisions alone are not compared: those of a lost store may be higher.
        let position = (self.store.epoch(), revision);
        let mut state = self.shared.state.lock();
        loop {
            if (state.epoch, state.progress.revision) >= position {
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
                // A send fails only after the end, which the state reports.
                let _ = commands.send(Command::Progress);
            }
            self.shared
                .changed
                .wait_for(&mut state, left.min(PROGRESS_INTERVAL));
        }
    }

    /// Stops the copying and returns its progress.
    ///
    /// Blocks until the transaction in flight is answered, for the destination's timeout at most.
    ///
    /// # Errors
    ///
    /// The error with which the copying had already failed; [`progress`](MirrorCopy::progress) remains
    /// available.
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

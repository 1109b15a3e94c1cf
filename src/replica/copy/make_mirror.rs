//! Builder of a copy.

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{bounded, unbounded};
use parking_lot::Mutex;

use super::batch::TxnLimits;
use super::copier::Copier;
use super::handle::MirrorCopy;
use super::plan::{Begin, CopyPlan, Extraneous};
use super::progress::Shared;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::Revision;
use crate::types::into_bytes::IntoBytes;

/// Size of a transaction, below etcd's default request limit of 1.5 MiB (`--max-request-bytes`).
const MAX_TXN_BYTES: usize = 1 << 20;

/// Copies a prefix to another cluster and keeps the copy up to date.
///
/// It copies puts, deletions and the expiry of leases. The copied keys are attached to no lease.
///
/// It lists the source at one revision and writes the differences to the destination; then it follows a
/// watch. All changes that the source made at one revision are written in one transaction, together with
/// later changes as long as these are of different keys. Only a revision over 1 MiB, or of more than 74,088
/// keys, is split. While the first list is being written, the copy corresponds to no single revision of the
/// source. Every version of a key is copied, in order, unless history was compacted.
///
/// While either cluster is unavailable it retries. When the history that it needs was compacted, or the
/// source lost data, it lists again and writes the exact difference, including deletions.
///
/// # Resuming
///
/// [`CopyProgress::revision`](crate::mirror::CopyProgress::revision) is the revision up to which everything
/// is copied. Store it and continue with [`resume_after`](MakeMirror::resume_after), or keep it in the
/// destination with [`checkpoint`](MakeMirror::checkpoint), which is written in the same transactions as the
/// copy. A checkpoint also prevents that a repeated write takes effect late, over a newer one, and that two
/// copiers overwrite each other's keys.
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
    plan: CopyPlan,
}

impl MakeMirror {
    /// Creates a builder that copies every key of `source` to `destination`.
    pub fn new(source: &Client, destination: &Client) -> Self {
        let plan = CopyPlan {
            source: source.clone(),
            destination: destination.clone(),
            prefix: Bytes::new(),
            dest_prefix: None,
            begin: Begin::List,
            checkpoint: None,
            extraneous: Extraneous::default(),
            limits: TxnLimits {
                list: destination.max_txn_ops(),
                bytes: MAX_TXN_BYTES,
            },
        };
        MakeMirror { plan }
    }

    /// Copies only the keys that begin with `prefix`.
    pub fn prefix(mut self, prefix: impl IntoBytes) -> Self {
        self.plan.prefix = prefix.into_bytes();
        self
    }

    /// Replaces the source's prefix in the names of the copies; by default the names are the same.
    pub fn dest_prefix(mut self, prefix: impl IntoBytes) -> Self {
        self.plan.dest_prefix = Some(prefix.into_bytes());
        self
    }

    /// Removes the source's prefix from the names of the copies.
    pub fn no_dest_prefix(self) -> Self {
        self.dest_prefix(Bytes::new())
    }

    /// Begins with the changes of this revision, without a first list, as `etcdctl make-mirror --rev` does.
    pub fn from_revision(mut self, revision: Revision) -> Self {
        self.plan.begin = Begin::Revision(revision);
        self
    }

    /// Continues an earlier run that has copied everything up to this revision.
    ///
    /// All keys below the destination's prefix count as copies of that run.
    pub fn resume_after(mut self, revision: Revision) -> Self {
        self.plan.begin = Begin::After(revision);
        self
    }

    /// Keeps the progress under this key of the destination, and continues from it when it exists and is
    /// of the same source; it then overrides `resume_after` and `from_revision`.
    ///
    /// No other program may write the key; below the destination's prefix, it is not part of the copy.
    /// When its value is not the one that this copier wrote last, the copying ends with
    /// [`Conflict`](ErrorKind::Conflict): another copier uses the key too, or the destination lost data.
    pub fn checkpoint(mut self, key: impl IntoBytes) -> Self {
        self.plan.checkpoint = Some(key.into_bytes());
        self
    }

    /// Sets the policy for keys of the destination that the source does not have; by default
    /// [`Refuse`](Extraneous::Refuse).
    pub fn extraneous(mut self, extraneous: Extraneous) -> Self {
        self.plan.extraneous = extraneous;
        self
    }

    /// Sets the maximum number of operations in a transaction of the destination. The limit of the
    /// destination's client ([`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops), 128 by
    /// default) is the default and the upper bound.
    pub fn max_txn_ops(mut self, ops: usize) -> Self {
        self.plan.limits.list = ops.min(self.plan.destination.max_txn_ops());
        self
    }

    /// Sets the approximate size limit, in bytes, of a transaction of the destination; 1 MiB by default. A
    /// larger key is written in a transaction of its own.
    pub fn max_txn_bytes(mut self, bytes: usize) -> Self {
        self.plan.limits.bytes = bytes;
        self
    }

    /// Starts the copying in a thread of its own and returns at once.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an empty checkpoint key, for fewer than two
    /// operations or for 0 bytes per transaction; [`Os`](ErrorKind::Os) when the thread cannot be started.
    /// Later errors are reported by [`MirrorCopy::ended`].
    pub fn start(self) -> Result<MirrorCopy> {
        let about = || Operation::new("make mirror");
        // A transaction holds at least the checkpoint and one change.
        if self.plan.limits.list < 2 || self.plan.limits.bytes == 0 {
            let reason = "a transaction needs room for at least 2 operations and 1 byte";
            return Err(Error::invalid(reason).operation(about()));
        }
        if self.plan.checkpoint.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::invalid("the checkpoint key is empty").operation(about()));
        }
        let shared = Arc::new(Shared::default());
        let store = self.plan.source.store_identity();
        let (commands, received) = unbounded();
        let (end_sender, ended) = bounded(1);
        let copier = Copier::new(self.plan, Arc::clone(&shared), received);
        thread::Builder::new()
            .name("etcd-make-mirror".into())
            .spawn(move || copier.run(&end_sender))
            .map_err(|error| {
                let reason = format!("cannot start the thread of the copy: {error}");
                Error::new(ErrorKind::Os, reason)
                    .caused_by(error)
                    .operation(about())
            })?;
        Ok(MirrorCopy {
            shared,
            store,
            commands: Mutex::new(Some(commands)),
            ended,
        })
    }
}

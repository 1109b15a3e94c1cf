//! Settings of a copy: source, destination, start position, and policy for extra keys.

use bytes::Bytes;

use super::batch::TxnLimits;
use crate::client::Client;
use crate::types::Revision;

/// The settings of a copier.
#[derive(Clone, Debug)]
pub(super) struct CopyPlan {
    pub(super) source: Client,
    pub(super) destination: Client,
    pub(super) prefix: Bytes,
    /// The source's prefix unless set.
    pub(super) dest_prefix: Option<Bytes>,
    pub(super) begin: Begin,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) extraneous: Extraneous,
    pub(super) limits: TxnLimits,
}

/// Position at which the copy begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// With a list of the source.
    List,
    /// With the changes of this revision.
    Revision(Revision),
    /// After this revision, up to which an earlier run has copied everything.
    After(Revision),
}

/// Policy for keys below the destination's prefix that the source does not have, applied when the source is
/// listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Extraneous {
    /// The first list fails before anything is written when there are such keys. After the first list, all
    /// keys below the prefix count as copies, and later lists delete those that the source no longer has.
    /// The default.
    #[default]
    Refuse,
    /// Every list deletes them.
    Delete,
    /// They are kept. They cannot be distinguished from copies of keys that the source deleted while it
    /// could not be watched; in that case the copying ends with
    /// [`Compacted`](crate::ErrorKind::Compacted).
    Keep,
}

//! The kind of the steps of an entry and their size in a request. Pure.

/// The kind of the steps of an entry: writes, which deletes and reads may accompany; deletes, which reads
/// may accompany; or reads. Only steps of one kind share a transaction: a refused delete must not
/// delay writes, and a full store, which accepts deletes, must not delay deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum StepKind {
    Write,
    Delete,
    Read,
}

/// The kind of the steps of an entry that are due, how many operations of a transaction they are, and how many
/// bytes of a request they take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepSize {
    pub(super) kind: StepKind,
    pub(super) steps: usize,
    pub(super) bytes: usize,
}

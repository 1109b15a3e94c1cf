//! The kind of a step and its size in a request. Pure.

/// The kind of a step. Only steps of one kind share a transaction: a refused delete must not
/// delay writes, and a full store, which accepts deletes, must not delay deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum StepKind {
    Write,
    Delete,
    Read,
}

/// The kind of a step that is due, and how many bytes of a request it takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepSize {
    pub(super) kind: StepKind,
    pub(super) bytes: usize,
}

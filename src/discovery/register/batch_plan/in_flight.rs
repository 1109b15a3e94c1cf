//! A batch in flight and its size.

use crate::discovery::register::batch_size::BatchSize;
use crate::discovery::register::step_size::{StepKind, StepSize};

/// A batch that was sent and has no result yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) kind: StepKind,
    pub(super) numbers: Vec<u64>,
    pub(super) size: Size,
    pub(super) from: Source,
}

/// The part of the plan that a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Ready,
    Split,
    Isolated,
}

/// The number of steps in a batch, and how many bytes of a request they take at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) steps: usize,
    pub(super) bytes: usize,
}

impl Size {
    /// The largest batch at the moment.
    pub(super) fn most(limit: &BatchSize) -> Self {
        Size {
            steps: limit.steps(),
            bytes: limit.bytes(),
        }
    }

    pub(super) fn plus(self, added: StepSize) -> Self {
        Size {
            steps: self.steps.saturating_add(added.steps),
            bytes: self.bytes.saturating_add(added.bytes),
        }
    }

    pub(super) fn fits(self, most: Size) -> bool {
        self.steps <= most.steps && self.bytes <= most.bytes
    }
}

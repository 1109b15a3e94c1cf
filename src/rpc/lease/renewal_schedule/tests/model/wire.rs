//! A stream of the model, with the messages in transit.

use std::collections::VecDeque;

use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum WireState {
    #[default]
    Closed,
    Opening,
    Open,
}

/// A stream, and the messages in transit.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) state: WireState,
    pub(super) up: VecDeque<Request>,
    pub(super) down: VecDeque<Reply>,
    /// The server has ended the stream and reads no more.
    pub(super) ended: bool,
}

impl Wire {
    pub(super) fn asks(&self, lease: LeaseId) -> bool {
        let replies = self.down.iter().map(|reply| &reply.request);
        self.up
            .iter()
            .chain(replies)
            .any(|request| request.lease == lease)
    }
}

/// A renewal in transit.
pub(super) struct Request {
    pub(super) lease: LeaseId,
    pub(super) sent: BootTime,
}

pub(super) struct Reply {
    pub(super) request: Request,
    pub(super) answer: Answer,
}

pub(super) enum Answer {
    /// The time to live, and the end of the lease on the server if it is not renewed again.
    Lives(i64, BootTime),
    /// The server ends the stream.
    Refused,
}

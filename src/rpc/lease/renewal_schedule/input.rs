//! The inputs of the renewal schedule.

use std::time::Duration;

use super::stream_failure::StreamFailure;
use super::stream_role::StreamRole;
use crate::types::LeaseId;

/// An input of the schedule.
#[derive(Clone, Debug)]
pub(in crate::rpc::lease) enum Input {
    /// Keeps a lease alive; its first answer must arrive `within` this time.
    Add { lease: LeaseId, within: Duration },
    /// Stops keeping a lease alive.
    Remove(LeaseId),
    /// The stream is open for requests.
    Opened(StreamRole),
    /// The server answered a renewal. `ttl` is in seconds; 0 or less stands for no such lease.
    Answer {
        role: StreamRole,
        lease: LeaseId,
        ttl: i64,
    },
    /// The stream ended, or could not be opened.
    Broken(StreamRole, StreamFailure),
    /// The server ended the stream because it refused the oldest unanswered renewal.
    Refused(StreamRole, StreamFailure),
    /// The server answered a renewal on the late stream.
    LateAnswer { lease: LeaseId, ttl: i64 },
    /// The late stream ended.
    LateStreamEnded,
    /// Time has passed.
    Tick,
}

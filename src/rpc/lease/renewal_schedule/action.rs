//! The actions of the renewal schedule.

use std::time::Duration;

use super::lease_end::LeaseEnd;
use super::stream_role::StreamRole;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// An action for the task.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) enum Action {
    /// Open a stream.
    Open(StreamRole),
    /// Keep the shared stream as the late stream, in place of an earlier one: its member has not answered
    /// for `waited`. The next shared stream uses another member.
    Hedge { waited: Duration },
    /// Drop the late stream: another one has answered.
    CloseLateStream,
    /// Drop the isolated stream: its member has not answered for `waited`. The next one uses another
    /// member.
    Abandon { waited: Duration },
    /// Drop the stream, which is not needed any more.
    Close(StreamRole),
    /// Send a renewal.
    Send(StreamRole, LeaseId),
    /// Report that a lease was renewed.
    Renewed {
        lease: LeaseId,
        ttl: Duration,
        until: BootTime,
    },
    /// Report that half of the time to live of a renewed lease is left, and its renewal is not answered.
    /// The next report is that of a renewal or of the end.
    Late(LeaseId),
    /// Report that a lease has ended. The schedule has removed it.
    Ended { lease: LeaseId, end: LeaseEnd },
}

//! The task's end of a keep-alive handle.

use super::lease_status::LeaseStatusWriter;
use super::renewal::Renewal;
use crate::error::{Error, Result};
use crate::runtime::BoundedSender;
use crate::util::boot_time::BootTime;

/// The task's end of a [`KeepAlive`](super::keep_alive::KeepAlive).
#[derive(Debug)]
pub(super) struct LeaseHolder {
    pub(super) number: u64,
    renewals: BoundedSender<Result<Renewal>>,
    status: LeaseStatusWriter,
}

impl LeaseHolder {
    pub(super) fn new(
        number: u64,
        renewals: BoundedSender<Result<Renewal>>,
        status: LeaseStatusWriter,
    ) -> Self {
        LeaseHolder {
            number,
            renewals,
            status,
        }
    }

    /// Reports a renewal. Returns `false` when the loss of the lease was reported before.
    pub(super) fn renewed(&mut self, renewal: &Renewal, until: BootTime) -> bool {
        let accepted = self.status.renewed(until);
        if accepted {
            // A full channel drops the renewal: the status has the newest state.
            let _ = self.renewals.offer(Ok(renewal.clone()), 0);
        }
        accepted
    }

    /// Reports the loss of the lease.
    pub(super) fn lost(self, why: Error) {
        let why = self.status.lost(why);
        self.renewals.finish(why);
    }

    /// Ends without a report: the handle was dropped.
    pub(super) fn dropped(self) {
        self.status.dropped();
        self.renewals.end();
    }
}

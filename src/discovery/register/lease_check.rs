//! Finds out whether a lease is denied to us.

use std::time::{Duration, Instant};

use crossbeam_channel::Select;

use super::leases::Leases;
use crate::client::Client;
use crate::error::ErrorKind;
use crate::rpc::lease::{KeepAliveOnce, Renewal};
use crate::runtime::Pending;
use crate::types::LeaseId;

/// Asks etcd whether a lease is denied to this client: a renewal is refused as long as a key hangs
/// on the lease that the user may not write.
#[derive(Debug)]
pub(super) struct LeaseCheck {
    client: Client,
    asked: Option<(LeaseId, Pending<Renewal>)>,
    not_before: Option<Instant>,
}

/// The least time between two checks.
const BETWEEN_CHECKS: Duration = Duration::from_millis(200);

impl LeaseCheck {
    pub(super) fn new(client: &Client) -> Self {
        LeaseCheck {
            client: client.clone(),
            asked: None,
            not_before: None,
        }
    }

    pub(super) fn ask(&mut self, lease: LeaseId, now: Instant) {
        if self.asked.is_none() && self.not_before.is_none_or(|at| at <= now) {
            self.not_before = Some(now + BETWEEN_CHECKS);
            let renewal = self.client.submit(KeepAliveOnce::new(lease));
            self.asked = Some((lease, renewal));
        }
    }

    /// The lease that is denied, when that became known.
    pub(super) fn answer(&mut self) -> Option<LeaseId> {
        let (lease, reply) = self.asked.as_ref()?;
        let (lease, answer) = (*lease, reply.try_wait()?);
        self.asked = None;
        let error = answer.err()?;
        (error.kind() == ErrorKind::PermissionDenied).then_some(lease)
    }

    /// When a lease that is suspect is to be checked again.
    pub(super) fn due(&self, is_suspect: bool, leases: &Leases) -> Option<Instant> {
        let idle = self.asked.is_none() && is_suspect && leases.current.is_some();
        self.not_before.filter(|_| idle)
    }

    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if let Some((_, reply)) = &self.asked {
            select.recv(reply.receiver());
        }
    }
}

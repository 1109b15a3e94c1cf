//! Detects that etcd denies this client the use of its lease.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::registrar_leases::RegistrarLeases;
use crate::client::Client;
use crate::error::ErrorKind;
use crate::rpc::lease::{KeepAliveOnce, Renewal};
use crate::runtime::Pending;
use crate::types::LeaseId;

/// Asks etcd whether a lease is denied to this client, by renewing it once. etcd refuses the renewal
/// while a key that the user may not write is attached to the lease.
#[derive(Debug)]
pub(super) struct LeaseCheck {
    client: Client,
    pending: Option<(LeaseId, Pending<Renewal>)>,
    not_before: Option<Instant>,
}

/// The least time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

impl LeaseCheck {
    pub(super) fn new(client: &Client) -> Self {
        LeaseCheck {
            client: client.clone(),
            pending: None,
            not_before: None,
        }
    }

    pub(super) fn ask(&mut self, lease: LeaseId, now: Instant) {
        if self.pending.is_none() && self.not_before.is_none_or(|at| at <= now) {
            // Many refused steps at once need one check.
            self.not_before = Some(now + CHECK_INTERVAL);
            let renewal = self.client.submit(KeepAliveOnce::new(lease));
            self.pending = Some((lease, renewal));
        }
    }

    /// The denied lease, once the answer has arrived.
    pub(super) fn answer(&mut self) -> Option<LeaseId> {
        let (lease, reply) = self.pending.as_ref()?;
        let (lease, answer) = (*lease, reply.try_wait()?);
        self.pending = None;
        let error = answer.err()?;
        // Other failures show nothing about the permissions of the lease.
        (error.kind() == ErrorKind::PermissionDenied).then_some(lease)
    }

    /// The time at which a suspect lease is checked again.
    pub(super) fn due(&self, is_suspect: bool, leases: &RegistrarLeases) -> Option<Instant> {
        let idle = self.pending.is_none() && is_suspect && leases.current.is_some();
        self.not_before.filter(|_| idle)
    }

    pub(super) fn wait(&self, waker: &Waker) {
        if let Some((_, reply)) = &self.pending {
            reply.wake_when_ready(waker);
        }
    }
}

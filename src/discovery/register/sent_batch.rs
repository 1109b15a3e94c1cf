//! A transaction that a registrar sent.

use std::time::Instant;

use super::batch::SentStep;
use crate::rpc::kv::TxnResponse;
use crate::runtime::Pending;
use crate::types::LeaseId;

/// A transaction that was sent and is not answered yet.
#[derive(Debug)]
pub(super) struct SentBatch {
    pub(super) steps: Vec<SentStep>,
    /// The lease that it writes under.
    pub(super) lease: Option<LeaseId>,
    pub(super) since: Instant,
    pub(super) answer: Pending<TxnResponse>,
}

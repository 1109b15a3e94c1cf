//! Several steps in one transaction, each under its own condition.

use bytes::Bytes;

use super::claim::{Expect, Step};
use crate::kv::{Compare, Delete, Get, Op, OpResponse, Put, Txn, TxnResponse};
use crate::types::KeyValue;

/// So many steps in one transaction. A server allows 128 operations, less those of a nested one.
pub(super) const STEPS: usize = 100;

/// So many bytes, of a request that may have 1.5 MiB.
pub(super) const BYTES: usize = 512 << 10;

/// One step as a transaction: done under its condition, else what is there instead.
pub(super) fn op(key: &Bytes, value: &Bytes, step: Step) -> Op {
    let txn = match step {
        Step::Write(expect, lease) => {
            let key = key.clone();
            let condition = match expect {
                Expect::Absent => vec![Compare::version(key.clone()).eq(0)],
                Expect::Unchanged(revision, lease) => vec![
                    Compare::mod_revision(key.clone()).eq(revision),
                    Compare::lease(key.clone()).eq(lease),
                ],
                Expect::Lease(lease) => vec![Compare::lease(key.clone()).eq(Some(lease))],
            };
            Txn::when(condition)
                .then([Put::new(key.clone(), value.clone()).lease(lease)])
                .or_else([Get::key(key)])
        }
        Step::Delete(lease) => Txn::when([Compare::lease(key.clone()).eq(Some(lease))])
            .then([Delete::key(key.clone())]),
    };
    txn.into()
}

/// What became of a step.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome<'a> {
    Done,
    Found(Option<&'a KeyValue>),
}

/// What became of the steps of a batch, in their order.
pub(super) fn outcomes(response: &TxnResponse) -> impl Iterator<Item = Outcome<'_>> {
    response.responses().iter().map(|response| match response {
        OpResponse::Txn(inner) if inner.succeeded() => Outcome::Done,
        OpResponse::Txn(inner) => Outcome::Found(inner.get(0).and_then(|get| get.first())),
        _ => Outcome::Found(None),
    })
}

//! Transactions.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::{Compare, Delete, DeleteResponse, Get, GetResponse, Put, PutResponse, header};
use crate::error::{Error, Operation, Result};
use crate::etcd_rs_proto::etcdserverpb::{
    RequestOp, ResponseOp, TxnRequest, TxnResponse as PbTxnResponse, request_op, response_op,
};
use crate::request::sealed::Exchange;
use crate::transport::{Call, Mode, Transport, outgoing};
use crate::types::{ResponseHeader, Revision};

/// Several operations at one revision, guarded by comparisons: all of `then`, or all of `or_else`.
///
/// A server refuses more than 128 operations in one list by default, and a key that is put twice.
///
/// ```no_run
/// use etcd_blocking::{Client, Compare, Get, Put, Txn};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let taken = client.txn(
///     Txn::when([Compare::version("job/1").eq(0)])
///         .then([Put::new("job/1", "me")])
///         .or_else([Get::key("job/1")]),
/// )?;
/// if !taken.succeeded() {
///     println!("it is {:?}'s", taken.get(0).and_then(|get| get.first()?.value_str()));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Txn {
    compare: Vec<Compare>,
    then: Vec<Op>,
    or_else: Vec<Op>,
}

/// One operation of a transaction; `Get`, `Put`, `Delete` and `Txn` turn into it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// A read.
    Get(Get),
    /// A write.
    Put(Put),
    /// A deletion.
    Delete(Delete),
    /// A transaction within.
    Txn(Txn),
}

impl From<Get> for Op {
    fn from(get: Get) -> Self {
        Op::Get(get)
    }
}

impl From<Put> for Op {
    fn from(put: Put) -> Self {
        Op::Put(put)
    }
}

impl From<Delete> for Op {
    fn from(delete: Delete) -> Self {
        Op::Delete(delete)
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Op::Txn(txn)
    }
}

impl Txn {
    /// Guarded by all of these.
    pub fn when(compare: impl IntoIterator<Item = Compare>) -> Self {
        Txn {
            compare: compare.into_iter().collect(),
            ..Txn::default()
        }
    }

    /// Not guarded: runs `ops`.
    pub fn always(ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        Txn::default().then(ops)
    }

    /// Adds to what runs when every guard holds.
    pub fn then(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        self.then.extend(ops.into_iter().map(Into::into));
        self
    }

    /// Adds to what runs when one does not.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        self.or_else.extend(ops.into_iter().map(Into::into));
        self
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.then.iter().chain(&self.or_else)
    }

    fn pb(self) -> TxnRequest {
        TxnRequest {
            compare: self.compare.into_iter().map(|compare| compare.pb).collect(),
            success: self.then.into_iter().map(Op::pb).collect(),
            failure: self.or_else.into_iter().map(Op::pb).collect(),
        }
    }
}

impl Op {
    fn pb(self) -> RequestOp {
        use request_op::Request;

        let request = match self {
            Op::Get(get) => Request::RequestRange(get.pb),
            Op::Put(put) => Request::RequestPut(put.pb),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.pb),
            Op::Txn(txn) => Request::RequestTxn(txn.pb()),
        };
        RequestOp {
            request: Some(request),
        }
    }

    fn check(&self) -> Result<()> {
        let checked = match self {
            Op::Get(get) => get.check().map_err(|error| (error, get.operation())),
            Op::Put(put) => put.check().map_err(|error| (error, put.operation())),
            Op::Delete(delete) => delete.check().map_err(|error| (error, delete.operation())),
            Op::Txn(txn) => return txn.check(),
        };
        checked.map_err(|(error, operation)| Error::invalid(error.operation(operation).to_string()))
    }
}

impl Exchange for Txn {
    type Response = TxnResponse;

    fn operation(&self) -> Operation {
        name(self.then.len(), self.or_else.len())
    }

    fn check(&self) -> Result<()> {
        for compare in &self.compare {
            if let Some(problem) = compare.keys().problem() {
                return Err(Error::invalid(format!("{compare:?}: {problem}")));
            }
        }
        self.ops().try_for_each(Op::check)
    }

    fn writes(&self) -> bool {
        self.ops().any(|op| match op {
            Op::Get(_) => false,
            Op::Put(_) | Op::Delete(_) => true,
            Op::Txn(txn) => txn.writes(),
        })
    }

    fn encoded_len(&self) -> usize {
        self.clone().pb().encoded_len()
    }

    fn exchange(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<TxnResponse>> + Send + 'static {
        let mode = if self.writes() {
            Mode::Write
        } else {
            Mode::Read
        };
        let (then, or_else) = (self.then.len(), self.or_else.len());
        let pb = self.pb();
        transport.unary(
            Call { mode, timeout },
            move || name(then, or_else),
            move |connection| {
                let request = outgoing(pb.clone(), true);
                async move { connection.kv().txn(request).await }
            },
        )
    }
}

fn name(then: usize, or_else: usize) -> Operation {
    Operation::about(
        "txn",
        format_args!("of {then} then and {or_else} else operations"),
    )
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TxnResponse {
    header: ResponseHeader,
    succeeded: bool,
    responses: Vec<OpResponse>,
}

/// The answer to one operation of a transaction.
///
/// The headers in it carry the revision only; who answered is in the outer one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OpResponse {
    /// To a read.
    Get(GetResponse),
    /// To a write.
    Put(PutResponse),
    /// To a deletion.
    Delete(DeleteResponse),
    /// To a transaction within.
    Txn(TxnResponse),
}

impl TxnResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision of all its writes, or that of the store when it wrote nothing.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }

    /// Whether every guard held, and so `then` ran.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// The answers, one for each operation that ran, in their order.
    pub fn responses(&self) -> &[OpResponse] {
        &self.responses
    }

    /// The answer of operation `index`, if that was a read.
    pub fn get(&self, index: usize) -> Option<&GetResponse> {
        match self.responses.get(index) {
            Some(OpResponse::Get(get)) => Some(get),
            _ => None,
        }
    }
}

impl From<PbTxnResponse> for TxnResponse {
    fn from(pb: PbTxnResponse) -> Self {
        let header = header(pb.header);
        let responses = pb.responses.into_iter();
        TxnResponse {
            header,
            succeeded: pb.succeeded,
            responses: responses
                .filter_map(|op| op_response(op, header.revision))
                .collect(),
        }
    }
}

fn op_response(pb: ResponseOp, revision: Revision) -> Option<OpResponse> {
    use response_op::Response;

    Some(match pb.response? {
        Response::ResponseRange(get) => OpResponse::Get(get.into()),
        Response::ResponsePut(put) => OpResponse::Put(put.into()),
        Response::ResponseDeleteRange(delete) => OpResponse::Delete(delete.into()),
        Response::ResponseTxn(mut txn) => {
            // Of all the answers in a transaction, etcd leaves the revision out of this one.
            let header = txn.header.get_or_insert_default();
            if header.revision == 0 {
                header.revision = revision.get();
            }
            OpResponse::Txn(txn.into())
        }
    })
}

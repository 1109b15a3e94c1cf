//! Transactions.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message as _, length_delimiter_len};

use super::{Compare, Delete, DeleteResponse, Get, GetResponse, Put, PutResponse, header};
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    RequestOp, ResponseOp, TxnRequest, TxnResponse as PbTxnResponse, request_op, response_op,
};
use crate::grpc::{Call, Consistency, Framed, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::{ResponseHeader, Revision};

/// Several operations at one revision, guarded by comparisons: all of `then`, or all of `or_else`.
///
/// More than 128 operations are refused before anything is sent
/// ([`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops)), and so are transactions nested
/// more than 40 deep, the outermost counted. A server refuses a key that is put twice.
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
    /// How many levels of transactions are within.
    levels: usize,
}

/// How many transactions may be within each other, the outermost counted.
///
/// prost decodes 100 messages within each other and no more. Each level of an answer is two of them, and
/// a key and its value in the innermost are three: 49 levels are the most. etcd itself stops at
/// `--max-txn-ops`, since each level takes an operation at least.
const DEEPEST: usize = 40;

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
        let ops = ops.into_iter().map(|op| bounded(op, &mut self.levels));
        self.then.extend(ops);
        self
    }

    /// Adds to what runs when one does not.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        let ops = ops.into_iter().map(|op| bounded(op, &mut self.levels));
        self.or_else.extend(ops);
        self
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.then.iter().chain(&self.or_else)
    }

    /// Whether a member may answer from what it has: it has nothing to decide but reads that allow
    /// it. Guards alone are no reason to ask the others, for etcd.
    fn is_serializable(&self) -> bool {
        self.ops()
            .all(|op| matches!(op, Op::Get(get) if get.is_serializable()))
    }

    fn enter(&mut self, namespace: &Namespace) {
        for compare in &mut self.compare {
            namespace.enter(&mut compare.pb.key, &mut compare.pb.range_end);
        }
        for op in self.then.iter_mut().chain(&mut self.or_else) {
            match op {
                Op::Get(get) => namespace.enter(&mut get.pb.key, &mut get.pb.range_end),
                Op::Put(put) => namespace.enter(&mut put.pb.key, &mut Bytes::new()),
                Op::Delete(delete) => namespace.enter(&mut delete.pb.key, &mut delete.pb.range_end),
                Op::Txn(txn) => txn.enter(namespace),
            }
        }
    }

    fn pb(self) -> TxnRequest {
        TxnRequest {
            compare: self.compare.into_iter().map(|compare| compare.pb).collect(),
            success: self.then.into_iter().map(Op::pb).collect(),
            failure: self.or_else.into_iter().map(Op::pb).collect(),
        }
    }
}

/// An operation as a part of a transaction, whose `levels` it adds to.
///
/// Of a transaction that is nested too deep, and so will be refused, only the depth is kept. So whatever
/// goes through a value level by level, such as its drop, has a bounded stack.
fn bounded(op: impl Into<Op>, levels: &mut usize) -> Op {
    let mut op = op.into();
    if let Op::Txn(txn) = &mut op {
        *levels = (*levels).max(txn.levels.saturating_add(1));
        if txn.levels + 1 >= DEEPEST {
            let levels = txn.levels;
            *txn = Txn {
                levels,
                ..Txn::default()
            };
        }
    }
    op
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

    fn encoded_len(&self) -> usize {
        field_len(match self {
            Op::Get(get) => get.pb.encoded_len(),
            Op::Put(put) => put.pb.encoded_len(),
            Op::Delete(delete) => delete.pb.encoded_len(),
            Op::Txn(txn) => txn.encoded_len(),
        })
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

/// What a message of `len` bytes takes as a field of another: those of a transaction have numbers
/// below 16, and so tags of one byte.
fn field_len(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

/// Its name in errors and metrics.
const VERB: &str = "txn";

impl Rpc for Txn {
    type Response = TxnResponse;

    fn operation(&self) -> Operation {
        name(self.then.len(), self.or_else.len())
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn check(&self) -> Result<()> {
        let depth = self.levels.saturating_add(1);
        if depth > DEEPEST {
            return Err(Error::invalid(format!(
                "transactions are nested {depth} deep, and the limit is {DEEPEST}: their answer could \
                 not be decoded"
            )));
        }
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
        let guards = self.compare.iter().map(|compare| compare.pb.encoded_len());
        let ops = self.ops().map(Op::encoded_len);
        guards.chain(ops).map(field_len).sum()
    }

    /// etcd takes the longest list of a transaction from what it allows, and allows those within
    /// the rest.
    fn needs_ops(&self) -> usize {
        let lists = [self.compare.len(), self.then.len(), self.or_else.len()];
        let longest = lists.into_iter().max().unwrap_or(0);
        let within = self.ops().map(|op| match op {
            Op::Txn(txn) => txn.needs_ops(),
            Op::Get(_) | Op::Put(_) | Op::Delete(_) => 0,
        });
        longest + within.max().unwrap_or(0)
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        self.enter(namespace);
        Ok(Namespaced {
            request: self,
            strip: TxnResponse::strip,
        })
    }

    fn again(&self) -> Option<Self> {
        self.is_serializable().then(|| self.clone())
    }

    fn shown(response: &TxnResponse) -> Revision {
        response.header.revision
    }

    fn exchange(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<TxnResponse>> + Send + 'static {
        let call = match self.writes() {
            true => Call::write(timeout),
            false => Call::read(timeout),
        };
        let (then, or_else) = (self.then.len(), self.or_else.len());
        // Guards alone do not say that an answer may be old.
        let may_be_old = self.is_serializable() && self.ops().next().is_some();
        // etcd itself takes one without operations for a serializable read.
        let consistency = match self.writes() {
            true => Consistency::Applied,
            false if self.is_serializable() => Consistency::Local,
            false => Consistency::Linearizable,
        };
        let request = Framed::new(&self.pb())
            .needs_leader(!may_be_old)
            .consistency(consistency);
        transport.unary(call, move || name(then, or_else), request)
    }
}

fn name(then: usize, or_else: usize) -> Operation {
    Operation::about(
        VERB,
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
    fn strip(&mut self, namespace: &Namespace) {
        for response in &mut self.responses {
            match response {
                OpResponse::Get(get) => get.strip(namespace),
                OpResponse::Put(put) => put.strip(namespace),
                OpResponse::Delete(delete) => delete.strip(namespace),
                OpResponse::Txn(txn) => txn.strip(namespace),
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn puts(count: usize) -> Txn {
        Txn::always((0..count).map(|n| Put::new(format!("{n}"), "")))
    }

    #[test]
    fn the_size_is_that_of_the_message() {
        let large = Put::new("k", vec![0; 300]);
        let inner = Txn::when([Compare::version("k").eq(0)])
            .then([large])
            .or_else([Get::key("k")]);
        let middle = puts(20).or_else([Op::from(inner.clone()), Delete::key("d").into()]);
        for txn in [Txn::default(), inner, middle.clone(), Txn::always([middle])] {
            assert_eq!(txn.encoded_len(), txn.clone().pb().encoded_len(), "{txn:?}");
        }
    }

    #[test]
    fn operations_are_counted_as_etcd_counts_them() {
        assert_eq!(Txn::default().needs_ops(), 0);
        assert_eq!(puts(128).needs_ops(), 128);
        let guards = (0..5).map(|n| Compare::exists(format!("{n}")));
        assert_eq!(Txn::when(guards).then([Get::key("a")]).needs_ops(), 5);
        // Two branches do not add up; what is within does.
        assert_eq!(puts(3).or_else([Get::key("a")]).needs_ops(), 3);
        assert_eq!(puts(3).or_else([puts(7), puts(2)]).needs_ops(), 3 + 7);
        assert_eq!(Txn::always([Txn::always([puts(4)])]).needs_ops(), 1 + 1 + 4);
    }

    fn nest(depth: usize) -> Txn {
        let innermost = Txn::always([Get::key("a")]);
        (1..depth).fold(innermost, |txn, _| Txn::when([]).or_else([txn]))
    }

    // Fault: W7
    #[test]
    fn transactions_nested_too_deep_are_refused_whatever_their_depth() {
        assert!(nest(1).check().is_ok());
        assert!(nest(DEEPEST).check().is_ok());
        for depth in [DEEPEST + 1, 100, 1_000_000] {
            let txn = nest(depth);
            let refused = txn.check().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
            let text = refused.to_string();
            assert!(text.contains(&format!("nested {depth} deep")), "{text}");
            // None of these has a stack as deep as that.
            let copy = txn.clone();
            assert!(copy == txn && copy.needs_ops() <= DEEPEST && !copy.writes());
            assert!(copy.encoded_len() > 0 && !format!("{copy:?}").is_empty());
        }
    }

    #[test]
    fn an_answer_of_the_greatest_depth_can_be_decoded() {
        let kv = crate::grpc::etcd_rs_proto::mvccpb::KeyValue::default();
        let get = crate::grpc::etcd_rs_proto::etcdserverpb::RangeResponse {
            kvs: vec![kv],
            ..Default::default()
        };
        let deepest = |depth: usize| {
            let op = |response| PbTxnResponse {
                responses: vec![ResponseOp {
                    response: Some(response),
                }],
                ..PbTxnResponse::default()
            };
            let innermost = op(response_op::Response::ResponseRange(get.clone()));
            let answer = (1..depth).fold(innermost, |txn, _| {
                op(response_op::Response::ResponseTxn(txn))
            });
            PbTxnResponse::decode(answer.encode_to_vec().as_slice()).is_ok()
        };
        assert!(deepest(DEEPEST));
        let most = (1..100).take_while(|depth| deepest(*depth)).count();
        assert_eq!(most, 49, "what the comment on the limit says");
    }

    #[test]
    fn a_transaction_of_serializable_reads_may_be_answered_by_one_that_is_behind() {
        let behind = Get::key("a").serializable();
        let again = |txn: Txn| txn.again().is_some();
        assert!(again(Txn::always([behind.clone()])));
        assert!(again(Txn::when([Compare::exists("a")])));
        assert!(!again(Txn::always([behind.clone(), Get::key("b")])));
        assert!(!again(
            Txn::always([behind.clone()]).or_else([Delete::key("a")])
        ));
        assert!(!again(Txn::always([Txn::always([behind])])));
    }
}

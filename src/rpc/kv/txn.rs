//! Transactions.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message as _, length_delimiter_len};

use super::compare::Compare;
use super::delete::Delete;
use super::get::Get;
use super::put::Put;
use super::txn_response::TxnResponse;
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{RequestOp, TxnRequest, request_op};
use crate::grpc::{Call, Consistency, Framed, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::Revision;

/// Executes several operations at one revision: those of `then` if all comparisons are true, and those
/// of `or_else` otherwise.
///
/// Refused before anything is sent: more than 128 operations
/// ([`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops)), and transactions that are nested
/// more than 40 deep, including the outermost. The server refuses to put a key twice.
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
///     println!("taken by {:?}", taken.get(0).and_then(|get| get.first()?.value_str()));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Txn {
    compare: Vec<Compare>,
    then: Vec<Op>,
    or_else: Vec<Op>,
    /// The number of levels of nested transactions.
    levels: usize,
}

/// The largest depth of nested transactions, including the outermost.
///
/// prost decodes at most 100 nested messages. Each level of a response takes two of them, and a key
/// value in the innermost takes three, so 49 levels can be decoded. etcd itself allows at most
/// `--max-txn-ops` levels, because each level takes at least one operation.
const MAX_DEPTH: usize = 40;

/// One operation of a transaction. `Get`, `Put`, `Delete` and `Txn` convert into it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// A read.
    Get(Get),
    /// A put.
    Put(Put),
    /// A deletion.
    Delete(Delete),
    /// A nested transaction.
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
    /// A transaction with these comparisons.
    pub fn when(compare: impl IntoIterator<Item = Compare>) -> Self {
        Txn {
            compare: compare.into_iter().collect(),
            ..Txn::default()
        }
    }

    /// A transaction without comparisons, which executes `ops`.
    pub fn always(ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        Txn::default().then(ops)
    }

    /// Adds operations that are executed when all comparisons are true.
    pub fn then(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        let ops = ops.into_iter().map(|op| bounded(op, &mut self.levels));
        self.then.extend(ops);
        self
    }

    /// Adds operations that are executed when a comparison is false.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = impl Into<Op>>) -> Self {
        let ops = ops.into_iter().map(|op| bounded(op, &mut self.levels));
        self.or_else.extend(ops);
        self
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.then.iter().chain(&self.or_else)
    }

    /// Whether a member may answer from its own state: all operations are serializable reads. etcd
    /// ignores comparisons here.
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
                // A put has no range end.
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

/// Converts an operation of a transaction, and updates the `levels` of that transaction.
///
/// A nested transaction that is too deep, and will be refused, is replaced by an empty one with the same
/// depth. So the recursion over a value, such as its drop, has a bounded stack.
fn bounded(op: impl Into<Op>, levels: &mut usize) -> Op {
    let mut op = op.into();
    if let Op::Txn(txn) = &mut op {
        *levels = (*levels).max(txn.levels.saturating_add(1));
        // The contents are dropped, so that no value is nested too deep for a recursion.
        if txn.levels + 1 >= MAX_DEPTH {
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
        // The error of an operation names the operation inside the transaction.
        checked.map_err(|(error, operation)| Error::invalid(error.operation(operation).to_string()))
    }
}

/// The size of a message of `len` bytes as a field of another one. The fields of a transaction have
/// numbers below 16, and so tags of one byte.
fn field_len(len: usize) -> usize {
    // One byte for the tag: all field numbers here are below 16.
    1 + length_delimiter_len(len) + len
}

/// The name of the operation in errors and metrics.
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
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "transactions are nested {depth} deep, and the limit is {MAX_DEPTH}: the response could \
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
        let compares = self.compare.iter().map(|compare| compare.pb.encoded_len());
        let ops = self.ops().map(Op::encoded_len);
        compares.chain(ops).map(field_len).sum()
    }

    /// etcd subtracts the longest list of a transaction from its limit, and applies the rest to the
    /// nested ones.
    fn needs_ops(&self) -> usize {
        let lists = [self.compare.len(), self.then.len(), self.or_else.len()];
        let longest = lists.into_iter().max().unwrap_or(0);
        let nested = self.ops().map(|op| match op {
            Op::Txn(txn) => txn.needs_ops(),
            Op::Get(_) | Op::Put(_) | Op::Delete(_) => 0,
        });
        longest + nested.max().unwrap_or(0)
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
        response.revision()
    }

    fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<TxnResponse>> + Send + 'static {
        let call = match self.writes() {
            true => Call::write(timeout),
            false => Call::read(timeout),
        };
        let (then, or_else) = (self.then.len(), self.or_else.len());
        // A transaction with comparisons only has no serializable read, so it needs a leader.
        let may_be_old = self.is_serializable() && self.ops().next().is_some();
        // etcd treats a transaction without operations as a serializable read.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::grpc::etcd_rs_proto::etcdserverpb::{
        ResponseOp, TxnResponse as PbTxnResponse, response_op,
    };

    fn puts(count: usize) -> Txn {
        Txn::always((0..count).map(|n| Put::new(format!("{n}"), "")))
    }

    #[test]
    fn encoded_len_is_the_length_of_the_message() {
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
        let compares = (0..5).map(|n| Compare::exists(format!("{n}")));
        assert_eq!(Txn::when(compares).then([Get::key("a")]).needs_ops(), 5);
        // The branches do not add up; nested transactions do.
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
    fn nesting_over_the_limit_is_refused_at_any_depth() {
        assert!(nest(1).check().is_ok());
        assert!(nest(MAX_DEPTH).check().is_ok());
        for depth in [MAX_DEPTH + 1, 100, 1_000_000] {
            let txn = nest(depth);
            let refused = txn.check().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
            let text = refused.to_string();
            assert!(text.contains(&format!("nested {depth} deep")), "{text}");
            // The recursion of none of these is that deep.
            let copy = txn.clone();
            assert!(copy == txn && copy.needs_ops() <= MAX_DEPTH && !copy.writes());
            assert!(copy.encoded_len() > 0 && !format!("{copy:?}").is_empty());
        }
    }

    #[test]
    fn a_response_of_the_maximum_depth_can_be_decoded() {
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
        assert!(deepest(MAX_DEPTH));
        let most = (1..100).take_while(|depth| deepest(*depth)).count();
        assert_eq!(most, 49, "as the comment on the limit states");
    }

    #[test]
    fn only_a_transaction_of_serializable_reads_accepts_a_member_that_is_behind() {
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

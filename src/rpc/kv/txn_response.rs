//! The response to a transaction.

use super::convert::header;
use super::delete::DeleteResponse;
use super::get::GetResponse;
use super::put::PutResponse;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    ResponseOp, TxnResponse as PbTxnResponse, response_op,
};
use crate::rpc::namespace::Namespace;
use crate::types::{ResponseHeader, Revision};

/// The response to a [`Txn`](crate::Txn).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TxnResponse {
    header: ResponseHeader,
    succeeded: bool,
    responses: Vec<OpResponse>,
}

/// The response to one operation of a transaction.
///
/// Its header has only the revision. The header of the transaction has the member as well.
///
/// ```no_run
/// use etcd_blocking::{Get, Put, Txn};
/// use etcd_blocking::kv::{Op, OpResponse};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let both = client.txn(Txn::always([Op::from(Put::new("a", "1")), Get::key("b").into()]))?;
/// for response in both.responses() {
///     match response {
///         OpResponse::Put(put) => println!("written at {:?}", put.revision()),
///         OpResponse::Get(get) => println!("{} keys", get.count()),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OpResponse {
    /// The response to a read.
    Get(GetResponse),
    /// The response to a put.
    Put(PutResponse),
    /// The response to a deletion.
    Delete(DeleteResponse),
    /// The response to a nested transaction.
    Txn(TxnResponse),
}

impl TxnResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        for response in &mut self.responses {
            match response {
                OpResponse::Get(get) => get.strip(namespace),
                OpResponse::Put(put) => put.strip(namespace),
                OpResponse::Delete(delete) => delete.strip(namespace),
                OpResponse::Txn(txn) => txn.strip(namespace),
            }
        }
    }

    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision of all writes of the transaction, or that of the store when it wrote nothing.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }

    /// Whether all comparisons were true, and so `then` was executed.
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// The responses to the executed operations, in their order.
    pub fn responses(&self) -> &[OpResponse] {
        &self.responses
    }

    /// The response to operation `index`, if that was a read.
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
            // etcd sets no revision in the response to a nested transaction.
            let header = txn.header.get_or_insert_default();
            if header.revision == 0 {
                header.revision = revision.get();
            }
            OpResponse::Txn(txn.into())
        }
    })
}

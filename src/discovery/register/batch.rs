//! Several steps in one transaction, each under its own condition. Pure.

use bytes::Bytes;

use super::batch_plan::{Sort, StepSize};
use super::batch_size::ClientLimits;
use super::owned_key::{Expect, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, OpResponse, Put, Txn, TxnResponse};
use crate::types::KeyValue;

/// What a step adds to a request besides its key and its value: field tags, lengths, revisions and
/// lease ids of two guards, a put and a read, and the frame of the transaction.
const FRAME: usize = 160;

/// The step of one key, as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) key: Bytes,
    pub(super) step: Step,
}

/// What a step is, and how much of a request it takes at most. A name stands in up to two guards,
/// the put and the read; `namespace` bytes are in front of each.
pub(super) fn step_size(key: &Bytes, value: &Bytes, step: Step, namespace: usize) -> StepSize {
    let name = key.len() + namespace;
    let (sort, bytes) = match step {
        Step::Write(..) => (Sort::Write, 4 * name + value.len()),
        Step::Delete(_) => (Sort::Delete, 2 * name),
        // The answer has the value.
        Step::Look => (Sort::Look, name + value.len()),
    };
    StepSize {
        sort,
        bytes: bytes + FRAME,
    }
}

/// Refuses a write that can never be sent, because the client does not send as much.
///
/// # Errors
///
/// Of the kind `TooLarge`, with the size, the limit and its setting.
pub(super) fn check_size(
    key: &Bytes,
    value: &Bytes,
    namespace: usize,
    limits: ClientLimits,
) -> Result<()> {
    let size = 4 * (key.len() + namespace) + value.len() + FRAME;
    if size <= limits.send_bytes {
        return Ok(());
    }
    let limit = limits.send_bytes;
    let reason = format!(
        "the instance takes a request of {size} bytes and the limit is {limit} \
         (ClientBuilder::send_limit): give it less metadata"
    );
    Err(Error::new(ErrorKind::TooLarge, reason))
}

/// Steps as one transaction: a step that is alone is not nested, because a server may allow fewer
/// operations than nesting takes.
pub(super) fn txn(mut steps: Vec<Txn>) -> Txn {
    match (steps.pop(), steps.is_empty()) {
        (Some(only), true) => only,
        (last, _) => Txn::always(steps.into_iter().chain(last)),
    }
}

/// One step as a transaction: done under its condition, else what is there instead.
pub(super) fn step(key: &Bytes, value: &Bytes, step: Step) -> Txn {
    let key = key.clone();
    match step {
        Step::Write(expect, lease) => {
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
        Step::Delete(lease) => {
            Txn::when([Compare::lease(key.clone()).eq(Some(lease))]).then([Delete::key(key)])
        }
        Step::Look => Txn::always([Get::key(key)]),
    }
}

/// What became of a step.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome<'a> {
    Done,
    Found(Option<&'a KeyValue>),
}

/// What became of the steps of a batch, in their order.
///
/// # Errors
///
/// Of the kind `Protocol` when the answer is not one to these steps: then nothing is known of any.
pub(super) fn outcomes<'a>(steps: &[Sent], response: &'a TxnResponse) -> Result<Vec<Outcome<'a>>> {
    if let [only] = steps {
        return Ok(vec![outcome(only, response)?]);
    }
    let answers = response.responses();
    if !response.succeeded() || answers.len() != steps.len() {
        let reason = format!(
            "the answer to a transaction of {} steps has {}",
            steps.len(),
            answers.len()
        );
        return Err(Error::protocol(reason));
    }
    let pairs = steps.iter().zip(answers);
    pairs
        .map(|(step, answer)| match answer {
            OpResponse::Txn(inner) => outcome(step, inner),
            _ => Err(odd()),
        })
        .collect()
}

fn outcome<'a>(sent: &Sent, answer: &'a TxnResponse) -> Result<Outcome<'a>> {
    match (sent.step, answer.succeeded(), answer.responses()) {
        (Step::Write(..), true, [OpResponse::Put(_)])
        | (Step::Delete(_), true, [OpResponse::Delete(_)]) => Ok(Outcome::Done),
        (Step::Delete(_), false, []) => Ok(Outcome::Found(None)),
        (Step::Write(..), false, [OpResponse::Get(get)])
        | (Step::Look, true, [OpResponse::Get(get)]) => match get.kvs() {
            [] => Ok(Outcome::Found(None)),
            [kv] if kv.key() == &sent.key => Ok(Outcome::Found(Some(kv))),
            _ => Err(odd()),
        },
        _ => Err(odd()),
    }
}

fn odd() -> Error {
    Error::protocol("the answer to a step of a transaction is one to something else")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::etcd_rs_proto::etcdserverpb::response_op::Response;
    use crate::grpc::etcd_rs_proto::etcdserverpb::{
        PutResponse, RangeResponse, ResponseOp, TxnResponse as PbTxnResponse,
    };
    use crate::grpc::etcd_rs_proto::mvccpb::KeyValue as PbKeyValue;
    use crate::rpc::request::sealed::Rpc as _;
    use crate::types::{LeaseId, Revision};

    const LEASE: i64 = i64::MAX;

    fn lease() -> LeaseId {
        LeaseId::new(LEASE).unwrap()
    }

    fn steps() -> [Step; 5] {
        let old = Revision::new(i64::MAX);
        [
            Step::Write(Expect::Absent, lease()),
            Step::Write(Expect::Unchanged(old, Some(lease())), lease()),
            Step::Write(Expect::Lease(lease()), lease()),
            Step::Delete(lease()),
            Step::Look,
        ]
    }

    #[test]
    fn the_size_of_a_step_is_never_underestimated() {
        for (key, value) in [(1, 0), (10, 100), (127, 128), (300, 70_000), (5000, 3)] {
            let (key, value) = (Bytes::from(vec![b'k'; key]), Bytes::from(vec![b'v'; value]));
            for kind in steps() {
                let alone = txn(vec![step(&key, &value, kind)]);
                let step_size = step_size(&key, &value, kind, 0).bytes;
                assert!(alone.encoded_len() <= step_size, "{kind:?} alone");
                let many = txn(vec![step(&key, &value, kind); 10]);
                assert!(many.encoded_len() <= 10 * step_size, "ten of {kind:?}");
            }
        }
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_named() {
        let limits = ClientLimits {
            txn_ops: 128,
            send_bytes: 10_000,
        };
        let (key, small) = (Bytes::from("k"), Bytes::from(vec![0; 9_000]));
        check_size(&key, &small, 0, limits).unwrap();
        let large = Bytes::from(vec![0; 10_000]);
        let error = check_size(&key, &large, 0, limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(
            text.contains("10000") && text.contains("send_limit"),
            "{text}"
        );
        assert!(
            check_size(&key, &small, 250, limits).is_err(),
            "a namespace"
        );
    }

    #[test]
    fn one_step_is_not_nested_and_several_are() {
        let write = || step(&"k".into(), &"v".into(), steps()[0]);
        assert_eq!(txn(vec![write()]).needs_ops(), 1);
        assert_eq!(txn(vec![write(), write()]).needs_ops(), 2 + 1);
    }

    fn sent(number: u64, step: Step) -> Sent {
        Sent {
            number,
            key: format!("k{number}").into(),
            step,
        }
    }

    fn put() -> Response {
        Response::ResponsePut(PutResponse::default())
    }

    fn read(keys: &[&'static str]) -> Response {
        let kvs = keys.iter().map(|key| PbKeyValue {
            key: Bytes::from(*key),
            ..PbKeyValue::default()
        });
        Response::ResponseRange(RangeResponse {
            kvs: kvs.collect(),
            ..RangeResponse::default()
        })
    }

    fn answer(succeeded: bool, responses: Vec<Response>) -> PbTxnResponse {
        let op = |response| ResponseOp {
            response: Some(response),
        };
        PbTxnResponse {
            succeeded,
            responses: responses.into_iter().map(op).collect(),
            ..PbTxnResponse::default()
        }
    }

    fn nested(answers: Vec<PbTxnResponse>) -> TxnResponse {
        answer(
            true,
            answers.into_iter().map(Response::ResponseTxn).collect(),
        )
        .into()
    }

    #[test]
    fn each_step_gets_its_own_answer() {
        let write = steps()[0];
        let steps = [
            sent(1, write),
            sent(2, write),
            sent(3, Step::Delete(lease())),
        ];
        let response = nested(vec![
            answer(true, vec![put()]),
            answer(false, vec![read(&["k2"])]),
            answer(false, vec![]),
        ]);
        let outcomes = outcomes(&steps, &response).unwrap();
        assert_eq!(outcomes[0], Outcome::Done);
        assert!(matches!(outcomes[1], Outcome::Found(Some(kv)) if kv.key() == "k2"));
        assert_eq!(outcomes[2], Outcome::Found(None));

        let one = [sent(1, Step::Look)];
        let response = answer(true, vec![read(&["k1"])]).into();
        assert!(matches!(
            super::outcomes(&one, &response).unwrap()[..],
            [Outcome::Found(Some(_))]
        ));
    }

    // (Q: answers paired with owned keys by position.)
    // Fault: Q2
    #[test]
    fn an_answer_to_something_else_is_an_answer_to_nothing() {
        let write = steps()[0];
        let steps = [sent(1, write), sent(2, write)];
        let done = || answer(true, vec![put()]);
        for odd in [
            nested(vec![]),
            nested(vec![done()]),
            nested(vec![done(), done(), done()]),
            answer(true, vec![put(), put()]).into(),
            answer(false, vec![Response::ResponseTxn(done()); 2]).into(),
            nested(vec![done(), answer(true, vec![read(&[])])]),
            nested(vec![done(), answer(true, vec![])]),
            nested(vec![done(), answer(false, vec![put()])]),
            nested(vec![done(), answer(false, vec![])]),
            nested(vec![done(), answer(false, vec![read(&["k1"])])]),
            nested(vec![done(), answer(false, vec![read(&["k2", "k3"])])]),
        ] {
            let error = outcomes(&steps, &odd).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{odd:?}");
        }
    }
}

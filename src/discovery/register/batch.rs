//! Encodes several steps as one transaction, each under its own condition, and reads the response.
//! Pure.

use bytes::Bytes;

use super::batch_size::ClientLimits;
use super::key_step::{KeyStep, WriteCondition};
use super::step_size::{StepKind, StepSize};
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, OpResponse, Put, Txn, TxnResponse};
use crate::types::KeyValue;

/// The most bytes that a step adds to a request besides its key and its value: field tags, lengths,
/// revisions and lease ids of two guards, a put and a read, and the frame of the transaction.
const FRAME: usize = 160;

/// The step of one key, as it was sent.
#[derive(Clone, Debug)]
pub(super) struct SentStep {
    /// The registration, and the position of the key in it.
    pub(super) number: u64,
    pub(super) position: usize,
    pub(super) key: Bytes,
    pub(super) step: KeyStep,
    /// It is a write that shares the condition of the step before it.
    pub(super) is_joined: bool,
}

/// A step to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepToSend<'a> {
    pub(super) key: &'a Bytes,
    pub(super) value: &'a Bytes,
    pub(super) step: KeyStep,
}

/// The size of the steps of one registration, or `None` if there are none. A key occurs in up to two guards,
/// the put and the read, each time with `namespace` bytes before it.
pub(super) fn step_size<'a>(
    steps: impl IntoIterator<Item = StepToSend<'a>>,
    namespace: usize,
) -> Option<StepSize> {
    let sizes = steps.into_iter().map(|StepToSend { key, value, step }| {
        let name = key.len() + namespace;
        let (kind, bytes) = match step {
            KeyStep::Write(..) => (StepKind::Write, 4 * name + value.len()),
            KeyStep::Delete(_) => (StepKind::Delete, 2 * name),
            // The response contains the value.
            KeyStep::Read => (StepKind::Read, name + value.len()),
        };
        let (steps, bytes) = (1, bytes + FRAME);
        StepSize { kind, steps, bytes }
    });
    sizes.reduce(|all, one| StepSize {
        // Writes decide the kind before deletes, and deletes before reads.
        kind: all.kind.min(one.kind),
        steps: all.steps + one.steps,
        bytes: all.bytes + one.bytes,
    })
}

/// Checks that the writes of an instance fit into one request of the client.
///
/// # Errors
///
/// Of the kind `TooLarge`, with the size, the limit and its setting.
pub(super) fn check_size<'a>(
    keys: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>,
    namespace: usize,
    limits: ClientLimits,
) -> Result<()> {
    let one = |(key, value): (&Bytes, &Bytes)| 4 * (key.len() + namespace) + value.len() + FRAME;
    let size: usize = keys.into_iter().map(one).sum();
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

/// Joins steps to one transaction. A single step is not nested, because a server may allow fewer
/// operations than nesting takes (`--max-txn-ops`).
pub(super) fn txn(mut steps: Vec<Txn>) -> Txn {
    match (steps.pop(), steps.is_empty()) {
        (Some(only), true) => only,
        // Nested, so that each step has its own condition: one that fails does not affect the
        // others.
        (last, _) => Txn::always(steps.into_iter().chain(last)),
    }
}

/// The steps of one registration as transactions. All writes, which come first, are one transaction: they are
/// executed under the conditions of all of them, otherwise the response contains the current keys.
pub(super) fn txns(steps: &[StepToSend<'_>]) -> impl Iterator<Item = Txn> {
    let is_write = |one: &StepToSend<'_>| matches!(one.step, KeyStep::Write(..));
    let writes = steps.iter().take_while(|one| is_write(one)).count();
    let (writes, others) = steps.split_at_checked(writes).unwrap_or((steps, &[]));
    let writes = (!writes.is_empty()).then(|| write(writes));
    writes.into_iter().chain(others.iter().map(|one| {
        let key = one.key.clone();
        match one.step {
            KeyStep::Delete(lease) => {
                // A key under another lease belongs to a successor, and is not deleted.
                Txn::when([Compare::lease(key.clone()).eq(Some(lease))]).then([Delete::key(key)])
            }
            KeyStep::Write(..) => write(std::slice::from_ref(one)),
            KeyStep::Read => Txn::always([Get::key(key)]),
        }
    }))
}

fn write(writes: &[StepToSend<'_>]) -> Txn {
    let (mut when, mut then, mut otherwise) = (Vec::new(), Vec::new(), Vec::new());
    for StepToSend { key, value, step } in writes {
        let key = (*key).clone();
        let KeyStep::Write(expect, lease) = *step else {
            continue;
        };
        match expect {
            WriteCondition::Absent => when.push(Compare::version(key.clone()).eq(0)),
            WriteCondition::Unchanged(revision, lease) => {
                when.push(Compare::mod_revision(key.clone()).eq(revision));
                when.push(Compare::lease(key.clone()).eq(lease));
            }
            WriteCondition::OnLease(lease) => {
                when.push(Compare::lease(key.clone()).eq(Some(lease)));
            }
        }
        then.push(Put::new(key.clone(), (*value).clone()).lease(lease));
        otherwise.push(Get::key(key));
    }
    Txn::when(when).then(then).or_else(otherwise)
}

/// The outcome of a step.
#[derive(Debug, PartialEq)]
pub(super) enum StepOutcome<'a> {
    /// Its condition held, and it was executed.
    Done,
    /// It was a read, or its condition did not hold: the current key, if it exists.
    Found(Option<&'a KeyValue>),
}

/// The outcomes of the steps of a batch, in their order.
///
/// # Errors
///
/// Of the kind `Protocol` when the response does not match these steps. Then the outcome of every
/// step is unknown.
pub(super) fn outcomes<'a>(
    steps: &[SentStep],
    response: &'a TxnResponse,
) -> Result<Vec<StepOutcome<'a>>> {
    let mut outcomes = Vec::with_capacity(steps.len());
    // Joined steps are in the transaction of the step before them.
    let sent = steps.iter().filter(|step| !step.is_joined).count();
    // A single transaction was not nested.
    if sent == 1 {
        outcomes_of(steps, response, &mut outcomes)?;
        return Ok(outcomes);
    }
    let answers = response.responses();
    if !response.succeeded() || answers.len() != sent {
        let reason = format!(
            "the response to a transaction of {sent} steps has {} parts",
            answers.len()
        );
        return Err(Error::protocol(reason));
    }
    let nested = steps.chunk_by(|_, next| next.is_joined);
    for (steps, answer) in nested.zip(answers) {
        match answer {
            OpResponse::Txn(inner) => outcomes_of(steps, inner, &mut outcomes)?,
            _ => return Err(unexpected()),
        }
    }
    Ok(outcomes)
}

/// Appends the outcomes of the steps of one nested transaction.
fn outcomes_of<'a>(
    steps: &[SentStep],
    answer: &'a TxnResponse,
    outcomes: &mut Vec<StepOutcome<'a>>,
) -> Result<()> {
    let (responses, succeeded) = (answer.responses(), answer.succeeded());
    if let (
        [
            SentStep {
                step: KeyStep::Delete(_),
                ..
            },
        ],
        false,
        [],
    ) = (steps, succeeded, responses)
    {
        outcomes.push(StepOutcome::Found(None));
        return Ok(());
    }
    if responses.len() != steps.len() {
        return Err(unexpected());
    }
    for (sent, response) in steps.iter().zip(responses) {
        outcomes.push(match (sent.step, succeeded, response) {
            (KeyStep::Write(..), true, OpResponse::Put(_))
            | (KeyStep::Delete(_), true, OpResponse::Delete(_)) => StepOutcome::Done,
            (KeyStep::Write(..), false, OpResponse::Get(get))
            | (KeyStep::Read, true, OpResponse::Get(get)) => match get.kvs() {
                [] => StepOutcome::Found(None),
                [kv] if kv.key() == &sent.key => StepOutcome::Found(Some(kv)),
                _ => return Err(unexpected()),
            },
            _ => return Err(unexpected()),
        });
    }
    Ok(())
}

fn unexpected() -> Error {
    Error::protocol("a part of a transaction's response does not match the step it belongs to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::etcd_rs_proto::etcdserverpb::response_op::Response;
    use crate::grpc::etcd_rs_proto::etcdserverpb::{
        DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse as PbTxnResponse,
    };
    use crate::grpc::etcd_rs_proto::mvccpb::KeyValue as PbKeyValue;
    use crate::rpc::request::sealed::Rpc as _;
    use crate::types::{LeaseId, Revision};

    const LEASE: i64 = i64::MAX;

    fn lease() -> LeaseId {
        LeaseId::new(LEASE).unwrap()
    }

    fn steps() -> [KeyStep; 5] {
        let old = Revision::new(i64::MAX);
        [
            KeyStep::Write(WriteCondition::Absent, lease()),
            KeyStep::Write(WriteCondition::Unchanged(old, Some(lease())), lease()),
            KeyStep::Write(WriteCondition::OnLease(lease()), lease()),
            KeyStep::Delete(lease()),
            KeyStep::Read,
        ]
    }

    #[test]
    fn the_size_of_a_step_is_never_underestimated() {
        for (key, value) in [(1, 0), (10, 100), (127, 128), (300, 70_000), (5000, 3)] {
            let (key, value) = (Bytes::from(vec![b'k'; key]), Bytes::from(vec![b'v'; value]));
            for kind in steps() {
                let step = StepToSend {
                    key: &key,
                    value: &value,
                    step: kind,
                };
                let alone = txn(txns(&[step]).collect());
                let size = step_size([step], 0).unwrap().bytes;
                assert!(alone.encoded_len() <= size, "{kind:?} alone");
                // A key in one guard instead of two, and the value of the response, are not sent.
                let most = alone.encoded_len() + key.len() + value.len() + FRAME;
                assert!(size <= most, "{kind:?}: {size} instead of {most}");
                let many = txn((0..10)
                    .flat_map(|_| txns(&[step]).collect::<Vec<_>>())
                    .collect());
                assert!(many.encoded_len() <= 10 * size, "ten of {kind:?}");
                let joined = txn(txns(&[step; 4]).collect());
                let size = step_size([step; 4], 0).unwrap();
                assert!(
                    joined.encoded_len() <= size.bytes,
                    "four keys with {kind:?}"
                );
                assert_eq!(size.steps, 4);
            }
        }
    }

    #[test]
    fn a_namespace_counts_as_often_as_the_key() {
        let (key, value) = (Bytes::from("key"), Bytes::from("value"));
        let sizes = steps().map(|step| {
            let step = StepToSend {
                key: &key,
                value: &value,
                step,
            };
            let size = |namespace| step_size([step], namespace).unwrap().bytes;
            size(100) - size(0)
        });
        assert_eq!(sizes, [400, 400, 400, 200, 100]);
    }

    #[test]
    fn an_instance_that_does_not_fit_is_refused_with_the_size_and_the_limit() {
        let limits = ClientLimits {
            txn_ops: 128,
            send_bytes: 10_000,
        };
        let (key, small) = (Bytes::from("k"), Bytes::from(vec![0; 9_000]));
        check_size([(&key, &small)], 0, limits).unwrap();
        let large = Bytes::from(vec![0; 10_000]);
        let error = check_size([(&key, &large)], 0, limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(
            text.contains("10000") && text.contains("send_limit"),
            "{text}"
        );
        let error = check_size([(&key, &small)], 250, limits).unwrap_err();
        let size = (4 * (1 + 250) + 9_000 + FRAME).to_string();
        assert!(error.to_string().contains(&size), "a namespace: {error}");
    }

    #[test]
    fn one_step_is_not_nested_and_several_are() {
        let (key, value) = (Bytes::from("k"), Bytes::from("v"));
        let [write, .., delete, read] = steps().map(|step| StepToSend {
            key: &key,
            value: &value,
            step,
        });
        let ops = |steps: &[StepToSend<'_>]| txn(txns(steps).collect()).needs_ops();
        assert_eq!(ops(&[write]), 1);
        assert_eq!(
            ops(&[write, write]),
            2,
            "two writes of one registration are joined"
        );
        assert_eq!(ops(&[delete, delete]), 2 + 1);
        assert_eq!(ops(&[write, write, delete, read]), 3 + 2);
    }

    fn sent(number: u64, step: KeyStep) -> SentStep {
        SentStep {
            number,
            position: 0,
            key: format!("k{number}").into(),
            step,
            is_joined: false,
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
            sent(3, KeyStep::Delete(lease())),
        ];
        let response = nested(vec![
            answer(true, vec![put()]),
            answer(false, vec![read(&["k2"])]),
            answer(false, vec![]),
        ]);
        let outcomes = outcomes(&steps, &response).unwrap();
        assert_eq!(outcomes[0], StepOutcome::Done);
        assert!(matches!(outcomes[1], StepOutcome::Found(Some(kv)) if kv.key() == "k2"));
        assert_eq!(outcomes[2], StepOutcome::Found(None));

        let gone = nested(vec![
            answer(false, vec![read(&[])]),
            answer(true, vec![put()]),
            answer(
                true,
                vec![Response::ResponseDeleteRange(DeleteRangeResponse::default())],
            ),
        ]);
        assert_eq!(
            super::outcomes(&steps, &gone).unwrap(),
            [
                StepOutcome::Found(None),
                StepOutcome::Done,
                StepOutcome::Done
            ],
            "a key that is not there is absent"
        );

        let one = [sent(1, KeyStep::Read)];
        let response = answer(true, vec![read(&["k1"])]).into();
        assert!(matches!(
            super::outcomes(&one, &response).unwrap()[..],
            [StepOutcome::Found(Some(_))]
        ));
    }

    // Outcomes are paired with owned keys by their position in the response.
    // Fault: Q2
    #[test]
    fn a_response_that_does_not_match_the_steps_is_a_protocol_error() {
        let write = steps()[0];
        let steps = [sent(1, write), sent(2, write)];
        let done = || answer(true, vec![put()]);
        for unexpected in [
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
            let error = outcomes(&steps, &unexpected).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{unexpected:?}");
        }
    }
}

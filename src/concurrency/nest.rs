//! Nests the operations of large transactions, because etcd limits each list of operations. Pure.

use crate::rpc::kv::{Op, OpResponse, Txn};

/// The most levels of lists. More levels would hold fewer operations with any realistic limit.
const MAX_LEVELS: u32 = 8;

/// The most operations in one transaction, because it is one request and one revision.
const MAX_OPS: usize = 4096;

/// The number of operations in a list at each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListSizes {
    outermost: usize,
    inner: usize,
}

/// Nests operations so that no list has more than `list`. Operations that fit are not nested. They are
/// still executed at one revision.
///
/// A server that allows 128 operations allows 128 *along a path*: a nested transaction gets what its
/// parents leave (`checkTxnRequest`). So two levels have 64 each, and hold 4096 operations; three levels
/// have 42 each.
pub(crate) fn nested(ops: Vec<Op>, list: usize) -> Vec<Op> {
    // Shorter lists would not terminate. The server refuses the transaction if it is still too large.
    let least = ListSizes {
        outermost: 2,
        inner: 2,
    };
    let sizes = sizes(ops.len(), 0, list).unwrap_or(least);
    fold(ops, sizes)
}

/// Nests operations beside `guards` comparisons in the outermost transaction. Returns `None` when that
/// is impossible, because comparisons cannot be nested.
pub(crate) fn nested_beside(guards: usize, ops: Vec<Op>, list: usize) -> Option<Vec<Op>> {
    sizes(ops.len(), guards, list).map(|sizes| fold(ops, sizes))
}

/// Returns the number of operations that one transaction can hold with nesting.
pub(crate) fn most(list: usize) -> usize {
    let held = |levels: u32| {
        let width = usize::try_from(levels).map_or(0, |levels| list / levels);
        width.saturating_pow(levels)
    };
    (1..=MAX_LEVELS)
        .map(held)
        .max()
        .unwrap_or(0)
        .clamp(1, MAX_OPS.max(list))
}

fn fold(mut ops: Vec<Op>, sizes: ListSizes) -> Vec<Op> {
    while ops.len() > sizes.outermost {
        let mut outer = Vec::with_capacity(ops.len().div_ceil(sizes.inner));
        let mut rest = ops.into_iter();
        loop {
            let inner: Vec<Op> = rest.by_ref().take(sizes.inner).collect();
            if inner.is_empty() {
                break;
            }
            outer.push(Txn::always(inner).into());
        }
        ops = outer;
    }
    ops
}

/// The sizes of the lists with the fewest levels.
fn sizes(ops: usize, guards: usize, list: usize) -> Option<ListSizes> {
    if guards > list {
        return None;
    }
    if ops <= list {
        return Some(ListSizes {
            outermost: list,
            inner: list,
        });
    }
    (2..=MAX_LEVELS).find_map(|levels| {
        // etcd subtracts the length of each outer list from the limit of the inner ones.
        let wide = usize::try_from(levels).map_or(0, |levels| list / levels);
        // etcd counts only the longest list of the outermost transaction.
        let inner = match usize::try_from(levels - 1) {
            Ok(rest) if guards > wide => (list - guards) / rest,
            _ => wide,
        };
        let outermost = inner.max(guards);
        let holds = outermost.saturating_mul(inner.saturating_pow(levels - 1));
        // With one operation per list, more levels would not hold more.
        (inner >= 2 && holds >= ops).then_some(ListSizes { outermost, inner })
    })
}

/// The responses to [`nested`] operations, in their order.
pub(crate) fn flat(responses: &[OpResponse]) -> Vec<&OpResponse> {
    let mut all = Vec::with_capacity(responses.len());
    for response in responses {
        match response {
            OpResponse::Txn(inner) => all.extend(flat(inner.responses())),
            other => all.push(other),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::kv::Get;

    #[test]
    fn operations_within_the_limit_are_not_nested() {
        let gets: Vec<Op> = (0..128).map(|n| Get::key(format!("k{n}")).into()).collect();
        assert_eq!(nested(gets.clone(), 128), gets);
    }

    fn gets(n: usize) -> Vec<Op> {
        (0..n).map(|n| Get::key(format!("k{n}")).into()).collect()
    }

    #[test]
    fn more_operations_are_nested_within_the_limit_of_a_path() {
        assert_eq!(nested(gets(129), 128).len(), 3);
        assert_eq!(nested(gets(64 * 64), 128).len(), 64);
        let inner = |ops, list| sizes(ops, 0, list).map(|sizes| sizes.inner);
        assert_eq!(inner(64 * 64 + 1, 128), Some(42));
        assert_eq!(inner(128, 128), Some(128));
        assert_eq!((inner(100, 2), inner(100, 0)), (None, None));
        assert_eq!((most(128), most(16), most(2)), (MAX_OPS, 256, 2));
        assert_eq!((most(10_000), most(0)), (10_000, 1));
    }

    /// For every combination of guards, operations and limit: etcd accepts the result, and a combination
    /// that is refused does not fit with any number of levels.
    #[test]
    fn guards_and_operations_together_are_within_the_limit() {
        use crate::rpc::kv::Compare;
        use crate::rpc::request::sealed::Rpc as _;

        for list in [2, 5, 8, 16, 40] {
            for guards in 0..=list + 1 {
                for count in [1, list, list + 1, 2 * list, 5 * list, 20 * list] {
                    let Some(ops) = nested_beside(guards, gets(count), list) else {
                        assert!(guards + 2 > list || count > list, "{guards} {count} {list}");
                        continue;
                    };
                    let compares = (0..guards).map(|n| Compare::exists(format!("k{n}")));
                    let txn = Txn::when(compares).then(ops);
                    assert!(txn.needs_ops() <= list, "{guards} {count} {list}");
                }
            }
        }
        // Guards take the whole of the limit, so nothing can be nested beside them.
        assert!(nested_beside(128, gets(128), 128).is_some());
        assert!(nested_beside(128, gets(129), 128).is_none());
        assert!(nested_beside(100, gets(1000), 128).is_some());
        assert!(nested_beside(17, gets(1), 16).is_none());
    }

    #[test]
    fn guards_shorten_the_inner_lists_only_as_far_as_needed() {
        let of = |ops, guards| {
            let sizes = sizes(ops, guards, 128).unwrap();
            (sizes.outermost, sizes.inner)
        };
        assert_eq!(of(2800, 100), (100, 28));
        assert_eq!(of(2801, 100), (100, 14));
    }

    #[test]
    fn the_responses_of_nested_lists_are_in_the_order_of_the_operations() {
        use crate::grpc::etcd_rs_proto::etcdserverpb::{
            PutResponse, ResponseOp, TxnResponse as PbTxn, response_op::Response,
        };
        use crate::rpc::kv::TxnResponse;

        let op = |response| ResponseOp {
            response: Some(response),
        };
        let put = || op(Response::ResponsePut(PutResponse::default()));
        let list = |responses| {
            op(Response::ResponseTxn(PbTxn {
                responses,
                ..PbTxn::default()
            }))
        };
        let response = TxnResponse::from(PbTxn {
            responses: vec![put(), list(vec![put(), list(vec![put()])]), put()],
            ..PbTxn::default()
        });
        let all = flat(response.responses());
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|one| matches!(one, OpResponse::Put(_))));
    }
}

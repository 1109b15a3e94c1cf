//! Transactions of any size: etcd limits each list of one, and not what is nested in it.

use crate::kv::{Compare, Op, OpResponse, Txn, TxnResponse};

/// What a server takes in one list of a transaction unless told otherwise (`--max-txn-ops`).
pub(crate) const LIST: usize = 128;

/// Operations in lists of at most `width`, by nesting: what fits stays as it is, and else each `width`
/// of them are one transaction within. They still happen together, at one revision.
pub(crate) fn nested(ops: Vec<Op>, width: usize) -> Vec<Op> {
    let width = width.max(2);
    let mut ops = ops;
    while ops.len() > width {
        let mut outer = Vec::with_capacity(ops.len().div_ceil(width));
        let mut rest = ops.into_iter();
        loop {
            let inner: Vec<Op> = rest.by_ref().take(width).collect();
            if inner.is_empty() {
                break;
            }
            outer.push(Txn::always(inner).into());
        }
        ops = outer;
    }
    ops
}

/// `ops` guarded by any number of comparisons: a transaction whose only operation is the next one.
/// The server evaluates all comparisons before it executes anything.
pub(crate) fn guarded(compares: &[Compare], ops: Vec<Op>) -> Txn {
    let mut lists = compares.chunks(LIST).rev();
    let innermost = Txn::when(lists.next().unwrap_or_default().iter().cloned());
    lists.fold(innermost.then(nested(ops, LIST)), |inner, list| {
        Txn::when(list.iter().cloned()).then([inner])
    })
}

/// Whether every comparison of a [`guarded`] transaction held.
pub(crate) fn held(response: &TxnResponse, compares: usize) -> bool {
    let mut response = response;
    for _ in 1..compares.div_ceil(LIST) {
        match response.responses() {
            [OpResponse::Txn(inner)] if response.succeeded() => response = inner,
            _ => return false,
        }
    }
    response.succeeded()
}

/// The answers to [`nested`] operations, in their order.
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
    use crate::kv::Get;

    #[test]
    fn what_fits_is_not_nested() {
        let gets: Vec<Op> = (0..128).map(|n| Get::key(format!("k{n}")).into()).collect();
        assert_eq!(nested(gets.clone(), 128), gets);
    }

    #[test]
    fn what_does_not_fit_is_nested_until_it_does() {
        let gets = |n: usize| (0..n).map(|n| Get::key(format!("k{n}")).into()).collect();
        assert_eq!(nested(gets(129), 128).len(), 2);
        assert_eq!(nested(gets(128 * 128), 128).len(), 128);
        assert_eq!(nested(gets(128 * 128 + 1), 128).len(), 2);
    }
}

//! Transactions of many operations: etcd limits each list of one, and nested ones hold more.

use crate::kv::{Op, OpResponse, Txn};

/// What a server takes in one list of a transaction unless told otherwise (`--max-txn-ops`).
pub(crate) const LIST: usize = 128;

/// Operations in lists of at most `list`, by nesting: what fits stays as it is. They still happen
/// together, at one revision.
///
/// A server that takes 128 operations takes 128 *along a path*: what is nested has what is left of
/// it (`checkTxnRequest`). So two levels have 64 each, and hold 4096 operations; three have 42.
pub(crate) fn nested(mut ops: Vec<Op>, list: usize) -> Vec<Op> {
    let width = width(ops.len(), list);
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

/// The longest list at each level, with as few levels as it takes.
fn width(ops: usize, list: usize) -> usize {
    let mut levels = 1;
    loop {
        let width = list / levels;
        // Two in a list is the least that gets shorter; the server says what it thinks of it.
        if width <= 2 {
            return 2;
        }
        if width.saturating_pow(u32::try_from(levels).unwrap_or(u32::MAX)) >= ops {
            return width;
        }
        levels += 1;
    }
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
    fn what_does_not_fit_is_nested_within_what_a_path_may_hold() {
        let gets = |n: usize| (0..n).map(|n| Get::key(format!("k{n}")).into()).collect();
        assert_eq!(nested(gets(129), 128).len(), 3);
        assert_eq!(nested(gets(64 * 64), 128).len(), 64);
        assert_eq!((width(64 * 64 + 1, 128), width(128, 128)), (42, 128));
        assert_eq!((width(100, 2), width(100, 0)), (2, 2));
    }
}

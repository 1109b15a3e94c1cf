//! Planted faults of reads and writes, and of the truth.

use super::assert_caught;
use crate::history::{Answer, Call, History, Op, Outcome};

/// A random element that fits.
fn pick<'a, T>(
    of: &'a mut [T],
    random: &mut fastrand::Rng,
    fits: impl Fn(&T) -> bool,
) -> Option<&'a mut T> {
    let fitting: Vec<usize> = (0..of.len()).filter(|n| fits(&of[*n])).collect();
    let chosen = random.choice(&fitting)?;
    of.get_mut(*chosen)
}

fn answer(op: &mut Op) -> &mut Answer {
    match &mut op.res {
        Outcome::Ok(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn is_read(op: &Op) -> bool {
    let linearizable = matches!(
        op.op,
        Call::Range {
            serializable: false,
            ..
        }
    );
    linearizable && op.answer().is_some_and(|answer| !answer.kvs.is_empty())
}

fn is_serializable_read(op: &Op) -> bool {
    let serializable = matches!(
        op.op,
        Call::Range {
            serializable: true,
            ..
        }
    );
    serializable && op.answer().is_some_and(|answer| !answer.kvs.is_empty())
}

fn is_write(op: &Op) -> bool {
    matches!(op.op, Call::Put { .. }) && op.answer().is_some()
}

/// The values of a history that were executed.
fn is_executed(history: &History, op: &Op) -> bool {
    let Call::Put { value, .. } = &op.op else {
        return false;
    };
    let mut events = history.truth.iter().flat_map(|truth| &truth.events);
    events.any(|event| event.kv.value == *value && event.kv.key.starts_with("kv/"))
}

#[test]
fn every_planted_fault_of_an_answer_is_caught() {
    assert_caught(&[
        (
            "a read misses a key",
            &["kv: explained"],
            |history, random| {
                let op = pick(&mut history.ops, random, is_read);
                op.map(|op| answer(op).kvs.pop()).is_some()
            },
        ),
        (
            "a read has another value",
            &["kv: explained"],
            |history, random| {
                let op = pick(&mut history.ops, random, is_read);
                op.map(|op| answer(op).kvs[0].value.push('x')).is_some()
            },
        ),
        (
            "a serializable read has another value",
            &["kv: explained"],
            |history, random| {
                let op = pick(&mut history.ops, random, is_serializable_read);
                op.map(|op| answer(op).kvs[0].value.push('x')).is_some()
            },
        ),
        (
            "a read is stale",
            &["kv: explained", "linearizable"],
            |history, random| {
                // The whole answer of an earlier read of all keys.
                let all = |op: &Op| {
                    is_read(op)
                        && matches!(&op.op, Call::Range { keys, .. } if !keys.end.is_empty())
                };
                let early = history.ops.iter().find(|op| all(op)).cloned();
                let Some(early) = early else { return false };
                let after = early.ret.unwrap_or_default() + 300_000_000;
                let late = pick(&mut history.ops, random, |op| all(op) && op.call > after);
                late.map(|op| op.res = early.res.clone()).is_some()
            },
        ),
        (
            "a write is of an older revision",
            &["kv: explained"],
            |history, random| {
                let op = pick(&mut history.ops, random, is_write);
                op.map(|op| answer(op).revision -= 1).is_some()
            },
        ),
        (
            "an acknowledged write is called later than it happened",
            &["kv: explained"],
            |history, random| {
                let op = pick(&mut history.ops, random, is_write);
                op.map(|op| {
                    op.call += 200_000_000;
                    op.ret = op.ret.map(|ret| ret + 200_000_000);
                })
                .is_some()
            },
        ),
        (
            "two writes have one answer",
            &["kv: unique", "kv: explained"],
            |history, random| {
                let Some(op) = pick(&mut history.ops, random, is_write).cloned() else {
                    return false;
                };
                history.ops.push(Op { id: 1 << 40, ..op });
                true
            },
        ),
        (
            "a transaction succeeded whose guard did not hold",
            &["kv: explained"],
            |history, random| {
                let refused = |op: &Op| {
                    matches!(op.op, Call::Txn { .. }) && op.answer().is_some_and(|a| !a.succeeded)
                };
                let op = pick(&mut history.ops, random, refused);
                op.map(|op| answer(op).succeeded = true).is_some()
            },
        ),
        (
            "a transaction was refused whose guards held",
            &["kv: explained"],
            |history, random| {
                let done = |op: &Op| {
                    matches!(op.op, Call::Txn { .. }) && op.answer().is_some_and(|a| a.succeeded)
                };
                let op = pick(&mut history.ops, random, done);
                op.map(|op| answer(op).succeeded = false).is_some()
            },
        ),
    ]);
}

#[test]
fn every_planted_fault_of_an_error_is_caught() {
    assert_caught(&[
        (
            "an executed write claims that it was not",
            &["kv: not executed"],
            |history, random| {
                let copy = history.clone();
                let op = pick(&mut history.ops, random, |op| {
                    is_write(op) && is_executed(&copy, op)
                });
                let res = Outcome::Err {
                    kind: "Unavailable".to_owned(),
                    maybe_applied: false,
                    text: "refused".to_owned(),
                };
                op.map(|op| op.res = res).is_some()
            },
        ),
        (
            "a write of unknown result was executed before its call",
            &["kv: unknown"],
            |history, random| {
                let copy = history.clone();
                let unknown = |op: &Op| op.is_unknown() && is_executed(&copy, op);
                let found = pick(&mut history.ops, random, unknown);
                let op = match found {
                    Some(op) => op,
                    None => {
                        let Some(op) = pick(&mut history.ops, random, is_write) else {
                            return false;
                        };
                        op.res = Outcome::Open;
                        op
                    }
                };
                op.call += 200_000_000;
                op.ret = None;
                true
            },
        ),
        (
            "a change that nobody made",
            &["kv: written"],
            |history, random| {
                let write = pick(&mut history.ops, random, is_write).cloned();
                let Some(write) = write else { return false };
                history.ops.retain(|op| *op != write);
                true
            },
        ),
        (
            "an acknowledged write was executed again",
            &["kv: once", "kv: explained"],
            |history, random| {
                // A later write of the same key writes the same value.
                let Some(first) = history.ops.iter().find(|op| is_write(op)).cloned() else {
                    return false;
                };
                let Call::Put { key, value } = &first.op else {
                    return false;
                };
                let same = |op: &Op| {
                    matches!(&op.op, Call::Put { key: of, .. } if of == key)
                        && is_write(op)
                        && op.id > first.id
                };
                let Some(second) = pick(&mut history.ops, random, same).cloned() else {
                    return false;
                };
                let Call::Put { value: old, .. } = &second.op else {
                    return false;
                };
                for event in history.truth.iter_mut().flat_map(|truth| &mut truth.events) {
                    if event.kv.key == *key && event.kv.value == *old {
                        event.kv.value = value.clone();
                    }
                }
                history.ops.retain(|op| *op != second);
                true
            },
        ),
    ]);
}

#[test]
fn every_planted_fault_of_the_truth_is_caught() {
    assert_caught(&[
        ("a member misses a change", &["truth"], |history, random| {
            let before_the_end = history.last().quiet - 100_000_000;
            let line = pick(&mut history.truth, random, |line| line.t < before_the_end);
            line.map(|line| drop(line.events.pop())).is_some()
        }),
        (
            "members report different values",
            &["truth"],
            |history, random| {
                let line = pick(&mut history.truth, random, |truth| !truth.events[0].del);
                line.map(|line| line.events[0].kv.value.push('x')).is_some()
            },
        ),
        (
            "a change is reported twice",
            &["truth"],
            |history, random| {
                let line =
                    pick(&mut history.truth, random, |truth| !truth.events.is_empty()).cloned();
                line.map(|line| history.truth.push(line)).is_some()
            },
        ),
        (
            "all members miss a revision",
            &["truth"],
            |history, random| {
                let at = history.truth[0].events[0].kv.modified + random.i64(0..100);
                for line in &mut history.truth {
                    line.events.retain(|event| event.kv.modified != at);
                }
                true
            },
        ),
    ]);
}

#[test]
fn the_second_opinion_alone_catches_stale_reads_and_lost_writes() {
    for seed in super::SEEDS {
        let history = super::generate::history(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stale = history.clone();
        let single = |op: &Op| {
            is_read(op) && matches!(&op.op, Call::Range { keys, .. } if keys.end.is_empty())
        };
        let Some(op) = pick(&mut stale.ops, &mut random, single) else {
            continue;
        };
        answer(op).kvs[0].value = "never".to_owned();
        assert!(crate::check::linear(&history).1.is_empty());
        let found = crate::check::linear(&stale).1;
        assert!(!found.is_empty(), "seed {seed}");
    }
}

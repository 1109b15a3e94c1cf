//! Planted faults of locks and elections.

use super::assert_caught;
use crate::history::{Call, History, Hold};

/// Two holds of one seat, one after the other.
fn pair(history: &History, random: &mut fastrand::Rng, election: bool) -> Option<(usize, usize)> {
    let of_seat = |n: &usize| history.holds[*n].election == election;
    let holds: Vec<usize> = (0..history.holds.len()).filter(of_seat).collect();
    let first = random.usize(..holds.len() - 1);
    Some((holds[first], holds[first + 1]))
}

fn exchange_tokens(history: &mut History, random: &mut fastrand::Rng, election: bool) -> bool {
    let Some((a, b)) = pair(history, random, election) else {
        return false;
    };
    let (first, second) = (history.holds[a].clone(), history.holds[b].clone());
    history.holds[a].token = second.token;
    history.holds[b].token = first.token;
    true
}

fn repeat_token(history: &mut History, random: &mut fastrand::Rng, election: bool) -> bool {
    let Some((a, b)) = pair(history, random, election) else {
        return false;
    };
    history.holds[b].token = history.holds[a].token;
    true
}

/// A holder that believes in its lock after the next one has it.
fn hold_on(history: &mut History, random: &mut fastrand::Rng, election: bool) -> bool {
    let Some((a, b)) = pair(history, random, election) else {
        return false;
    };
    let late = history.holds[b].held_at[2];
    history.holds[a].held_at.push(late);
    true
}

#[test]
fn every_planted_fault_of_a_lock_is_caught() {
    assert_caught(&[
        (
            "tokens that decrease",
            &["lock: fencing"],
            |history, random| exchange_tokens(history, random, false),
        ),
        (
            "a token given twice",
            &["lock: fencing"],
            |history, random| repeat_token(history, random, false),
        ),
        (
            "a token without a key",
            &["lock: held"],
            |history, random| {
                let Some((a, _)) = pair(history, random, false) else {
                    return false;
                };
                history.holds[a].token += 1;
                true
            },
        ),
        (
            "held after another has it",
            &["lock: held"],
            |history, random| hold_on(history, random, false),
        ),
        (
            "a write of a former holder",
            &["lock: guarded"],
            |history, random| {
                let Some((a, _)) = pair(history, random, false) else {
                    return false;
                };
                let Hold { token, .. } = history.holds[a];
                // The last write of all has the token of an earlier holder.
                let guarded = |kv: &crate::history::Kv| kv.key == "guarded/l";
                let Some(last) = history.last().kvs.iter().find(|kv| guarded(kv)).cloned() else {
                    return false;
                };
                let forged = format!("{token} again");
                for line in &mut history.truth {
                    for event in &mut line.events {
                        if guarded(&event.kv) && event.kv.value == last.value {
                            event.kv.value = forged.clone();
                        }
                    }
                }
                for op in &mut history.ops {
                    if let Call::Txn { then, .. } = &mut op.op {
                        for change in then
                            .iter_mut()
                            .filter(|c| c.value.as_ref() == Some(&last.value))
                        {
                            change.value = Some(forged.clone());
                        }
                    }
                }
                true
            },
        ),
    ]);
}

#[test]
fn every_planted_fault_of_an_election_is_caught() {
    assert_caught(&[
        (
            "terms that decrease",
            &["election: term"],
            |history, random| exchange_tokens(history, random, true),
        ),
        (
            "two leaders of one term",
            &["election: term"],
            |history, random| repeat_token(history, random, true),
        ),
        (
            "leads after another does",
            &["election: held"],
            |history, random| hold_on(history, random, true),
        ),
        (
            "another leader is told",
            &["election: said"],
            |history, random| {
                let n = random.usize(..history.leaders.len());
                history.leaders[n].value = "impostor leads".to_owned();
                true
            },
        ),
        (
            "a term is told that never was",
            &["election: said"],
            |history, random| {
                let n = random.usize(..history.leaders.len());
                history.leaders[n].token += 1;
                true
            },
        ),
        (
            "a former leader is told again",
            &["election: ordered"],
            |history, random| {
                let n = random.usize(..history.leaders.len() - 1);
                let again = history.leaders[n].clone();
                history.leaders.push(again);
                true
            },
        ),
    ]);
}

//! The checker of linearizability agrees with one that tries every order.

use super::{Action, Entry, Verdict, decide};

/// Tries every order of the remaining entries.
fn brute_force(entries: &[Entry], done: u32, value: u32) -> bool {
    let open = |n: usize| done >> n & 1 == 0;
    let left = || (0..entries.len()).filter(|n| open(*n));
    if left().all(|n| entries[n].ret.is_none()) {
        return true;
    }
    left().any(|n| {
        // No other one has returned before this one was called.
        let first = left().all(|other| entries[other].ret.is_none_or(|ret| ret >= entries[n].call));
        let after = entries[n].action.apply(value);
        first && after.is_some_and(|after| brute_force(entries, done | 1 << n, after))
    })
}

fn entry(call: u64, ret: impl Into<Option<u64>>, action: Action) -> Entry {
    Entry {
        call,
        ret: ret.into(),
        action,
    }
}

/// A history of a real register: each operation is executed at a time between its call and its return.
fn real(random: &mut fastrand::Rng, count: usize) -> Vec<Entry> {
    let mut planned: Vec<_> = (0..count)
        .map(|n| {
            let call = random.u64(0..20);
            let at = call + random.u64(0..6);
            (at, call, at + random.u64(0..6), n)
        })
        .collect();
    planned.sort_unstable();
    let (mut value, mut entries) = (0, Vec::new());
    for (_, call, ret, n) in planned {
        let fresh = n as u32 + 1;
        let action = match random.u8(..6) {
            0 | 1 => Action::Read(value),
            2 => Action::Write(0),
            3 if value != 0 => Action::Swap(value, 0),
            4 if random.bool() => Action::Swap(value, fresh),
            _ => Action::Write(fresh),
        };
        // An operation of unknown result is executed or not.
        let unknown = !matches!(action, Action::Read(_)) && random.u8(..4) == 0;
        if !unknown || random.bool() {
            value = action.apply(value).unwrap();
        }
        entries.push(entry(call, (!unknown).then_some(ret), action));
    }
    entries
}

/// Changes one thing, which may break the history or not.
fn damage(random: &mut fastrand::Rng, entries: &mut Vec<Entry>) {
    let at = random.usize(..entries.len());
    match random.u8(..5) {
        0 => drop(entries.remove(at)),
        1 => entries[at].action = Action::Read(random.u32(0..5)),
        2 => {
            entries[at].ret = entries[at]
                .ret
                .map(|ret| entries[at].call.max(ret.saturating_sub(4)))
        }
        3 => {
            let other = random.usize(..entries.len());
            let action = entries[at].action;
            entries[at].action = entries[other].action;
            entries[other].action = action;
        }
        _ => {
            entries[at].call += 30;
            entries[at].ret = entries[at].ret.map(|ret| ret + 30);
        }
    }
}

#[test]
fn a_real_history_is_linearizable_and_the_verdict_on_a_damaged_one_is_that_of_brute_force() {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..20_000 {
        let count = random.usize(1..8);
        let mut entries = real(&mut random, count);
        assert_eq!(
            decide(&entries, u64::MAX),
            Verdict::Linearizable,
            "{entries:?}"
        );
        for _ in 0..random.usize(1..3) {
            if entries.len() > 1 {
                damage(&mut random, &mut entries);
            }
        }
        let expected = brute_force(&entries, 0, 0);
        let verdict = decide(&entries, u64::MAX);
        assert_eq!(verdict == Verdict::Linearizable, expected, "{entries:?}");
        match expected {
            true => yes += 1,
            false => no += 1,
        }
    }
    println!("{yes} damaged histories are linearizable, {no} are not");
    assert!(yes > 2_000 && no > 2_000);
}

#[test]
fn known_histories_have_their_verdict() {
    use Action::{Read, Swap, Write};
    let stale = [
        entry(0, 1, Write(1)),
        entry(2, 3, Write(2)),
        entry(4, 5, Read(1)),
    ];
    assert_eq!(decide(&stale, 1000), Verdict::Not);
    let overlapping = [
        entry(0, 9, Write(1)),
        entry(1, 2, Read(1)),
        entry(3, 4, Read(0)),
    ];
    assert_eq!(decide(&overlapping, 1000), Verdict::Not);
    let overlapping = [
        entry(0, 9, Write(1)),
        entry(1, 2, Read(0)),
        entry(3, 4, Read(1)),
    ];
    assert_eq!(decide(&overlapping, 1000), Verdict::Linearizable);
    let late = [
        entry(0, None, Write(1)),
        entry(5, 6, Read(0)),
        entry(7, 8, Read(1)),
    ];
    assert_eq!(decide(&late, 1000), Verdict::Linearizable);
    let before_its_call = [entry(5, None, Write(1)), entry(0, 2, Read(1))];
    assert_eq!(decide(&before_its_call, 1000), Verdict::Not);
    let twice = [
        entry(0, 1, Write(1)),
        entry(2, 5, Swap(1, 2)),
        entry(2, 5, Swap(1, 3)),
    ];
    assert_eq!(decide(&twice, 1000), Verdict::Not);
    assert_eq!(decide(&[entry(0, 1, Swap(1, 0))], 1000), Verdict::Not);
}

#[test]
fn a_long_history_of_many_clients_is_decided_fast() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut entries = Vec::new();
    let (mut value, mut now) = (0, 0);
    for n in 0..2_000 {
        now += random.u64(1..10);
        let action = match random.u8(..3) {
            0 => Action::Write(n + 1),
            1 if value != 0 => Action::Swap(value, n + 1),
            _ => Action::Read(value),
        };
        value = action.apply(value).unwrap();
        entries.push(entry(
            now - random.u64(0..15).min(now),
            now + random.u64(0..15),
            action,
        ));
    }
    let begun = std::time::Instant::now();
    assert_eq!(decide(&entries, 5_000_000), Verdict::Linearizable);
    println!("{:?} for {} operations", begun.elapsed(), entries.len());
    // A value that was overwritten long before.
    let first = entries
        .iter()
        .find(|e| matches!(e.action, Action::Write(_)))
        .unwrap();
    let Action::Write(old) = first.action else {
        panic!("the first write")
    };
    entries.push(entry(now + 20, now + 30, Action::Read(old)));
    assert_eq!(decide(&entries, 5_000_000), Verdict::Not);
}

#[test]
fn a_search_without_an_end_is_given_up() {
    let mut entries: Vec<_> = (0..40)
        .map(|n| entry(0, 100, Action::Write(n + 1)))
        .collect();
    entries.push(entry(200, 201, Action::Read(99)));
    assert_eq!(decide(&entries, 10_000), Verdict::Undecided);
}

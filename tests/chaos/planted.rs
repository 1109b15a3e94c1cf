//! Planted faults: a correct history is generated, one thing in it is changed, and the checker of that thing
//! notices, every time.

pub(crate) mod generate;
mod kv;
mod replicas;
mod seats;
mod watches;
mod world;

use crate::history::History;
use crate::judge::judge;

/// The seeds of each test.
const SEEDS: std::ops::Range<u64> = 0..25;

/// Changes something in a history; returns whether there was something to change.
type Plant = fn(&mut History, &mut fastrand::Rng) -> bool;

/// Checks that each planted fault is caught, by one of these rules.
#[track_caller]
fn assert_caught(plants: &[(&str, &[&str], Plant)]) {
    for (name, rules, plant) in plants {
        let mut planted = 0;
        for seed in SEEDS {
            let mut history = generate::history(seed);
            let mut random = fastrand::Rng::with_seed(seed);
            if !plant(&mut history, &mut random) {
                continue;
            }
            planted += 1;
            let found = judge(&history).violations;
            let caught = found
                .iter()
                .any(|violation| rules.contains(&violation.rule));
            let rules_found: Vec<_> = found.iter().map(|violation| violation.rule).collect();
            assert!(
                caught,
                "seed {seed}: {name} was not caught by {rules:?}, but by {rules_found:?}"
            );
        }
        println!("{name}: planted and caught {planted} times");
        assert!(planted >= 20, "{name} was planted {planted} times only");
    }
}

#[test]
fn a_correct_history_has_no_violation() {
    for seed in SEEDS {
        let history = generate::history(seed);
        let judgement = judge(&history);
        if seed == 0 {
            judgement.print(&history);
        }
        judgement.print_violations(&history);
        assert!(judgement.violations.is_empty(), "seed {seed}");
        assert!(
            judgement.answered > 100 && judgement.events > 100 && judgement.linear.undecided == 0
        );
    }
}

#[test]
fn a_correct_history_with_a_lost_store_has_no_violation() {
    for seed in SEEDS {
        let history = generate::history_with_loss(seed);
        let judgement = judge(&history);
        judgement.print_violations(&history);
        assert!(judgement.violations.is_empty(), "seed {seed}");
        assert_eq!(history.eras.len(), 2);
    }
}

//! Judges a history by all checkers.

use std::collections::BTreeMap;

use crate::check::{self, Checked, Violation};
use crate::history::{History, Outcome};

/// What the checkers found, and the figures of the run.
#[derive(Debug)]
pub struct Judgement {
    pub violations: Vec<Violation>,
    pub linear: Checked,
    pub events: usize,
    pub answered: usize,
    /// The failed writes by what their error says, and those of unknown result that were executed after all.
    pub failed: BTreeMap<String, usize>,
}

/// Runs all checkers.
pub fn judge(history: &History) -> Judgement {
    let (stores, mut violations) = check::stores(history);
    violations.extend(check::kv(history, &stores));
    let (linear, found) = check::linear(history);
    violations.extend(found);
    violations.extend(check::watches(history, &stores));
    violations.extend(check::watch_ends(history, &stores));
    violations.extend(check::replicas(history, &stores));
    violations.extend(check::registrations(history, &stores));
    violations.extend(check::locks(history, &stores));
    violations.extend(check::elections(history, &stores));
    let mut failed = BTreeMap::new();
    for op in history.ops.iter().filter(|op| !op.op.is_read()) {
        if let Outcome::Err {
            kind,
            maybe_applied,
            ..
        } = &op.res
        {
            let label = if *maybe_applied {
                "unknown"
            } else {
                "not executed"
            };
            *failed.entry(format!("{label}: {kind}")).or_default() += 1;
        }
    }
    Judgement {
        violations,
        linear,
        events: history.items.iter().map(|item| item.events.len()).sum(),
        answered: history
            .ops
            .iter()
            .filter(|op| op.answer().is_some())
            .count(),
        failed,
    }
}

impl Judgement {
    /// Prints the figures.
    pub fn print(&self, history: &History) {
        let run = history.run();
        println!(
            "seed {}, {} members: {} answers, {} events delivered, {} failed writes {:?}",
            run.seed,
            run.members,
            self.answered,
            self.events,
            self.failed.values().sum::<usize>(),
            self.failed,
        );
        println!(
            "linearizability: {} operations of {} keys in {} windows, {} undecided",
            self.linear.operations, self.linear.keys, self.linear.windows, self.linear.undecided,
        );
        println!(
            "{} watches, {} contents of replicas, {} samples of registrations, {} holds, {} leaders told",
            history.watches.len(),
            history.shots.len(),
            history.samples.len(),
            history.holds.len(),
            history.leaders.len(),
        );
    }

    /// Prints the violations, with the steps of the plan at their time.
    pub fn print_violations(&self, history: &History) {
        for violation in self.violations.iter().take(20) {
            println!("{violation}");
            let Some(at) = violation.at else { continue };
            let faults = history.faults.iter().filter(|fault| fault.t <= at);
            for fault in faults.rev().take(2) {
                let (what, ago) = (
                    if fault.begins { "began" } else { "ended" },
                    (at - fault.t) / 1_000_000,
                );
                println!(
                    "    step {} ({}) {what} {ago} ms before",
                    fault.step, fault.label
                );
            }
        }
        let left = self.violations.len().saturating_sub(20);
        if left > 0 {
            println!("and {left} more");
        }
    }
}

/// The variable with the directory of a history.
#[cfg(test)]
const DIR: &str = "ETCD_BLOCKING_CHAOS_JUDGE";

/// Judges the directory that the variable names, or a history that the test writes.
#[test]
fn judge_a_history_on_disk() {
    if let Some(dir) = std::env::var_os(DIR) {
        let history = crate::history::read(dir.as_ref());
        let judgement = judge(&history);
        judgement.print(&history);
        judgement.print_violations(&history);
        assert!(judgement.violations.is_empty());
        return;
    }
    let dir = std::env::temp_dir().join(format!("etcd-blocking-judge-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let history = crate::planted::generate::history_with_loss(0);
    let recorders = crate::history::Recorders::create(&dir);
    let file = recorders.file("all");
    history
        .lines()
        .into_iter()
        .for_each(|line| file.write(line));
    drop(file);
    let read = crate::history::read(recorders.dir());
    assert_eq!(read, history);
    assert!(judge(&read).violations.is_empty());
    std::fs::remove_dir_all(&dir).unwrap();
}

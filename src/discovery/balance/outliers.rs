//! Decides which instances get no calls for a time, by the outcomes of their calls. Pure.

use std::time::Instant;

use super::call_window::{CallWindow, Tally};
use super::ejection::Ejection;

/// The fewest calls of a window that say how often an instance fails.
const MIN_CALLS: u64 = 5;

/// The fewest failures in a window that count as often.
const MIN_FAILURES: u64 = 3;

/// The fewest calls of all other instances together that say how often these fail.
const MIN_OTHER_CALLS: u64 = 10;

/// The calls of a trial.
const TRIALS: u64 = 5;

/// A percentage that no tally reaches.
const NEVER: u64 = 101;

/// The outliers of one view. Instances are known by their slots.
#[derive(Debug)]
pub(super) struct Outliers {
    rule: Ejection,
    records: Vec<Record>,
    /// The slots that are ejected or on trial.
    out: Vec<usize>,
    /// Those of them that are on trial.
    trials: Vec<usize>,
    /// The earliest end of an ejection or a trial.
    due: Option<Instant>,
    /// The windows of all slots in use together.
    in_use: Tally,
    /// The percentage of failures in use at which the first ejected instance is used again.
    return_percent: u64,
    /// The slots that are in use now and were not, or the reverse, for the owner to apply.
    changes: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    window: CallWindow,
    phase: Phase,
    /// The ejections in a row.
    ejections: u32,
    /// When the instance was last used again, and how long it had been ejected before.
    returned: Option<(Instant, std::time::Duration)>,
    /// The percentage of failures at which it is used again.
    return_percent: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    InUse,
    Ejected {
        since: Instant,
        until: Instant,
    },
    /// One call at a time, of those that begin after `start`.
    Trial {
        since: Instant,
        start: Instant,
        until: Instant,
        tally: Tally,
        is_calling: bool,
    },
}

impl Outliers {
    pub(super) fn new(rule: Ejection) -> Self {
        Outliers {
            rule,
            records: Vec::new(),
            out: Vec::new(),
            trials: Vec::new(),
            due: None,
            in_use: Tally::default(),
            return_percent: NEVER,
            changes: Vec::new(),
        }
    }

    /// The slots that are ejected or on trial.
    pub(super) fn out(&self) -> &[usize] {
        &self.out
    }

    pub(super) fn is_in_use(&self, slot: usize) -> bool {
        let record = self.records.get(slot);
        record.is_none_or(|record| matches!(record.phase, Phase::InUse))
    }

    /// Takes the slot of one change that is not applied yet, and whether it is in use now.
    pub(super) fn next_change(&mut self) -> Option<(usize, bool)> {
        let slot = self.changes.pop()?;
        Some((slot, self.is_in_use(slot)))
    }

    /// Forgets a slot, whose instance left or was restarted. It is in use again, and no change says so.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(record) = self.records.get_mut(slot) {
            let record = std::mem::take(record);
            if matches!(record.phase, Phase::InUse) {
                self.in_use = self.in_use.minus(record.window.tally());
            } else {
                self.update_lists();
            }
        }
    }

    /// Uses ejected instances again until at most half of `instances` are out.
    pub(super) fn limit(&mut self, instances: usize, now: Instant) {
        // Those that have been out for longest.
        let excess = self.out.len().saturating_sub(instances / 2);
        if excess > 0 {
            self.give_back_if(now, |n, _| n < excess);
        }
    }

    /// Ends ejections and trials whose time is over.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.give_back_if(
            now,
            |_, record| matches!(record.phase, Phase::Trial { until, .. } if until <= now),
        );
        for slot in &self.out {
            if let Some(record) = self.records.get_mut(*slot)
                && let Phase::Ejected { since, until } = record.phase
                && until <= now
            {
                record.phase = Phase::Trial {
                    since,
                    start: now,
                    // A trial that nobody takes part in ends, too.
                    until: now + (until - since),
                    tally: Tally::default(),
                    is_calling: false,
                };
            }
        }
        self.update_lists();
    }

    /// Returns whether a slot on trial can get a call. If so, the call counts as begun.
    pub(super) fn begin_trial(&mut self, slot: usize) -> bool {
        match self.records.get_mut(slot).map(|record| &mut record.phase) {
            Some(Phase::Trial { is_calling, .. }) => !std::mem::replace(is_calling, true),
            _ => false,
        }
    }

    /// A slot on trial that waits for a call and meets a condition.
    pub(super) fn waiting_trial(&self, condition: impl Fn(usize) -> bool) -> Option<usize> {
        let waits = |slot: &usize| {
            let record = self.records.get(*slot);
            record.is_some_and(|record| {
                matches!(
                    record.phase,
                    Phase::Trial {
                        is_calling: false,
                        ..
                    }
                )
            })
        };
        (self.trials.iter().copied()).find(|slot| waits(slot) && condition(*slot))
    }

    /// Takes note that a call which began at a time has ended without an outcome.
    pub(super) fn abandoned(&mut self, slot: usize, began: Instant) {
        if let Some(Phase::Trial {
            start, is_calling, ..
        }) = self.records.get_mut(slot).map(|record| &mut record.phase)
        {
            *is_calling &= began < *start;
        }
    }

    /// Takes note of the outcome of a call which began at a time, to one of `instances`.
    pub(super) fn ended(
        &mut self,
        slot: usize,
        failed: bool,
        began: Instant,
        instances: usize,
        now: Instant,
        random: f64,
    ) {
        if slot >= self.records.len() {
            self.records.resize(slot + 1, Record::default());
        }
        let Some(record) = self.records.get_mut(slot) else {
            return;
        };
        match &mut record.phase {
            // The call began before the ejection.
            Phase::Ejected { .. } => {}
            Phase::Trial { start, .. } if began < *start => {}
            Phase::Trial {
                tally, is_calling, ..
            } => {
                *is_calling = false;
                tally.calls += 1;
                tally.failed += u64::from(failed);
                let tally = *tally;
                if failed && tally.is_twice(self.in_use) {
                    self.fail_trial(slot, now, random);
                } else if tally.calls >= TRIALS {
                    self.give_slot_back(slot, now);
                }
            }
            Phase::InUse => {
                let before = record.window.tally();
                record.window.add(failed, now);
                let tally = record.window.tally();
                let others = self.in_use.minus(before);
                self.in_use = others.plus(tally);
                if failed {
                    self.judge(slot, others, instances, now, random);
                    self.give_all_back_that_are_no_worse(now);
                }
            }
        }
    }

    /// Ejects a slot that failed if it fails often, and more often than the others.
    fn judge(&mut self, slot: usize, others: Tally, instances: usize, now: Instant, random: f64) {
        let Some(record) = self.records.get(slot) else {
            return;
        };
        let (tally, rule) = (record.window.tally(), &self.rule);
        let in_a_row = rule.consecutive_failures > 0
            // The window has only 20 calls.
            && record.window.consecutive() >= rule.consecutive_failures.min(20);
        let often = rule.failure_percent > 0
            && tally.calls >= MIN_CALLS
            && tally.failed >= MIN_FAILURES
            && tally.is_at_least(rule.failure_percent.into());
        let is_outlier = (in_a_row || often) && tally.is_twice(others);
        if is_outlier && self.out.len() < instances / 2 {
            self.in_use = others;
            // Twice as often as the others is what an outlier is.
            let percent = (tally.failed * 50 / tally.calls.max(1)).max(25);
            self.eject(slot, percent, now, random);
            self.out.push(slot);
            self.changes.push(slot);
            self.update_lists();
        }
    }

    fn eject(&mut self, slot: usize, return_percent: u64, now: Instant, random: f64) {
        let Some(record) = self.records.get_mut(slot) else {
            return;
        };
        // One step less for each time that the last ejection lasted.
        if let Some((returned, last)) = record.returned.take() {
            let used = now.saturating_duration_since(returned).as_secs_f64();
            let steps = used / last.as_secs_f64().max(f64::MIN_POSITIVE);
            record.ejections = record.ejections.saturating_sub(steps as u32);
        }
        record.ejections = record.ejections.saturating_add(1);
        record.window = CallWindow::default();
        record.return_percent = return_percent;
        let until = now + self.rule.time(record.ejections, random);
        record.phase = Phase::Ejected { since: now, until };
    }

    fn fail_trial(&mut self, slot: usize, now: Instant, random: f64) {
        let percent = self.records.get(slot).map_or(25, |one| one.return_percent);
        self.eject(slot, percent, now, random);
        self.update_lists();
    }

    /// Uses the ejected instances again when the others fail about as often.
    fn give_all_back_that_are_no_worse(&mut self, now: Instant) {
        let others = self.in_use;
        if others.calls >= MIN_OTHER_CALLS && others.is_at_least(self.return_percent) {
            self.give_back_if(now, |_, record| others.is_at_least(record.return_percent));
        }
    }

    fn give_slot_back(&mut self, slot: usize, now: Instant) {
        let at = self.out.iter().position(|other| *other == slot);
        self.give_back_if(now, |n, _| Some(n) == at);
    }

    /// Uses those of the ejected instances again that meet a condition on their position and record.
    fn give_back_if(&mut self, now: Instant, condition: impl Fn(usize, &Record) -> bool) {
        for (n, slot) in self.out.iter().enumerate() {
            let Some(record) = self.records.get_mut(*slot) else {
                continue;
            };
            if let Phase::Ejected { since, until } | Phase::Trial { since, until, .. } =
                record.phase
                && condition(n, record)
            {
                let ejected = until.min(now).saturating_duration_since(since);
                record.returned = Some((now, ejected));
                record.phase = Phase::InUse;
                self.changes.push(*slot);
            }
        }
        self.update_lists();
    }

    /// Makes the lists again from the records of those that were out.
    fn update_lists(&mut self) {
        let (mut due, mut percent) = (None, NEVER);
        self.trials.clear();
        let (records, trials) = (&self.records, &mut self.trials);
        self.out.retain(|slot| {
            let Some(record) = records.get(*slot) else {
                return false;
            };
            let until = match record.phase {
                Phase::InUse => return false,
                Phase::Ejected { until, .. } => until,
                Phase::Trial { until, .. } => {
                    trials.push(*slot);
                    until
                }
            };
            due = Some(due.map_or(until, |due: Instant| due.min(until)));
            percent = percent.min(record.return_percent);
            true
        });
        (self.due, self.return_percent) = (due, percent);
    }
}

#[cfg(test)]
mod tests;

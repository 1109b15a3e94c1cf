//! The health of an instance: all its checks together, and what follows. Pure.

use std::time::Instant;

use super::check_state::{CheckState, CheckStatus};
use super::consequence::{Consequence, Consequences, Initial};
use super::health::{CheckHealth, Health};

/// One check of an instance.
#[derive(Clone, Debug)]
struct NamedCheck {
    name: String,
    state: CheckState,
    since: Instant,
    /// The failure that made it fail. Later failures do not replace it, because each new reason would
    /// be one more write to etcd.
    reason: String,
    /// The failure of the last result, if it was one.
    last_error: Option<String>,
}

/// The health of an instance. It passes when all its checks pass, and fails when one of them fails.
#[derive(Clone, Debug)]
pub(crate) struct InstanceHealth {
    checks: Vec<NamedCheck>,
    consequences: Consequences,
    status: CheckStatus,
    since: Instant,
    was_healthy: bool,
}

impl InstanceHealth {
    /// Creates the health of an instance with these checks, none of which has a result.
    pub(crate) fn new(
        checks: impl IntoIterator<Item = (String, CheckState)>,
        consequences: Consequences,
        now: Instant,
    ) -> Self {
        let named = |(name, state)| NamedCheck {
            name,
            state,
            since: now,
            reason: String::new(),
            last_error: None,
        };
        let mut health = InstanceHealth {
            checks: checks.into_iter().map(named).collect(),
            consequences,
            status: CheckStatus::Starting,
            since: now,
            was_healthy: false,
        };
        health.combine(now);
        health
    }

    /// Counts a result of the check with this index.
    pub(crate) fn on(&mut self, index: usize, result: Result<(), String>, now: Instant) {
        let Some(check) = self.checks.get_mut(index) else {
            return;
        };
        let changed = check.state.on(result.is_ok(), now);
        check.last_error = result.err();
        if changed {
            check.since = now;
            check.reason = check.last_error.clone().unwrap_or_default();
            self.combine(now);
        }
    }

    fn combine(&mut self, now: Instant) {
        let has = |status| {
            self.checks
                .iter()
                .any(|check| check.state.status() == status)
        };
        let status = match (has(CheckStatus::Failing), has(CheckStatus::Starting)) {
            (true, _) => CheckStatus::Failing,
            (false, true) => CheckStatus::Starting,
            (false, false) => CheckStatus::Passing,
        };
        if status != self.status {
            self.status = status;
            self.since = now;
        }
        self.was_healthy |= status == CheckStatus::Passing;
    }

    /// The status of the check with this index.
    pub(crate) fn status_of(&self, index: usize) -> CheckStatus {
        let check = self.checks.get(index);
        check.map_or(CheckStatus::Starting, |check| check.state.status())
    }

    /// Why the instance does not pass: the first check that has the status of the instance.
    fn reason(&self) -> Option<String> {
        if self.status == CheckStatus::Passing {
            return None;
        }
        let first = (self.checks.iter()).find(|check| check.state.status() == self.status)?;
        Some(match self.status {
            CheckStatus::Failing => format!("{}: {}", first.name, first.reason),
            _ => format!("{}: has not passed yet", first.name),
        })
    }

    /// What is done with the instance at this time.
    pub(crate) fn consequence(&self, now: Instant) -> Consequence {
        let Some(reason) = self.reason() else {
            return Consequence::Healthy;
        };
        let settings = &self.consequences;
        let is_failing = self.status == CheckStatus::Failing;
        let failed = now.saturating_duration_since(self.since);
        let is_over = |limit: Option<_>| is_failing && limit.is_some_and(|limit| failed >= limit);
        let is_withheld = !self.was_healthy && settings.initial == Initial::Withheld;
        let is_ignored = !self.was_healthy && settings.initial == Initial::Healthy && !is_failing;
        if is_over(settings.leave_after) {
            Consequence::Leave { reason }
        } else if is_withheld || is_over(settings.withdraw_after) {
            Consequence::Withdrawn { reason }
        } else if is_ignored {
            Consequence::Healthy
        } else {
            Consequence::OutOfService { reason }
        }
    }

    /// The time at which [`consequence`](Self::consequence) changes without a result.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        if self.status != CheckStatus::Failing {
            return None;
        }
        let limits = [
            self.consequences.withdraw_after,
            self.consequences.leave_after,
        ];
        let times = limits.into_iter().flatten();
        let times = times.filter_map(|limit| self.since.checked_add(limit));
        times.filter(|at| *at > now).min()
    }

    /// The health for the reader.
    pub(crate) fn snapshot(&self) -> Health {
        let check = |check: &NamedCheck| CheckHealth {
            name: check.name.clone(),
            status: check.state.status(),
            since: check.since,
            last_error: check.last_error.clone(),
        };
        Health {
            status: self.status,
            since: self.since,
            reason: self.reason(),
            checks: self.checks.iter().map(check).collect(),
        }
    }
}

#[cfg(test)]
mod tests;

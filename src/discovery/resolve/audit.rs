//! When a source compares its contents with etcd, and what follows. Pure.
//!
//! A watch that lost an event does not know it. An audit asks etcd for the number of keys and the newest
//! modification at the revision that the mirror claims to have, and compares both with the mirror.

use std::time::{Duration, Instant};

use crate::types::Revision;

/// The time for the watch to report its progress, so that the mirror's revision is not compacted.
const PROGRESS: Duration = Duration::from_secs(1);

/// The most attempts of one audit, when the revision is compacted.
const ATTEMPTS: u32 = 3;

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// The number of keys.
    pub(super) count: u64,
    /// The newest modification of a key; 0 without keys.
    pub(super) newest: Revision,
}

/// The answer of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditAnswer {
    Summary(Summary),
    /// The revision is compacted.
    Compacted,
    /// Another error.
    Failed,
}

/// The next step of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditStep {
    /// Ask the watch for its progress.
    Progress,
    /// Ask etcd for the summary, and call [`Audit::asked`] with that of the mirror.
    Ask,
}

/// The result of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditResult {
    Same,
    Different,
    /// It could not be compared.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Audit {
    /// The mean time between two audits; `None` for no audits.
    every: Option<Duration>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting(Option<Instant>),
    Progress { until: Instant, attempt: u32 },
    Asked { mirror: Summary, attempt: u32 },
}

impl Audit {
    /// Creates the audit of a source. With `None` there are no audits.
    pub(super) fn new(every: Option<Duration>) -> Self {
        Audit {
            every,
            state: State::Waiting(None),
        }
    }

    /// The step that is due. `is_live` means that the mirror claims to be up to date. `fraction` is a random
    /// number from 0 to 1: the time between two audits is from a half to three halves of its mean, so that
    /// views which were opened together do not ask together.
    pub(super) fn step(&mut self, now: Instant, is_live: bool, fraction: f64) -> Option<AuditStep> {
        let every = self.every?;
        match self.state {
            State::Waiting(None) => {
                self.state = State::Waiting(Some(now + every.mul_f64(0.5 + fraction)));
                None
            }
            State::Waiting(Some(at)) if at <= now => {
                if !is_live {
                    self.state = State::Waiting(None);
                    return self.step(now, is_live, fraction);
                }
                Some(self.progress(now, 1))
            }
            State::Progress { until, attempt } if until <= now => {
                if !is_live {
                    self.state = State::Waiting(None);
                    return self.step(now, is_live, fraction);
                }
                let mirror = Summary::default();
                self.state = State::Asked { mirror, attempt };
                Some(AuditStep::Ask)
            }
            _ => None,
        }
    }

    /// Records the summary of the mirror at the revision for which etcd was asked.
    pub(super) fn asked(&mut self, summary: Summary) {
        if let State::Asked { mirror, .. } = &mut self.state {
            *mirror = summary;
        }
    }

    /// Applies the answer of etcd. Without a result, the audit is repeated with a newer revision.
    pub(super) fn answered(
        &mut self,
        answer: AuditAnswer,
        now: Instant,
    ) -> Result<AuditResult, AuditStep> {
        let State::Asked { mirror, attempt } = self.state else {
            return Ok(AuditResult::Unknown);
        };
        self.state = State::Waiting(None);
        match answer {
            AuditAnswer::Summary(etcd) if etcd == mirror => Ok(AuditResult::Same),
            AuditAnswer::Summary(_) => Ok(AuditResult::Different),
            AuditAnswer::Compacted if attempt < ATTEMPTS => Err(self.progress(now, attempt + 1)),
            AuditAnswer::Compacted | AuditAnswer::Failed => Ok(AuditResult::Unknown),
        }
    }

    /// The time of the next step.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => at,
            State::Progress { until, .. } => Some(until),
            State::Asked { .. } => None,
        }
    }

    fn progress(&mut self, now: Instant, attempt: u32) -> AuditStep {
        // A short interval of a test has a short pause.
        let pause = self.every.unwrap_or(PROGRESS).min(PROGRESS);
        self.state = State::Progress {
            until: now + pause,
            attempt,
        };
        AuditStep::Progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn summary(count: u64, newest: i64) -> Summary {
        let newest = Revision::new(newest);
        Summary { count, newest }
    }

    /// An audit for which etcd was asked, and the time.
    fn asked() -> (Audit, Instant) {
        let (mut audit, now) = (Audit::new(Some(EVERY)), Instant::now());
        assert_eq!(audit.step(now, true, 0.5), None);
        assert_eq!(audit.due(), Some(now + EVERY));
        assert_eq!(audit.step(now + EVERY / 2, true, 0.0), None);
        let now = now + EVERY;
        assert_eq!(audit.step(now, true, 0.5), Some(AuditStep::Progress));
        assert_eq!(audit.due(), Some(now + PROGRESS));
        assert_eq!(audit.step(now, true, 0.5), None, "it waits for the mirror");
        let now = audit.due().unwrap();
        assert_eq!(audit.step(now, true, 0.5), Some(AuditStep::Ask));
        assert_eq!(
            audit.step(now + EVERY * 9, true, 0.5),
            None,
            "one at a time"
        );
        audit.asked(summary(3, 7));
        (audit, now)
    }

    #[test]
    fn an_audit_compares_and_waits() {
        for (answer, result) in [
            (summary(3, 7), AuditResult::Same),
            (summary(2, 7), AuditResult::Different),
            (summary(3, 8), AuditResult::Different),
        ] {
            let (mut audit, now) = asked();
            let found = audit.answered(AuditAnswer::Summary(answer), now);
            assert_eq!(found, Ok(result));
            assert_eq!(audit.step(now, true, 1.0), None);
            assert_eq!(audit.due(), Some(now + EVERY * 3 / 2));
        }
    }

    #[test]
    fn a_compacted_revision_is_replaced_by_a_newer_one_a_few_times() {
        let (mut audit, mut now) = asked();
        for _ in 1..ATTEMPTS {
            let again = audit.answered(AuditAnswer::Compacted, now);
            assert_eq!(again, Err(AuditStep::Progress));
            now = audit.due().unwrap();
            assert_eq!(audit.step(now, true, 0.5), Some(AuditStep::Ask));
        }
        let ended = audit.answered(AuditAnswer::Compacted, now);
        assert_eq!(ended, Ok(AuditResult::Unknown));
        let (mut audit, now) = asked();
        let failed = audit.answered(AuditAnswer::Failed, now);
        assert_eq!(failed, Ok(AuditResult::Unknown));
    }

    #[test]
    fn a_source_that_is_not_live_is_not_compared() {
        let (mut audit, now) = (Audit::new(Some(EVERY)), Instant::now());
        audit.step(now, false, 0.0);
        let now = audit.due().unwrap();
        assert_eq!(audit.step(now, false, 0.0), None);
        assert_eq!(audit.due(), Some(now + EVERY / 2));
        let now = now + EVERY;
        assert_eq!(audit.step(now, true, 0.0), Some(AuditStep::Progress));
        let now = audit.due().unwrap();
        assert_eq!(audit.step(now, false, 0.0), None, "stale since");
        assert_eq!(audit.due(), Some(now + EVERY / 2));
    }

    #[test]
    fn without_an_interval_there_are_no_audits() {
        let mut audit = Audit::new(None);
        assert_eq!(audit.step(Instant::now(), true, 0.0), None);
        assert_eq!(audit.due(), None);
    }
}

//! How far the clocks of members are from the clock of this machine. Pure.
//!
//! A member tells its time in whole seconds, in the header `Date` of an answer over HTTP. It told it between the question
//! and the answer, so a difference is known only if it is longer than that time and a second.

use std::time::{Duration, SystemTime};

use super::finding::{Class, Finding};
use super::look::ClockReading;

/// The longest difference that is in order.
const LIMIT: Duration = Duration::from_secs(2);

/// The least difference of a clock to that of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    None,
    Ahead(Duration),
    Behind(Duration),
}

fn difference(reading: &ClockReading) -> Difference {
    let last = reading.told + Duration::from_secs(1);
    if let Ok(ahead) = reading.told.duration_since(reading.after) {
        return Difference::Ahead(ahead);
    }
    match reading.before.duration_since(last) {
        Ok(behind) => Difference::Behind(behind),
        Err(_) => Difference::None,
    }
}

/// The findings about the clocks of endpoints; `None` for an endpoint whose clock could not be read.
pub(super) fn examine(readings: &[(&str, Option<ClockReading>)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = 0_usize;
    let read = readings.iter().filter(|(_, reading)| reading.is_some());
    let read = read.count();
    for (endpoint, reading) in readings {
        let Some(reading) = reading else {
            let text = "its clock cannot be read: it does not answer over HTTP/1 on this port";
            findings.push(Finding::info(Class::Clock, *endpoint, text));
            continue;
        };
        let (difference, side) = match difference(reading) {
            Difference::Ahead(by) => (by, "ahead of"),
            Difference::Behind(by) => (by, "behind"),
            Difference::None => (Duration::ZERO, ""),
        };
        if difference < LIMIT {
            let text = "no difference to the clock of this machine was seen";
            findings.push(Finding::ok(Class::Clock, *endpoint, text));
            continue;
        }
        wrong += 1;
        let text = format!(
            "its clock is {} s or more {side} the clock of this machine",
            difference.as_secs()
        );
        findings.push(
            Finding::warning(Class::Clock, *endpoint, text)
                .why("certificates and tokens are judged by the clock; times in logs do not match")
                .advice("synchronise the clocks, as with chrony or systemd-timesyncd"),
        );
    }
    if wrong > 1 && wrong == read {
        findings.push(Finding::info(
            Class::Clock,
            "this machine",
            "its clock differs from that of every member: look at this machine first",
        ));
    }
    findings
}

/// The time of this machine as far as it may be before an instance counts as registered in the future.
pub(super) fn tolerated(now: SystemTime) -> SystemTime {
    now + Duration::from_secs(5)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn reading(before: u64, told: u64, after: u64) -> Option<ClockReading> {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        Some(ClockReading {
            before: at(before),
            told: at(told),
            after: at(after),
        })
    }

    #[test]
    fn only_a_difference_that_is_certain_is_found() {
        for (reading, severity, expected) in [
            (
                reading(10_900, 10_000, 10_950),
                Severity::Ok,
                "no difference",
            ),
            // The answer took 30 s.
            (
                reading(10_000, 39_000, 40_000),
                Severity::Ok,
                "no difference",
            ),
            (
                reading(10_000, 12_000, 10_100),
                Severity::Ok,
                "no difference",
            ),
            (
                reading(10_000, 13_000, 10_100),
                Severity::Warning,
                "2 s or more ahead of",
            ),
            (
                reading(10_000, 2_000, 10_100),
                Severity::Warning,
                "7 s or more behind",
            ),
            (None, Severity::Info, "cannot be read"),
        ] {
            let findings = examine(&[("a", reading)]);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].severity, severity, "{findings:?}");
            assert!(findings[0].what.contains(expected), "{findings:?}");
        }
        let wrong = reading(10_000, 90_000, 10_100);
        let findings = examine(&[("a", wrong), ("b", wrong)]);
        assert!(
            findings[2].what.contains("this machine first"),
            "{findings:?}"
        );
    }
}

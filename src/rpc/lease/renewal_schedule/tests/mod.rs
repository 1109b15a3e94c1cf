//! The rules of the schedule one by one, and a model of server, network and clock.

mod answers;
mod model;
mod pacing;
mod refused;
mod streams;

use std::time::Duration;

use super::lease_end::LeaseEnd;
use super::{Action, Input, RenewalSchedule, StreamFailure, StreamRole};
use crate::error::ErrorKind;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

const TTL: i64 = 30;

fn lease(n: i64) -> LeaseId {
    LeaseId::new(n).unwrap()
}

fn at(millis: u64) -> BootTime {
    BootTime::from_boot(Duration::from_millis(1_000_000 + millis))
}

fn add(n: i64) -> Input {
    Input::Add {
        lease: lease(n),
        within: Duration::from_secs(5),
    }
}

fn answer(n: i64, ttl: i64) -> Input {
    Input::Answer {
        role: StreamRole::Shared,
        lease: lease(n),
        ttl,
    }
}

fn broken() -> Input {
    Input::Broken(
        StreamRole::Shared,
        StreamFailure::new(ErrorKind::Unavailable, "connection refused"),
    )
}

fn renewed(n: i64, ttl: u64, until: u64) -> Action {
    Action::Renewed {
        lease: lease(n),
        ttl: Duration::from_secs(ttl),
        until: at(until),
    }
}

fn sends(actions: &[Action]) -> usize {
    let is_send = |action: &&Action| matches!(action, Action::Send(..));
    actions.iter().filter(is_send).count()
}

/// A schedule with an open stream and lease 1, whose first renewal was sent at 0.
fn asked() -> RenewalSchedule {
    let mut schedule = RenewalSchedule::new(1);
    assert_eq!(
        schedule.on(add(1), at(0)),
        [Action::Open(StreamRole::Shared)]
    );
    assert_eq!(
        schedule.on(Input::Opened(StreamRole::Shared), at(0)),
        [Action::Send(StreamRole::Shared, lease(1))]
    );
    schedule
}

/// The schedule of [`asked`] after an answer at 10.
fn alive() -> RenewalSchedule {
    let mut schedule = asked();
    schedule.on(answer(1, TTL), at(10));
    schedule
}

/// Ticks at the times that the schedule requests (on whole milliseconds, like a timer), up to `end`, until
/// there are actions.
fn run(schedule: &mut RenewalSchedule, end: u64) -> (u64, Vec<Action>) {
    while let Some(wake) = schedule.wake_at().filter(|wake| *wake <= at(end)) {
        let millis = wake.since(at(0)).as_nanos().div_ceil(1_000_000);
        let millis = u64::try_from(millis).unwrap();
        let actions = schedule.on(Input::Tick, at(millis));
        if !actions.is_empty() {
            return (millis, actions);
        }
    }
    (end, Vec::new())
}

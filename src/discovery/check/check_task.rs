//! The worker's side of the checks of one instance.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::check_state::CheckStatus;
use super::checks::Checks;
use super::consequence::Consequence;
use super::health::Health;
use super::instance_health::InstanceHealth;
use super::running_check::{CheckStep, RunningCheck};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::worker::{NextWork, Part, PartHandle, Worker};

/// The registration whose health is checked.
pub(crate) trait CheckedRegistration: Send {
    /// Does what follows from the health. It does not block.
    fn apply(&self, consequence: Consequence);

    /// Whether the registration has ended. Then the checks end.
    fn has_ended(&self) -> bool;

    /// Wakes the waker when the registration ends.
    fn wake_at_end(&self, waker: &Waker);
}

/// Checks that are valid, and not running yet.
pub(crate) struct PlannedChecks {
    health: InstanceHealth,
    checks: Vec<RunningCheck>,
    created: Instant,
}

/// The running checks of one instance. They end when this is dropped, or when the registration ends.
#[derive(Debug)]
pub(crate) struct RunningChecks {
    health: Arc<Mutex<InstanceHealth>>,
    _part: PartHandle,
}

/// Runs the checks, and applies what follows from them.
struct CheckTask {
    client: Client,
    registration: Box<dyn CheckedRegistration>,
    health: Arc<Mutex<InstanceHealth>>,
    checks: Vec<RunningCheck>,
    applied: Consequence,
}

impl PlannedChecks {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid setting.
    pub(crate) fn new(checks: Checks) -> Result<Self> {
        let (plans, consequences) = checks.plan()?;
        let now = Instant::now();
        let states: Vec<_> = plans.iter().map(|plan| plan.state(now)).collect();
        let running = |plan| RunningCheck::new(plan, now);
        Ok(PlannedChecks {
            health: InstanceHealth::new(states, consequences, now),
            checks: plans.into_iter().map(running).collect(),
            created: now,
        })
    }

    /// What is published before the first result.
    pub(crate) fn initial(&self) -> Consequence {
        self.health.consequence(self.created)
    }

    /// Starts the checks on the worker of the client.
    ///
    /// # Errors
    ///
    /// [`Os`](crate::ErrorKind::Os) when no thread can be started.
    pub(crate) fn start(
        self,
        client: &Client,
        registration: Box<dyn CheckedRegistration>,
    ) -> Result<RunningChecks> {
        let applied = self.initial();
        let health = Arc::new(Mutex::new(self.health));
        let task = CheckTask {
            client: client.clone(),
            registration,
            health: Arc::clone(&health),
            checks: self.checks,
            applied,
        };
        let part = Worker::of(client)?.serve(Box::new(task));
        Ok(RunningChecks {
            health,
            _part: part,
        })
    }
}

impl RunningChecks {
    pub(crate) fn health(&self) -> Health {
        self.health.lock().snapshot()
    }
}

impl CheckTask {
    /// Takes the results of one check that have arrived, starts its next probe, and returns when it is
    /// due again; `None` when the client was closed.
    fn step(&mut self, index: usize, now: Instant) -> Option<Instant> {
        let check = self.checks.get_mut(index)?;
        // A check has few results at once: a beat, the failure after it, the start of the next probe.
        for _ in 0..8 {
            let is_starting = self.health.lock().status_of(index) == CheckStatus::Starting;
            match check.step(&self.client, is_starting, now) {
                CheckStep::Result(result) => {
                    let mut health = self.health.lock();
                    health.on(index, result, now);
                    check.set_passing(health.status_of(index) == CheckStatus::Passing);
                }
                CheckStep::Wait(until) => return Some(until),
                CheckStep::Closed => return None,
            }
        }
        Some(now)
    }
}

impl Part for CheckTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        if self.registration.has_ended() {
            return None;
        }
        let mut next = None;
        for index in 0..self.checks.len() {
            let due = self.step(index, now)?;
            next = Some(next.map_or(due, |next: Instant| next.min(due)));
        }
        let (consequence, change) = {
            let health = self.health.lock();
            (health.consequence(now), health.next_change(now))
        };
        if consequence != self.applied {
            self.registration.apply(consequence.clone());
            self.applied = consequence;
            if let Consequence::Leave { .. } = self.applied {
                return None;
            }
        }
        Some(NextWork(next.into_iter().chain(change).min()))
    }

    fn failed(&mut self, error: &Error) {
        let reason = format!("the health checks ended: {error}");
        self.registration
            .apply(Consequence::OutOfService { reason });
    }

    fn wait(&self, waker: &Waker) {
        self.registration.wake_at_end(waker);
        for check in &self.checks {
            check.wait(waker);
        }
    }
}

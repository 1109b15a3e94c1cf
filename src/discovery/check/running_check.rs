//! One check while it runs: starts probes and collects their results.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::closure_thread::{CheckClosure, ClosureThread};
use super::heartbeat::Pulse;
use super::plan::{CheckPlan, Source};
use super::probe_schedule::{ProbeSchedule, ProbeStep};
use super::silence::{Beats, Silence, SilenceStep};
use crate::client::Client;
use crate::error::{ErrorKind, printable};
use crate::rpc::probe::Probe;
use crate::runtime::Pending;
use crate::util::jitter;

/// How much later than a probe itself its schedule notices the timeout, so that the reason is that of
/// the probe. It counts when the runtime thread is late.
const MARGIN: Duration = Duration::from_millis(250);

/// The longest reason, in characters. It is published with the instance.
const LONGEST_REASON: usize = 200;

/// The result of a probe.
pub(crate) type CheckResult = Result<(), String>;

/// A check that runs.
#[derive(Debug)]
pub(crate) struct RunningCheck {
    kind: Running,
    /// Whether a beat changes anything: the check does not pass.
    awaits_beat: bool,
}

enum Running {
    Probe {
        probe: Probe,
        timeout: Duration,
        schedule: ProbeSchedule,
        pending: Option<(u64, Pending<CheckResult>)>,
    },
    Closure {
        thread: LazyThread,
        timeout: Duration,
        schedule: ProbeSchedule,
    },
    Heartbeat {
        pulse: Arc<Pulse>,
        within: Duration,
        silence: Silence,
        seen: Beats,
    },
}

/// The thread of a closure, which starts with the first probe.
enum LazyThread {
    New(Option<Box<CheckClosure>>),
    Started(ClosureThread),
    Failed(String),
}

/// What a check does next.
pub(crate) enum CheckStep {
    Result(CheckResult),
    Wait(Instant),
    /// The client was closed.
    Closed,
}

impl RunningCheck {
    pub(crate) fn new(plan: CheckPlan, now: Instant) -> Self {
        let timeout = plan.timeout;
        let schedule = |margin| ProbeSchedule::new(plan.interval, timeout + margin, now);
        let kind = match plan.source {
            Source::Probe(probe) => Running::Probe {
                probe,
                timeout,
                schedule: schedule(MARGIN),
                pending: None,
            },
            Source::Closure(closure) => Running::Closure {
                thread: LazyThread::New(Some(closure)),
                timeout,
                schedule: schedule(Duration::ZERO),
            },
            Source::Heartbeat(pulse) => Running::Heartbeat {
                pulse,
                within: plan.interval,
                silence: Silence::new(plan.interval, now),
                seen: Beats::default(),
            },
        };
        RunningCheck {
            kind,
            awaits_beat: true,
        }
    }

    /// Does what is due without blocking. It is called again after a result.
    pub(crate) fn step(&mut self, client: &Client, is_starting: bool, now: Instant) -> CheckStep {
        match &mut self.kind {
            Running::Probe {
                probe,
                timeout,
                schedule,
                pending,
            } => {
                if let Some((number, reply)) = pending
                    && let Some(reply) = reply.try_wait()
                {
                    let has_stalled = schedule.has_stalled(now) && !matches!(reply, Ok(Ok(())));
                    // After a stall the next step starts another probe.
                    let counts = !has_stalled && schedule.ended(*number);
                    *pending = None;
                    match reply {
                        Err(error) if error.kind() == ErrorKind::Closed => {
                            return CheckStep::Closed;
                        }
                        Err(error) if counts => return failure(&error.to_string()),
                        Ok(result) if counts => return result_of(result),
                        _ => {}
                    }
                }
                match schedule.step(is_starting, now, jitter::fraction()) {
                    ProbeStep::Start(number) => {
                        *pending = Some((number, client.probe(probe.clone(), *timeout)));
                        CheckStep::Wait(now + *timeout + MARGIN)
                    }
                    ProbeStep::TimedOut(_) => {
                        *pending = None;
                        failure(&format!("no answer in {timeout:?}"))
                    }
                    ProbeStep::Wait(until) => CheckStep::Wait(until),
                }
            }
            Running::Closure {
                thread,
                timeout,
                schedule,
            } => {
                if let Some((number, result)) = thread.take_result()
                    && schedule.ended(number)
                {
                    return result_of(result);
                }
                match schedule.step(is_starting, now, jitter::fraction()) {
                    ProbeStep::Start(number) => match thread.call(number) {
                        Ok(()) => CheckStep::Wait(now + *timeout),
                        Err(why) => {
                            schedule.ended(number);
                            failure(&why)
                        }
                    },
                    ProbeStep::TimedOut(_) => failure(&format!("no result in {timeout:?}")),
                    ProbeStep::Wait(until) => CheckStep::Wait(until),
                }
            }
            Running::Heartbeat {
                pulse,
                within,
                silence,
                seen,
            } => {
                if let Some(why) = pulse.take_failure() {
                    return failure(&why);
                }
                *seen = pulse.beats();
                match silence.step(*seen, now) {
                    SilenceStep::Beat => CheckStep::Result(Ok(())),
                    SilenceStep::Silent => failure(&format!("no heartbeat in {within:?}")),
                    SilenceStep::Wait(until) => CheckStep::Wait(until),
                }
            }
        }
    }

    /// Notes whether the check passes.
    pub(crate) fn set_passing(&mut self, is_passing: bool) {
        self.awaits_beat = !is_passing;
    }

    /// Gives the waker to whatever has the next result.
    pub(crate) fn wait(&self, waker: &Waker) {
        match &self.kind {
            Running::Probe { pending, .. } => {
                if let Some((_, pending)) = pending {
                    pending.wake_when_ready(waker);
                }
            }
            Running::Closure { thread, .. } => thread.wake_at_result(waker),
            Running::Heartbeat { pulse, seen, .. } => {
                pulse.wake_at_change(self.awaits_beat, *seen, waker);
            }
        }
    }
}

fn result_of(result: CheckResult) -> CheckStep {
    match result {
        Ok(()) => CheckStep::Result(Ok(())),
        Err(why) => failure(&why),
    }
}

/// A failure with a reason that is safe to print and to publish.
fn failure(why: &str) -> CheckStep {
    let cut: String = why.chars().take(LONGEST_REASON).collect();
    CheckStep::Result(Err(printable(&cut)))
}

impl LazyThread {
    fn take_result(&self) -> Option<(u64, CheckResult)> {
        match self {
            LazyThread::Started(thread) => thread.take_result(),
            LazyThread::New(_) | LazyThread::Failed(_) => None,
        }
    }

    /// Begins a call. Returns why it did not begin.
    fn call(&mut self, number: u64) -> CheckResult {
        if let LazyThread::New(closure) = self {
            *self = match closure.take().map(ClosureThread::start) {
                Some(Ok(thread)) => LazyThread::Started(thread),
                Some(Err(error)) => LazyThread::Failed(format!("no thread: {error}")),
                None => LazyThread::Failed("no closure".into()),
            };
        }
        match self {
            LazyThread::Started(thread) if thread.call(number) => Ok(()),
            LazyThread::Started(_) => Err("an earlier call has not returned".into()),
            LazyThread::Failed(why) => Err(why.clone()),
            LazyThread::New(_) => Err("no thread".into()),
        }
    }

    fn wake_at_result(&self, waker: &Waker) {
        if let LazyThread::Started(thread) = self {
            thread.wake_at_result(waker);
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Running::Probe { .. } => "Probe",
            Running::Closure { .. } => "Closure",
            Running::Heartbeat { .. } => "Heartbeat",
        };
        f.debug_struct(name).finish_non_exhaustive()
    }
}

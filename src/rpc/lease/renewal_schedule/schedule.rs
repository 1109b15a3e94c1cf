//! The schedule of all leases.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::action::Action;
use super::input::Input;
use super::lease_end::LeaseEnd;
use super::stream_failure::StreamFailure;
use super::stream_role::StreamRole;
use super::stream_schedule::{StreamSchedule, StreamState};
use crate::error::ErrorKind;
use crate::rpc::lease::ttl_seconds::ttl_from_seconds;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::boot_time::BootTime;
use crate::util::jitter::Jitter;

/// The time limit of an answer when the time to live is not known yet.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// After a first answer "no such lease", the renewal is repeated once after this time. Before etcd
/// 3.4.20 and 3.5.3, a member that lags behind the one that granted the lease answered so.
const NOT_FOUND_RETRY: Duration = Duration::from_millis(200);

/// The waits before a refused renewal is repeated: permissions can be corrected.
const REFUSED_RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// The lower bound of a wait that is shortened because a lease ends.
const MIN_WAIT: Duration = Duration::from_millis(50);

/// If a lease ends within this time, its stream is opened with the priority of a call. With
/// background priority, dials of a failing address are up to 1.5 s apart, and a dial may take 3 s.
const URGENT_BELOW: Duration = Duration::from_secs(5);

/// One of several leases is renewed up to this fraction earlier than at a third of its time to live, so
/// that leases that were granted together are not renewed together.
const JITTER: f64 = 0.1;

/// A renewal is sent up to this time earlier when the client is awake. So leases whose renewals are due at
/// about the same time wake it once.
const EARLY: Duration = Duration::from_millis(100);

/// Decides when each lease of a client is renewed, and when it has ended.
#[derive(Debug)]
pub(in crate::rpc::lease) struct RenewalSchedule {
    leases: HashMap<LeaseId, Lease>,
    /// The time at which each lease ends.
    ends: BTreeSet<(BootTime, LeaseId)>,
    /// The time at which each renewed lease must be renewed again.
    pub(super) due: BTreeSet<(BootTime, LeaseId)>,
    /// The time at which each lease that is to be renewed now is reported as late.
    late: BTreeSet<(BootTime, LeaseId)>,
    pub(super) shared: StreamSchedule,
    isolated: StreamSchedule,
    last_failure: Option<StreamFailure>,
    random: Jitter,
    actions: Vec<Action>,
}

/// A lease that is kept alive.
#[derive(Debug)]
struct Lease {
    until: BootTime,
    /// The time to live of the last answer; `None` before the first one.
    ttl: Option<Duration>,
    within: Duration,
    repeated: bool,
    phase: Phase,
    role: StreamRole,
    lateness: Lateness,
    /// The last refusal and the waits between repetitions, while its renewals are refused.
    refused: Option<Box<(StreamFailure, Backoff)>>,
}

/// Whether a lease is late, or will be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lateness {
    /// It was never renewed, or its renewal is not due yet.
    No,
    /// In `late`.
    At(BootTime),
    Reported,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// In `due`.
    Renewed { due: BootTime },
    /// In `ready` of its stream.
    Ready,
    /// In `unanswered` of its stream.
    Unanswered,
}

impl RenewalSchedule {
    pub(in crate::rpc::lease) fn new(seed: u64) -> Self {
        RenewalSchedule {
            leases: HashMap::new(),
            ends: BTreeSet::new(),
            due: BTreeSet::new(),
            late: BTreeSet::new(),
            shared: StreamSchedule::new(),
            isolated: StreamSchedule::new(),
            last_failure: None,
            random: Jitter::seeded(seed),
            actions: Vec::new(),
        }
    }

    fn stream(&mut self, role: StreamRole) -> &mut StreamSchedule {
        match role {
            StreamRole::Shared => &mut self.shared,
            StreamRole::Isolated => &mut self.isolated,
        }
    }

    /// Handles an input and the time that has passed. Returns the actions.
    pub(in crate::rpc::lease) fn on(&mut self, input: Input, now: BootTime) -> Vec<Action> {
        match input {
            Input::Add { lease, within } => self.add(lease, within, now),
            Input::Remove(lease) => {
                self.remove(lease);
            }
            Input::Opened(role) => self.stream(role).state = StreamState::Open,
            Input::Answer { role, lease, ttl } => self.answered(role, lease, ttl, now),
            Input::Broken(role, failure) => {
                self.end_new_leases(&failure);
                self.last_failure = Some(failure);
                self.lost(role, now);
            }
            Input::Refused(role, failure) => self.refused(role, failure, now),
            Input::Tick => {}
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// The time at which the next tick is due; `None` when there is no lease.
    pub(in crate::rpc::lease) fn wake_at(&self) -> Option<BootTime> {
        let end = self.ends.first()?.0;
        let due = self.due.first().map(|(at, _)| *at);
        let late = self.late.first().map(|(at, _)| *at);
        let streams = [self.shared.wake_at(), self.isolated.wake_at()];
        let first = streams.into_iter().chain([due, late]).flatten().min();
        Some(first.map_or(end, |first| first.min(end)))
    }

    /// From when on a tick does what is due at [`wake_at`](RenewalSchedule::wake_at).
    pub(in crate::rpc::lease) fn wake_from(&self) -> Option<BootTime> {
        let at = self.wake_at()?;
        let renewal = self.due.first().filter(|(_, id)| self.may_be_early(*id));
        Some(renewal.map_or(at, |(due, _)| at.min(*due - EARLY)))
    }

    /// Whether the lease waits for its next renewal, and not for the repetition of one.
    fn may_be_early(&self, id: LeaseId) -> bool {
        let lease = self.leases.get(&id);
        lease.is_some_and(|lease| lease.ttl.is_some() && lease.refused.is_none())
    }

    /// The earliest end of a lease, if none is renewed.
    pub(in crate::rpc::lease) fn first_end(&self) -> Option<BootTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Whether a lease ends so soon that its connection needs the priority of a call.
    pub(in crate::rpc::lease) fn is_urgent(&self, now: BootTime) -> bool {
        self.first_end()
            .is_some_and(|end| end.since(now) < URGENT_BELOW)
    }

    fn add(&mut self, id: LeaseId, within: Duration, now: BootTime) {
        if self.leases.contains_key(&id) {
            return;
        }
        let until = now + within;
        // A renewal from before the lease was removed may be unanswered: its answer counts.
        let unanswered = StreamRole::BOTH
            .into_iter()
            .find(|role| self.stream(*role).unanswered.contains(id));
        let (role, phase) = match unanswered {
            Some(role) => (role, Phase::Unanswered),
            None => {
                self.shared.ready.insert((until, id));
                (StreamRole::Shared, Phase::Ready)
            }
        };
        self.ends.insert((until, id));
        let lease = Lease {
            until,
            ttl: None,
            within,
            repeated: false,
            phase,
            role,
            lateness: Lateness::No,
            refused: None,
        };
        self.leases.insert(id, lease);
    }

    fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.until, id));
        if let Lateness::At(at) = lease.lateness {
            self.late.remove(&(at, id));
        }
        match lease.phase {
            Phase::Renewed { due } => self.due.remove(&(due, id)),
            Phase::Ready => self.stream(lease.role).ready.remove(&(lease.until, id)),
            Phase::Unanswered => false,
        };
        Some(lease)
    }

    fn answered(&mut self, role: StreamRole, id: LeaseId, seconds: i64, now: BootTime) {
        let stream = self.stream(role);
        let Some(sent) = stream.unanswered.remove(id) else {
            return;
        };
        stream.answered(now);
        self.last_failure = None;
        // Spread, so that leases granted together are not always renewed together.
        let third = match self.leases.len() {
            1 => 1.0,
            _ => 1.0 - JITTER * self.random.fraction(),
        };
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let ttl = ttl_from_seconds(seconds).filter(|ttl| !ttl.is_zero());
        let Some(ttl) = ttl else {
            // A member that has not applied the grant yet answers that the lease does not exist.
            if lease.ttl.is_none() && !lease.repeated {
                lease.repeated = true;
                let due = now + NOT_FOUND_RETRY;
                lease.phase = Phase::Renewed { due };
                self.due.insert((due, id));
                return;
            }
            self.remove(id);
            self.ended(id, LeaseEnd::NotFound);
            return;
        };
        // Counted from the sending: the server cannot have renewed the lease earlier.
        let until = sent.at + ttl;
        let due = sent.at + (ttl / 3).mul_f64(third);
        self.ends.remove(&(lease.until, id));
        self.ends.insert((until, id));
        self.due.insert((due, id));
        (lease.until, lease.ttl) = (until, Some(ttl));
        lease.phase = Phase::Renewed { due };
        if let Lateness::At(at) = std::mem::replace(&mut lease.lateness, Lateness::No) {
            self.late.remove(&(at, id));
        }
        // The lease can be renewed, so it returns to the shared stream.
        (lease.role, lease.refused) = (StreamRole::Shared, None);
        // An answer may arrive after the time it grants has run out, when the process was stopped:
        // then `expire` ends the lease.
        if until > now {
            self.actions.push(Action::Renewed {
                lease: id,
                ttl,
                until,
            });
        }
    }

    /// Ends the leases that were never renewed when TLS fails at every endpoint. The others go on:
    /// certificates can be replaced before they end.
    fn end_new_leases(&mut self, failure: &StreamFailure) {
        // Other failures can end by waiting.
        if failure.kind != ErrorKind::Tls {
            return;
        }
        let new = |(id, lease): (&LeaseId, &Lease)| lease.ttl.is_none().then_some(*id);
        let ids: Vec<LeaseId> = self.leases.iter().filter_map(new).collect();
        for id in ids {
            self.remove(id);
            self.ended(id, LeaseEnd::Refused(failure.clone()));
        }
    }

    /// Handles a stream that ended because of one renewal: that lease moves to the isolated stream.
    fn refused(&mut self, role: StreamRole, failure: StreamFailure, now: BootTime) {
        let stream = self.stream(role);
        let Some(id) = stream.unanswered.first() else {
            self.last_failure = Some(failure);
            self.lost(role, now);
            return;
        };
        // etcd answers in order and ends the stream at the renewal that it denies: the first
        // unanswered one.
        stream.unanswered.remove(id);
        // One lease less that can end the stream.
        stream.progress = true;
        self.lost(role, now);
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        // A renewal that was denied alone on a stream is certain to be the cause; here it is a
        // suspicion.
        if role == StreamRole::Shared {
            lease.role = StreamRole::Isolated;
            lease.phase = Phase::Ready;
            lease.refused = Some(Box::new((failure, REFUSED_RETRY)));
            self.isolated.ready.insert((lease.until, id));
            return;
        }
        // A lease that was never renewed ends at once; a running one may be permitted again.
        if lease.ttl.is_none() && failure.kind == ErrorKind::PermissionDenied {
            self.remove(id);
            self.ended(id, LeaseEnd::Refused(failure));
            return;
        }
        let mut waits = lease
            .refused
            .take()
            .map_or(REFUSED_RETRY, |refused| refused.1);
        // At least half of the wait: full jitter would allow many denials in a short time.
        let wait = waits.next(0.5 + self.random.fraction() / 2.0);
        let due = now + wait.min((lease.until.since(now) / 4).max(MIN_WAIT));
        lease.refused = Some(Box::new((failure, waits)));
        lease.phase = Phase::Renewed { due };
        self.due.insert((due, id));
    }

    /// Handles the loss of the stream: its unanswered renewals are sent again.
    fn lost(&mut self, role: StreamRole, now: BootTime) {
        // What was not answered is sent again on the next stream.
        let unanswered = self.stream(role).unanswered.drain();
        for id in unanswered {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.phase = Phase::Ready;
            let entry = (lease.until, id);
            self.stream(role).ready.insert(entry);
        }
        let end = self.ends.first().map(|(end, _)| *end);
        let fraction = self.random.fraction();
        let stream = self.stream(role);
        stream.state = match end {
            Some(end) if !std::mem::take(&mut stream.progress) => {
                // Short enough for several attempts before the first lease ends.
                let longest = (end.since(now) / 4).max(MIN_WAIT);
                let wait = stream.reopen.next(fraction).min(longest);
                StreamState::BackingOff { until: now + wait }
            }
            _ => StreamState::Closed,
        };
    }

    fn settle(&mut self, now: BootTime) {
        self.expire(now);
        while let Some((at, id)) = self.due.first().copied()
            && (at <= now || at - EARLY <= now && self.may_be_early(id))
        {
            self.due.pop_first();
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.phase = Phase::Ready;
                if let (Some(ttl), Lateness::No) = (lease.ttl, lease.lateness) {
                    let at = lease.until - ttl / 2;
                    lease.lateness = Lateness::At(at);
                    self.late.insert((at, id));
                }
                let (entry, role) = ((lease.until, id), lease.role);
                self.stream(role).ready.insert(entry);
            }
        }
        self.report_late(now);
        if self.leases.is_empty() {
            self.finish();
            return;
        }
        for role in StreamRole::BOTH {
            self.check_answers(role, now);
            if self.stream(role).is_needed(role) {
                self.open(role, now);
                self.send(role, now);
            } else {
                self.close(role);
            }
        }
    }

    fn report_late(&mut self, now: BootTime) {
        while let Some((at, id)) = self.late.first().copied()
            && at <= now
        {
            self.late.pop_first();
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.lateness = Lateness::Reported;
                self.actions.push(Action::Late(id));
            }
        }
    }

    fn expire(&mut self, now: BootTime) {
        while let Some((until, id)) = self.ends.first().copied()
            && until <= now
        {
            // An entry without its lease would stop the loop.
            let Some(lease) = self.remove(id) else {
                self.ends.pop_first();
                continue;
            };
            let refused = lease.refused.map(|refused| refused.0);
            let last = refused.or_else(|| self.last_failure.clone());
            let end = match lease.ttl {
                Some(ttl) => LeaseEnd::Expired {
                    ttl,
                    // `until - ttl` is the time at which the last answered renewal was sent.
                    silent: now.since(until - ttl),
                    last,
                },
                None => LeaseEnd::Unanswered {
                    within: lease.within,
                    last,
                },
            };
            self.ended(id, end);
        }
    }

    /// Abandons the stream when an answer is late.
    fn check_answers(&mut self, role: StreamRole, now: BootTime) {
        let Some(waited) = self.stream(role).late(now) else {
            return;
        };
        let text = format!("no answer to a renewal in {waited:.1?}");
        self.last_failure = Some(StreamFailure::new(ErrorKind::Timeout, text));
        self.actions.push(Action::Abandon { role, waited });
        self.lost(role, now);
    }

    /// Sends the renewals that are ready.
    fn send(&mut self, role: StreamRole, now: BootTime) {
        while self.stream(role).state == StreamState::Open
            // A limit, so that a new stream does not wait behind thousands of answers.
            && self.stream(role).unanswered.len() < role.window()
            && let Some((_, id)) = self.stream(role).ready.pop_first()
        {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.phase = Phase::Unanswered;
            let timeout = answer_timeout(lease.ttl);
            self.stream(role).unanswered.add(id, now, timeout);
            self.actions.push(Action::Send(role, id));
        }
    }

    /// Opens the stream, unless it is open or backs off.
    fn open(&mut self, role: StreamRole, now: BootTime) {
        let stream = self.stream(role);
        let opens = match stream.state {
            StreamState::Closed => true,
            StreamState::BackingOff { until } => until <= now,
            StreamState::Opening | StreamState::Open => false,
        };
        if opens {
            stream.state = StreamState::Opening;
            self.actions.push(Action::Open(role));
        }
    }

    fn close(&mut self, role: StreamRole) {
        let stream = self.stream(role);
        if stream.state != StreamState::Closed {
            *stream = StreamSchedule::new();
            self.actions.push(Action::Close(role));
        }
    }

    /// Closes the streams: no lease is left.
    fn finish(&mut self) {
        for role in StreamRole::BOTH {
            self.close(role);
            *self.stream(role) = StreamSchedule::new();
        }
        self.last_failure = None;
    }

    fn ended(&mut self, lease: LeaseId, end: LeaseEnd) {
        self.actions.push(Action::Ended { lease, end });
    }
}

/// The time limit of an answer: long enough for an election of a leader, short enough to try several
/// members before the lease ends.
fn answer_timeout(ttl: Option<Duration>) -> Duration {
    let Some(ttl) = ttl else {
        return FIRST_ANSWER_TIMEOUT;
    };
    let bounded = (ttl / 6).clamp(Duration::from_secs(1), Duration::from_secs(5));
    bounded.min(ttl / 3)
}

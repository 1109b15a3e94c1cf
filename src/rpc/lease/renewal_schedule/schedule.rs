//! The schedule of all leases.

mod streams;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::action::Action;
use super::input::Input;
use super::late_stream::LateStream;
use super::lease_end::LeaseEnd;
use super::scheduled_lease::{Lateness, Phase, ScheduledLease};
use super::stream_failure::StreamFailure;
use super::stream_role::StreamRole;
use super::stream_schedule::{StreamSchedule, StreamState};
use crate::error::ErrorKind;
use crate::rpc::lease::ttl_seconds::ttl_from_seconds;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;
use crate::util::jitter::Jitter;

/// After a first answer "no such lease", the renewal is repeated once after this time. Before etcd
/// 3.4.20 and 3.5.3, a member that lags behind the one that granted the lease answered so.
const NOT_FOUND_RETRY: Duration = Duration::from_millis(200);

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
    leases: HashMap<LeaseId, ScheduledLease>,
    /// The time at which each lease ends.
    ends: BTreeSet<(BootTime, LeaseId)>,
    /// The time at which each renewed lease must be renewed again.
    pub(super) due: BTreeSet<(BootTime, LeaseId)>,
    /// The time at which each lease that is to be renewed now is reported as late.
    late: BTreeSet<(BootTime, LeaseId)>,
    pub(super) shared: StreamSchedule,
    isolated: StreamSchedule,
    /// The shared stream before the present one, while an answer on it would be the first.
    late_stream: Option<LateStream>,
    last_failure: Option<StreamFailure>,
    random: Jitter,
    actions: Vec<Action>,
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
            late_stream: None,
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
            Input::LateAnswer { lease, ttl } => self.answered_late(lease, ttl, now),
            Input::LateStreamEnded => self.late_stream = None,
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
        let lease = ScheduledLease {
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

    fn remove(&mut self, id: LeaseId) -> Option<ScheduledLease> {
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
        if role == StreamRole::Shared {
            self.close_late_stream();
        }
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
        lease.phase = Phase::Renewed {
            due: sent.at + (ttl / 3).mul_f64(third),
        };
        // The lease can be renewed, so it returns to the shared stream.
        (lease.role, lease.refused) = (StreamRole::Shared, None);
        self.renewed(id, sent.at, ttl, now);
    }

    /// Handles an answer on the late stream. An answer that the lease does not exist is ignored: the
    /// next answer on the shared stream decides that.
    fn answered_late(&mut self, id: LeaseId, seconds: i64, now: BootTime) {
        let stream = self.late_stream.as_mut();
        let Some(sent_at) = stream.and_then(|stream| stream.answered(id)) else {
            return;
        };
        let ttl = ttl_from_seconds(seconds).filter(|ttl| !ttl.is_zero());
        let lease = self.leases.get_mut(&id);
        let (Some(ttl), Some(lease)) = (ttl, lease) else {
            return;
        };
        // Before the first answer, the end of the lease is only the time in which to wait for that answer.
        if lease.ttl.is_some() && sent_at + ttl <= lease.until {
            return;
        }
        if lease.phase == Phase::Ready {
            let entry = (lease.until, id);
            lease.phase = Phase::Renewed {
                due: sent_at + ttl / 3,
            };
            let role = lease.role;
            self.stream(role).ready.remove(&entry);
        }
        self.renewed(id, sent_at, ttl, now);
        // Another renewal may be unanswered on the new stream, and is not sent again.
        self.await_renewal(id);
    }

    /// Notes when the lease is late, unless its renewal is answered before.
    fn await_renewal(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id)
            && let (Some(ttl), Lateness::No) = (lease.ttl, lease.lateness)
        {
            let at = lease.until - ttl / 2;
            lease.lateness = Lateness::At(at);
            self.late.insert((at, id));
        }
    }

    /// Records that a renewal that was sent at `sent_at` was accepted.
    fn renewed(&mut self, id: LeaseId, sent_at: BootTime, ttl: Duration, now: BootTime) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        // Counted from the sending: the server cannot have renewed the lease earlier.
        let until = sent_at + ttl;
        self.ends.remove(&(lease.until, id));
        self.ends.insert((until, id));
        if let Phase::Renewed { due } = lease.phase {
            self.due.insert((due, id));
        }
        (lease.until, lease.ttl) = (until, Some(ttl));
        if let Lateness::At(at) = std::mem::replace(&mut lease.lateness, Lateness::No) {
            self.late.remove(&(at, id));
        }
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
        let new = |(id, lease): (&LeaseId, &ScheduledLease)| lease.ttl.is_none().then_some(*id);
        let ids: Vec<LeaseId> = self.leases.iter().filter_map(new).collect();
        for id in ids {
            self.remove(id);
            self.ended(id, LeaseEnd::Refused(failure.clone()));
        }
    }

    fn settle(&mut self, now: BootTime) {
        self.expire(now);
        while let Some((at, id)) = self.due.first().copied()
            && (at <= now || at - EARLY <= now && self.may_be_early(id))
        {
            self.due.pop_first();
            self.await_renewal(id);
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.phase = Phase::Ready;
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

    fn ended(&mut self, lease: LeaseId, end: LeaseEnd) {
        self.actions.push(Action::Ended { lease, end });
    }
}

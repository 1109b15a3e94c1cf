//! The streams of the schedule: opened, sent on, late and lost.

use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::util::backoff::Backoff;

/// The time limit of an answer when the time to live is not known yet.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The bounds of the time limit of an answer. A write to a slow disk may take some hundred milliseconds.
const MIN_ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The waits before a refused renewal is repeated: permissions can be corrected.
const REFUSED_RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// The lower bound of a wait that is shortened because a lease ends.
const MIN_WAIT: Duration = Duration::from_millis(50);

impl RenewalSchedule {
    /// Handles a stream that ended because of one renewal: that lease moves to the isolated stream.
    pub(super) fn refused(&mut self, role: StreamRole, failure: StreamFailure, now: BootTime) {
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
    pub(super) fn lost(&mut self, role: StreamRole, now: BootTime) {
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

    /// Asks another member when an answer is late.
    pub(super) fn check_answers(&mut self, role: StreamRole, now: BootTime) {
        let Some(waited) = self.stream(role).late(now) else {
            return;
        };
        let text = format!("no answer to a renewal in {waited:.1?}");
        self.last_failure = Some(StreamFailure::new(ErrorKind::Timeout, text));
        self.actions.push(match role {
            StreamRole::Shared => {
                self.late_stream = Some(LateStream::of(&self.shared.unanswered));
                Action::Hedge { waited }
            }
            // It carries one renewal, and is needed for the next one.
            StreamRole::Isolated => Action::Abandon { waited },
        });
        self.lost(role, now);
    }

    pub(super) fn close_late_stream(&mut self) {
        if self.late_stream.take().is_some() {
            self.actions.push(Action::CloseLateStream);
        }
    }

    /// Sends the renewals that are ready.
    pub(super) fn send(&mut self, role: StreamRole, now: BootTime) {
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
    pub(super) fn open(&mut self, role: StreamRole, now: BootTime) {
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

    pub(super) fn close(&mut self, role: StreamRole) {
        let stream = self.stream(role);
        if stream.state != StreamState::Closed {
            *stream = StreamSchedule::new();
            self.actions.push(Action::Close(role));
        }
    }

    /// Closes the streams: no lease is left.
    pub(super) fn finish(&mut self) {
        for role in StreamRole::BOTH {
            self.close(role);
            *self.stream(role) = StreamSchedule::new();
        }
        self.close_late_stream();
        self.last_failure = None;
    }
}

/// The time limit of an answer, after which another member is asked, too. A renewal is sent after a third
/// of the time to live, so half of it is left then.
fn answer_timeout(ttl: Option<Duration>) -> Duration {
    let Some(ttl) = ttl else {
        return FIRST_ANSWER_TIMEOUT;
    };
    let bounded = (ttl / 6).clamp(MIN_ANSWER_TIMEOUT, MAX_ANSWER_TIMEOUT);
    bounded.min(ttl / 3)
}

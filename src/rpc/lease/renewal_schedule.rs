//! Decides when which lease is renewed, and when one is gone. It does no I/O and reads no clock.
//!
//! Time is counted from when a renewal was *sent*. The server counts from when it handled the
//! renewal, which is later, so that what is said to be alive here is alive there.
//!
//! A stream answers in the order of the requests and one answer for each, and a lease has at most
//! one request on a stream that is not answered: so an answer belongs to the one renewal that was
//! sent for its lease.
//!
//! etcd ends the whole stream when it refuses one renewal (one whose lease holds a key that the user
//! may not write). The one that was sent first of those not answered is the one it refused. It goes on
//! on a stream of its own kind, [`Path::Alone`], until it is renewed there, and the others never notice.

mod stream_schedule;
mod vocabulary;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::error::ErrorKind;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::boot_time::BootTime;
use crate::util::jitter::Jitter;

use stream_schedule::{State, StreamSchedule};

pub(super) use stream_schedule::Path;
pub(super) use vocabulary::{Action, Gone, Input, Trouble};

#[cfg(test)]
mod tests;

/// How long an answer may take when the life of the lease is not known yet.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// When the first answer is "no such lease", ask once more after this. A member that lags behind
/// the one that granted said so until etcd 3.4.20 and 3.5.3.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The waits before a renewal that was refused is tried again. Permissions may be put right.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// The shortest wait that the end of a lease makes of a longer one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// With less than this left of a lease, its stream is opened as for a caller who waits. In the
/// background the dials of an address that fails are up to 1.5 s apart, and a dial may take 3 s.
const HURRY: Duration = Duration::from_secs(5);

/// How much earlier than at a third of its life a lease may be renewed, as a part of that third, so
/// that leases that were granted together do not stay together.
const JITTER: f64 = 0.1;

/// The renewal of all leases of a client.
#[derive(Debug)]
pub(super) struct RenewalSchedule {
    leases: HashMap<LeaseId, Lease>,
    /// When each lease ends.
    ends: BTreeSet<(BootTime, LeaseId)>,
    /// When those that were renewed are due again.
    due: BTreeSet<(BootTime, LeaseId)>,
    shared: StreamSchedule,
    alone: StreamSchedule,
    trouble: Option<Trouble>,
    random: Jitter,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Lease {
    until: BootTime,
    /// What the server said last; `None` before its first answer.
    ttl: Option<Duration>,
    within: Duration,
    asked_again: bool,
    phase: Phase,
    path: Path,
    /// How its renewals are refused, while they are.
    refused: Option<(Trouble, Backoff)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// In `due`.
    Renewed { due: BootTime },
    /// In `ready` of its line.
    Ready,
    /// In `flight` of its line.
    Asked,
}

impl RenewalSchedule {
    pub(super) fn new(seed: u64) -> Self {
        RenewalSchedule {
            leases: HashMap::new(),
            ends: BTreeSet::new(),
            due: BTreeSet::new(),
            shared: StreamSchedule::new(),
            alone: StreamSchedule::new(),
            trouble: None,
            random: Jitter::seeded(seed),
            actions: Vec::new(),
        }
    }

    fn line(&mut self, path: Path) -> &mut StreamSchedule {
        match path {
            Path::Shared => &mut self.shared,
            Path::Alone => &mut self.alone,
        }
    }

    /// Takes note of `input` and says what to do about it and about the time that passed.
    pub(super) fn on(&mut self, input: Input, now: BootTime) -> Vec<Action> {
        match input {
            Input::Add { lease, within } => self.add(lease, within, now),
            Input::Remove(lease) => {
                self.forget(lease);
            }
            Input::Opened(path) => self.line(path).state = State::Open,
            Input::Answer { path, lease, ttl } => self.answered(path, lease, ttl, now),
            Input::Broken(path, trouble) => {
                self.refuse(&trouble);
                self.trouble = Some(trouble);
                self.lost(path, now);
            }
            Input::Refused(path, trouble) => self.refused(path, trouble, now),
            Input::Tick => {}
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// When it wants to be ticked; `None` when there is no lease.
    pub(super) fn wake_at(&self) -> Option<BootTime> {
        let end = self.ends.first()?.0;
        let due = self.due.first().map(|(at, _)| *at);
        let lines = [self.shared.wake_at(), self.alone.wake_at()];
        let first = lines.into_iter().chain([due]).flatten().min();
        Some(first.map_or(end, |first| first.min(end)))
    }

    /// When the lease ends that ends first, if nothing is renewed.
    pub(super) fn first_end(&self) -> Option<BootTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Whether a lease ends so soon that a connection for it must not wait as long as one for what has
    /// time.
    pub(super) fn is_in_hurry(&self, now: BootTime) -> bool {
        self.first_end().is_some_and(|end| end.since(now) < HURRY)
    }

    fn add(&mut self, id: LeaseId, within: Duration, now: BootTime) {
        if self.leases.contains_key(&id) {
            return;
        }
        let until = now + within;
        // Its answer counts from when that renewal was sent, whoever wanted it then.
        let asked = Path::BOTH
            .into_iter()
            .find(|path| self.line(*path).flight.holds(id));
        let (path, phase) = match asked {
            Some(path) => (path, Phase::Asked),
            None => {
                self.shared.ready.insert((until, id));
                (Path::Shared, Phase::Ready)
            }
        };
        self.ends.insert((until, id));
        let lease = Lease {
            until,
            ttl: None,
            within,
            asked_again: false,
            phase,
            path,
            refused: None,
        };
        self.leases.insert(id, lease);
    }

    fn forget(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.until, id));
        match lease.phase {
            Phase::Renewed { due } => self.due.remove(&(due, id)),
            Phase::Ready => self.line(lease.path).ready.remove(&(lease.until, id)),
            Phase::Asked => false,
        };
        Some(lease)
    }

    fn answered(&mut self, path: Path, id: LeaseId, seconds: i64, now: BootTime) {
        let line = self.line(path);
        let Some(sent) = line.flight.remove(id) else {
            return;
        };
        line.answered(now);
        self.trouble = None;
        let third = 1.0 - JITTER * self.random.fraction();
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let ttl = super::living(seconds).filter(|ttl| !ttl.is_zero());
        let Some(ttl) = ttl else {
            if lease.ttl.is_none() && !lease.asked_again {
                lease.asked_again = true;
                let due = now + ASK_AGAIN;
                lease.phase = Phase::Renewed { due };
                self.due.insert((due, id));
                return;
            }
            self.forget(id);
            self.gone(id, Gone::NotFound);
            return;
        };
        let until = sent.at + ttl;
        let due = sent.at + (ttl / 3).mul_f64(third);
        self.ends.remove(&(lease.until, id));
        self.ends.insert((until, id));
        self.due.insert((due, id));
        (lease.until, lease.ttl) = (until, Some(ttl));
        lease.phase = Phase::Renewed { due };
        // Whatever was suspected of it: it can be renewed.
        (lease.path, lease.refused) = (Path::Shared, None);
        // An answer that came after all its time was over (the process was stopped) renews nothing;
        // `expire` says so.
        if until > now {
            self.actions.push(Action::Renewed {
                lease: id,
                ttl,
                until,
            });
        }
    }

    /// Leases that were alive go on: certificates can be put right again before they end.
    fn refuse(&mut self, trouble: &Trouble) {
        if trouble.kind != ErrorKind::Tls {
            return;
        }
        let new = |(id, lease): (&LeaseId, &Lease)| lease.ttl.is_none().then_some(*id);
        let ids: Vec<LeaseId> = self.leases.iter().filter_map(new).collect();
        for id in ids {
            self.forget(id);
            self.gone(id, Gone::Refused(trouble.clone()));
        }
    }

    /// The stream ended because of one renewal: that one goes its own way from now on.
    fn refused(&mut self, path: Path, trouble: Trouble, now: BootTime) {
        let line = self.line(path);
        let Some(id) = line.flight.first() else {
            self.trouble = Some(trouble);
            self.lost(path, now);
            return;
        };
        line.flight.remove(id);
        // There is one less that can end it.
        line.progress = true;
        self.lost(path, now);
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        if path == Path::Shared {
            lease.path = Path::Alone;
            lease.phase = Phase::Ready;
            lease.refused = Some((trouble, REFUSED));
            self.alone.ready.insert((lease.until, id));
            return;
        }
        if lease.ttl.is_none() && trouble.kind == ErrorKind::PermissionDenied {
            self.forget(id);
            self.gone(id, Gone::Refused(trouble));
            return;
        }
        let mut pauses = lease.refused.take().map_or(REFUSED, |(_, pauses)| pauses);
        let pause = pauses.next(0.5 + self.random.fraction() / 2.0);
        let due = now + pause.min((lease.until.since(now) / 4).max(FIRST_PAUSE));
        lease.refused = Some((trouble, pauses));
        lease.phase = Phase::Renewed { due };
        self.due.insert((due, id));
    }

    /// The stream is gone: what it owed is to be asked again.
    fn lost(&mut self, path: Path, now: BootTime) {
        let owed = self.line(path).flight.drain();
        for id in owed {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.phase = Phase::Ready;
            let entry = (lease.until, id);
            self.line(path).ready.insert(entry);
        }
        let end = self.ends.first().map(|(end, _)| *end);
        let fraction = self.random.fraction();
        let line = self.line(path);
        line.state = match end {
            Some(end) if !std::mem::take(&mut line.progress) => {
                // Not so long that the lease that ends first would miss several chances.
                let chance = (end.since(now) / 4).max(FIRST_PAUSE);
                let wait = line.reopen.next(fraction).min(chance);
                State::Resting { until: now + wait }
            }
            _ => State::Closed,
        };
    }

    fn settle(&mut self, now: BootTime) {
        self.expire(now);
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.phase = Phase::Ready;
                let (entry, path) = ((lease.until, id), lease.path);
                self.line(path).ready.insert(entry);
            }
        }
        if self.leases.is_empty() {
            self.finish();
            return;
        }
        for path in Path::BOTH {
            self.check_answers(path, now);
            if self.line(path).is_needed(path) {
                self.open(path, now);
                self.send(path, now);
            } else {
                self.close(path);
            }
        }
    }

    fn expire(&mut self, now: BootTime) {
        while let Some((until, id)) = self.ends.first().copied()
            && until <= now
        {
            let Some(lease) = self.forget(id) else {
                self.ends.pop_first();
                continue;
            };
            let refused = lease.refused.map(|(trouble, _)| trouble);
            let last = refused.or_else(|| self.trouble.clone());
            let why = match lease.ttl {
                Some(ttl) => Gone::Expired {
                    ttl,
                    silent: now.since(until - ttl),
                    last,
                },
                None => Gone::Unanswered {
                    within: lease.within,
                    last,
                },
            };
            self.gone(id, why);
        }
    }

    fn check_answers(&mut self, path: Path, now: BootTime) {
        let Some(waited) = self.line(path).late(now) else {
            return;
        };
        let text = format!("no answer to a renewal in {waited:.1?}");
        self.trouble = Some(Trouble::new(ErrorKind::Timeout, text));
        self.actions.push(Action::Abandon { path, waited });
        self.lost(path, now);
    }

    fn send(&mut self, path: Path, now: BootTime) {
        while self.line(path).state == State::Open
            && self.line(path).flight.len() < path.window()
            && let Some((_, id)) = self.line(path).ready.pop_first()
        {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.phase = Phase::Asked;
            let patience = patience(lease.ttl);
            self.line(path).flight.add(id, now, patience);
            self.actions.push(Action::Send(path, id));
        }
    }

    /// Opens it, unless it is open or rests.
    fn open(&mut self, path: Path, now: BootTime) {
        let line = self.line(path);
        let opens = match line.state {
            State::Closed => true,
            State::Resting { until } => until <= now,
            State::Opening | State::Open => false,
        };
        if opens {
            line.state = State::Opening;
            self.actions.push(Action::Open(path));
        }
    }

    fn close(&mut self, path: Path) {
        let line = self.line(path);
        if line.state != State::Closed {
            *line = StreamSchedule::new();
            self.actions.push(Action::Close(path));
        }
    }

    /// No lease is left.
    fn finish(&mut self) {
        for path in Path::BOTH {
            self.close(path);
            *self.line(path) = StreamSchedule::new();
        }
        self.trouble = None;
    }

    fn gone(&mut self, lease: LeaseId, why: Gone) {
        self.actions.push(Action::Gone { lease, why });
    }
}

/// How long an answer may take: long enough for an election, short enough to try several members
/// before the lease ends.
fn patience(ttl: Option<Duration>) -> Duration {
    let Some(ttl) = ttl else {
        return FIRST_ANSWER;
    };
    let bounded = (ttl / 6).clamp(Duration::from_secs(1), Duration::from_secs(5));
    bounded.min(ttl / 3)
}

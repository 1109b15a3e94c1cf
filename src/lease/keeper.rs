//! Decides when which lease is renewed, and when one is gone. It does no I/O and reads no clock.
//!
//! Time is counted from when a renewal was *sent*. The server counts from when it handled the
//! renewal, which is later, so that what is said to be alive here is alive there.
//!
//! A stream answers in the order of the requests and one answer for each, and a lease has at most
//! one request on a stream that is not answered: so an answer belongs to the one renewal that was
//! sent for its lease.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::chance::Chance;
use crate::error::ErrorKind;
use crate::time::BootTime;
use crate::types::LeaseId;

#[cfg(test)]
mod tests;

/// How many renewals may be unanswered on a stream. A follower asks the leader for each, one by one:
/// more would not be faster, and a lease that is about to end would wait behind them.
const WINDOW: usize = 128;

/// How long an answer may take when the life of the lease is not known yet.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// When the first answer is "no such lease", ask once more after this. A member that lags behind
/// the one that granted said so until etcd 3.4.20 and 3.5.3.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The waits between streams; the first new one is opened at once.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));

/// How much earlier than at a third of its life a lease may be renewed, as a part of that third, so
/// that leases that were granted together do not stay together.
const JITTER: f64 = 0.1;

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Keep this lease alive; its first answer has to come `within` this time.
    Add { lease: LeaseId, within: Duration },
    /// Nobody wants it kept alive any more.
    Remove(LeaseId),
    /// The stream can be written to.
    Opened,
    /// The server answered a renewal; `ttl` is in seconds, 0 or less: no such lease.
    Answer { lease: LeaseId, ttl: i64 },
    /// The stream ended, or could not be opened.
    Broken(Trouble),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Open a stream.
    Open,
    /// Drop the stream, its member has not answered for `waited`: the next one should go elsewhere.
    Abandon { waited: Duration },
    /// Drop the stream, it is not needed any more.
    Close,
    /// Send a renewal.
    Send(LeaseId),
    /// Say that it was renewed.
    Renewed {
        lease: LeaseId,
        ttl: Duration,
        until: BootTime,
    },
    /// Say that it is gone; it is forgotten here.
    Gone { lease: LeaseId, why: Gone },
}

/// Why a lease is gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Gone {
    /// The server has no such lease.
    NotFound,
    /// Its time is over, and no renewal was answered for `silent`.
    Expired {
        ttl: Duration,
        silent: Duration,
        last: Option<Trouble>,
    },
    /// No renewal was ever answered.
    Unanswered {
        within: Duration,
        last: Option<Trouble>,
    },
    /// No renewal was ever answered, and none will be: TLS fails at every endpoint.
    Refused(Trouble),
}

/// What was wrong with a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
    pub(super) endpoint: Option<Arc<str>>,
}

impl Trouble {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Trouble {
            kind,
            text: text.into(),
            endpoint: None,
        }
    }
}

/// The renewal of all leases of a client.
#[derive(Debug)]
pub(super) struct Keeper {
    leases: HashMap<LeaseId, Lease>,
    /// When each lease ends.
    ends: BTreeSet<(BootTime, LeaseId)>,
    /// When those that were renewed are due again.
    due: BTreeSet<(BootTime, LeaseId)>,
    /// Those to be renewed now; the one that ends first goes first.
    ready: BTreeSet<(BootTime, LeaseId)>,
    stream: Stream,
    flight: Flight,
    reopen: Backoff,
    /// Something was answered since a stream last broke: the next one may be opened at once.
    answered: bool,
    trouble: Option<Trouble>,
    random: Chance,
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
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// In `due`.
    Renewed { due: BootTime },
    /// In `ready`.
    Ready,
    /// In `flight`.
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Closed,
    Resting { until: BootTime },
    Opening,
    Open,
}

/// The renewals of this stream that are not answered, also those of leases that were removed since.
#[derive(Debug, Default)]
struct Flight {
    sent: HashMap<LeaseId, Sent>,
    /// When the stream last answered: while it does, those that wait their turn are not late.
    heard: BootTime,
    /// No answer is late before this.
    check: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: BootTime,
    patience: Duration,
}

impl Keeper {
    pub(super) fn new(seed: u64) -> Self {
        Keeper {
            leases: HashMap::new(),
            ends: BTreeSet::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            stream: Stream::Closed,
            flight: Flight::default(),
            reopen: REOPEN,
            answered: true,
            trouble: None,
            random: Chance::seeded(seed),
            actions: Vec::new(),
        }
    }

    /// Takes note of `input` and says what to do about it and about the time that passed.
    pub(super) fn on(&mut self, input: Input, now: BootTime) -> Vec<Action> {
        match input {
            Input::Add { lease, within } => self.add(lease, within, now),
            Input::Remove(lease) => {
                self.forget(lease);
            }
            Input::Opened => self.stream = Stream::Open,
            Input::Answer { lease, ttl } => self.answered(lease, ttl, now),
            Input::Broken(trouble) => {
                self.refuse(&trouble);
                self.trouble = Some(trouble);
                self.lost(now);
            }
            Input::Tick => {}
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// When it wants to be ticked; `None` when there is no lease.
    pub(super) fn wake_at(&self) -> Option<BootTime> {
        let end = self.ends.first()?.0;
        let due = self.due.first().map(|(at, _)| *at);
        let stream = match self.stream {
            Stream::Resting { until } => Some(until),
            Stream::Open => self.flight.check,
            Stream::Closed | Stream::Opening => None,
        };
        let first = [due, stream].into_iter().flatten().min();
        Some(first.map_or(end, |first| first.min(end)))
    }

    /// When the lease ends that ends first, if nothing is renewed.
    pub(super) fn first_end(&self) -> Option<BootTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    fn add(&mut self, id: LeaseId, within: Duration, now: BootTime) {
        if self.leases.contains_key(&id) {
            return;
        }
        let until = now + within;
        // Its answer counts from when that renewal was sent, whoever wanted it then.
        let phase = if self.flight.sent.contains_key(&id) {
            Phase::Asked
        } else {
            self.ready.insert((until, id));
            Phase::Ready
        };
        self.ends.insert((until, id));
        let lease = Lease {
            until,
            ttl: None,
            within,
            asked_again: false,
            phase,
        };
        self.leases.insert(id, lease);
        if self.stream == Stream::Closed {
            self.open();
        }
    }

    fn forget(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.ends.remove(&(lease.until, id));
        match lease.phase {
            Phase::Renewed { due } => self.due.remove(&(due, id)),
            Phase::Ready => self.ready.remove(&(lease.until, id)),
            Phase::Asked => false,
        };
        Some(lease)
    }

    fn answered(&mut self, id: LeaseId, seconds: i64, now: BootTime) {
        let Some(sent) = self.flight.sent.remove(&id) else {
            return;
        };
        self.flight.heard = now;
        self.answered = true;
        self.reopen.reset();
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

    /// The stream is gone: what it owed is to be asked again.
    fn lost(&mut self, now: BootTime) {
        self.flight.check = None;
        for (id, _) in self.flight.sent.drain() {
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.phase = Phase::Ready;
                self.ready.insert((lease.until, id));
            }
        }
        let Some((end, _)) = self.ends.first() else {
            self.stream = Stream::Closed;
            return;
        };
        if std::mem::take(&mut self.answered) {
            self.open();
            return;
        }
        // Not so long that the lease that ends first would miss several chances.
        let chance = (end.since(now) / 4).max(Duration::from_millis(50));
        let wait = self.reopen.next(self.random.fraction()).min(chance);
        self.stream = Stream::Resting { until: now + wait };
    }

    fn settle(&mut self, now: BootTime) {
        self.expire(now);
        while let Some((at, id)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.phase = Phase::Ready;
                self.ready.insert((lease.until, id));
            }
        }
        if self.leases.is_empty() {
            self.finish();
            return;
        }
        self.check_answers(now);
        if let Stream::Resting { until } = self.stream
            && until <= now
        {
            self.open();
        }
        if self.stream == Stream::Open {
            self.send(now);
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
            let last = self.trouble.clone();
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

    fn check_answers(&mut self, now: BootTime) {
        let due = self.stream == Stream::Open && self.flight.check.is_some_and(|at| at <= now);
        if !due {
            return;
        }
        let late = self.flight.first_late();
        if late.is_none_or(|(at, _)| at > now) {
            self.flight.check = late.map(|(at, _)| at);
            return;
        }
        let waited = late.map_or(Duration::ZERO, |(_, since)| now.since(since));
        let text = format!("no answer to a renewal in {waited:.1?}");
        self.trouble = Some(Trouble::new(ErrorKind::Timeout, text));
        self.actions.push(Action::Abandon { waited });
        self.lost(now);
    }

    fn send(&mut self, now: BootTime) {
        while self.flight.sent.len() < WINDOW
            && let Some((_, id)) = self.ready.pop_first()
        {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.phase = Phase::Asked;
            let patience = patience(lease.ttl);
            self.flight.sent.insert(id, Sent { at: now, patience });
            let check = now + patience;
            self.flight.check = Some(self.flight.check.map_or(check, |first| first.min(check)));
            self.actions.push(Action::Send(id));
        }
    }

    fn open(&mut self) {
        self.stream = Stream::Opening;
        self.actions.push(Action::Open);
    }

    /// No lease is left.
    fn finish(&mut self) {
        if self.stream != Stream::Closed {
            self.stream = Stream::Closed;
            self.actions.push(Action::Close);
        }
        self.flight = Flight::default();
        self.reopen.reset();
        self.answered = true;
        self.trouble = None;
    }

    fn gone(&mut self, lease: LeaseId, why: Gone) {
        self.actions.push(Action::Gone { lease, why });
    }
}

impl Flight {
    /// When the first answer is late if none comes before, and since when it is waited for.
    fn first_late(&self) -> Option<(BootTime, BootTime)> {
        let late = |sent: &Sent| {
            let since = sent.at.max(self.heard);
            (since + sent.patience, since)
        };
        self.sent.values().map(late).min()
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

//! One stream of renewals: whether it is open, what waits for it, and what it owes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::boot_time::BootTime;

/// The waits between streams; the first new one is opened at once.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc::lease) enum Path {
    /// The one of all leases that are renewed like any other.
    Shared,
    /// The one of leases whose renewal may be what ended a stream. It carries one at a time, so
    /// that how it ends says something about that one.
    Alone,
}

impl Path {
    pub(in crate::rpc::lease) const BOTH: [Path; 2] = [Path::Shared, Path::Alone];

    /// How many renewals may be unanswered on the stream. On the shared one: a follower asks the
    /// leader for each, one by one; more would not be faster, and a lease that is about to end would
    /// wait behind them.
    pub(super) fn window(self) -> usize {
        match self {
            Path::Shared => 128,
            Path::Alone => 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Closed,
    Resting { until: BootTime },
    Opening,
    Open,
}

#[derive(Debug)]
pub(super) struct StreamSchedule {
    pub(super) state: State,
    /// Those to be renewed now; the one that ends first goes first.
    pub(super) ready: BTreeSet<(BootTime, LeaseId)>,
    pub(super) flight: Flight,
    pub(super) reopen: Backoff,
    /// Something was learned since a stream last broke: the next one may be opened at once.
    pub(super) progress: bool,
}

impl StreamSchedule {
    pub(super) fn new() -> Self {
        StreamSchedule {
            state: State::Closed,
            ready: BTreeSet::new(),
            flight: Flight::default(),
            reopen: REOPEN,
            progress: true,
        }
    }

    /// Whether there is to be a stream: for all leases as long as there are any, and for those that go
    /// alone while one of them is to be renewed.
    pub(super) fn is_needed(&self, path: Path) -> bool {
        path == Path::Shared || !self.ready.is_empty() || self.flight.len() > 0
    }

    /// A renewal was answered.
    pub(super) fn answered(&mut self, now: BootTime) {
        self.flight.heard = now;
        self.progress = true;
        self.reopen.reset();
    }

    /// When it is to be looked at, if nothing happens.
    pub(super) fn wake_at(&self) -> Option<BootTime> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Open => self.flight.check,
            State::Closed | State::Opening => None,
        }
    }

    /// How long the first of its answers has been waited for, if that is too long at `now`.
    pub(super) fn late(&mut self, now: BootTime) -> Option<Duration> {
        if self.state != State::Open || self.flight.check.is_none_or(|at| at > now) {
            return None;
        }
        let late = self.flight.first_late();
        match late {
            Some((at, since)) if at <= now => Some(now.since(since)),
            _ => {
                self.flight.check = late.map(|(at, _)| at);
                None
            }
        }
    }
}

/// The renewals of a stream that are not answered, also those of leases that were removed since.
#[derive(Debug, Default)]
pub(super) struct Flight {
    sent: HashMap<LeaseId, Sent>,
    count: u64,
    /// When the stream last answered: while it does, those that wait their turn are not late.
    heard: BootTime,
    /// No answer is late before this.
    check: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: BootTime,
    patience: Duration,
    number: u64,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn holds(&self, lease: LeaseId) -> bool {
        self.sent.contains_key(&lease)
    }

    pub(super) fn add(&mut self, lease: LeaseId, at: BootTime, patience: Duration) {
        self.count += 1;
        let number = self.count;
        self.sent.insert(
            lease,
            Sent {
                at,
                patience,
                number,
            },
        );
        let check = at + patience;
        self.check = Some(self.check.map_or(check, |first| first.min(check)));
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> Option<Sent> {
        self.sent.remove(&lease)
    }

    /// The one that was sent first. The server takes them in that order, one after the other.
    pub(super) fn first(&self) -> Option<LeaseId> {
        let first = self.sent.iter().min_by_key(|(_, sent)| sent.number);
        first.map(|(lease, _)| *lease)
    }

    /// All of them, which are not waited for any more.
    pub(super) fn drain(&mut self) -> Vec<LeaseId> {
        self.check = None;
        self.sent.drain().map(|(lease, _)| lease).collect()
    }

    /// When the first answer is late if none comes before, and since when it is waited for.
    fn first_late(&self) -> Option<(BootTime, BootTime)> {
        let late = |sent: &Sent| {
            let since = sent.at.max(self.heard);
            (since + sent.patience, since)
        };
        self.sent.values().map(late).min()
    }
}

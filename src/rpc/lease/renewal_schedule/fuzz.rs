//! The fuzz target of the schedule: answers of any kind, at any time.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Action, Input, RenewalSchedule, StreamFailure, StreamRole};
use crate::error::ErrorKind;
use crate::fuzz::input::Input as Bytes;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// Feeds the answers in `data` to the schedule of a few leases. A lease is never valid after the end that a renewal
/// has proven: the time at which the renewal was sent, and the time to live of its answer.
pub(crate) fn schedule(data: &[u8]) {
    let mut data = Bytes::new(data);
    let mut task = Task {
        schedule: RenewalSchedule::new(u64::from(data.byte())),
        now: BootTime::from_boot(Duration::from_secs(1000)),
        streams: BTreeMap::new(),
        late: None,
        valid_until: BTreeMap::new(),
    };
    while !data.is_empty() {
        task.step(&mut data);
    }
}

/// A stream that is open, or is being opened.
#[derive(Debug, Default)]
struct Stream {
    is_open: bool,
    /// When each renewal was sent that is not answered.
    sent: HashMap<LeaseId, BootTime>,
}

#[derive(Debug)]
struct Task {
    schedule: RenewalSchedule,
    now: BootTime,
    streams: BTreeMap<bool, Stream>,
    late: Option<HashMap<LeaseId, BootTime>>,
    /// The end of each lease that is kept alive, as far as it is reported.
    valid_until: BTreeMap<LeaseId, BootTime>,
}

/// The key of a stream.
fn key(role: StreamRole) -> bool {
    role == StreamRole::Isolated
}

impl Task {
    fn step(&mut self, data: &mut Bytes<'_>) {
        let first = data.byte();
        let role = match first & 1 {
            0 => StreamRole::Shared,
            _ => StreamRole::Isolated,
        };
        let lease = LeaseId::new(i64::from(first >> 5) + 1).expect("not zero");
        let mut proven = None;
        let input = match data.below(12) {
            0 | 1 => {
                let within = Duration::from_millis(u64::from(data.short()) + 1);
                let until = self.now + within;
                self.valid_until.entry(lease).or_insert(until);
                Input::Add { lease, within }
            }
            2 => {
                self.valid_until.remove(&lease);
                Input::Remove(lease)
            }
            3 | 4 => {
                let Some(stream) = self.streams.get_mut(&key(role)) else {
                    return;
                };
                if std::mem::replace(&mut stream.is_open, true) {
                    return;
                }
                Input::Opened(role)
            }
            5..=7 => {
                let Some(stream) = self.streams.get_mut(&key(role)).filter(|s| s.is_open) else {
                    return;
                };
                let ttl = data.number();
                proven = end(stream.sent.remove(&lease), ttl);
                Input::Answer { role, lease, ttl }
            }
            8 => {
                if self.streams.remove(&key(role)).is_none() {
                    return;
                }
                let kind = match data.below(3) {
                    0 => ErrorKind::Unavailable,
                    1 => ErrorKind::Tls,
                    _ => ErrorKind::PermissionDenied,
                };
                let failure = StreamFailure::new(kind, "it failed");
                match data.flag() {
                    true => Input::Broken(role, failure),
                    false => Input::Refused(role, failure),
                }
            }
            9 => {
                let Some(late) = &mut self.late else { return };
                let ttl = data.number();
                proven = end(late.remove(&lease), ttl);
                Input::LateAnswer { lease, ttl }
            }
            10 => {
                if self.late.take().is_none() {
                    return;
                }
                Input::LateStreamEnded
            }
            _ => {
                self.now = self.now + Duration::from_millis(data.short().into());
                Input::Tick
            }
        };
        for action in self.schedule.on(input, self.now) {
            self.act(action, lease, proven);
        }
        self.check();
    }

    fn act(&mut self, action: Action, answered: LeaseId, proven: Option<BootTime>) {
        match action {
            Action::Open(role) => {
                let before = self.streams.insert(key(role), Stream::default());
                assert!(before.is_none(), "it is open");
            }
            Action::Hedge { .. } => {
                let stream = self.streams.remove(&key(StreamRole::Shared));
                self.late = Some(stream.expect("a stream").sent);
            }
            Action::CloseLateStream => self.late = None,
            Action::Abandon { .. } => {
                let stream = self.streams.remove(&key(StreamRole::Isolated));
                assert!(stream.is_some());
            }
            Action::Close(role) => drop(self.streams.remove(&key(role))),
            Action::Send(role, lease) => {
                let stream = self.streams.get_mut(&key(role)).expect("sends on a stream");
                assert!(stream.is_open);
                let before = stream.sent.insert(lease, self.now);
                assert!(before.is_none(), "one renewal of a lease at a time");
                assert!(stream.sent.len() <= role.window());
            }
            Action::Renewed { lease, ttl, until } => {
                assert_eq!((lease, Some(until)), (answered, proven));
                assert!(until > self.now && !ttl.is_zero());
                let before = self.valid_until.insert(lease, until);
                assert!(before.is_some(), "{lease} is kept alive");
            }
            Action::Late(lease) => assert!(self.valid_until.contains_key(&lease)),
            Action::Ended { lease, end } => {
                let before = self.valid_until.remove(&lease);
                assert!(before.is_some(), "{lease} ended once");
                let text = end.into_error(lease).to_string();
                assert!(!text.is_empty());
            }
        }
    }

    fn check(&self) {
        for (lease, until) in &self.valid_until {
            assert!(*until > self.now, "{lease} is valid for too long");
        }
        let first = self.valid_until.values().min();
        assert_eq!(self.schedule.first_end().as_ref(), first);
        let wake = self.schedule.wake_at();
        assert_eq!(wake.is_some(), first.is_some());
        if let (Some(wake), Some(first)) = (wake, first) {
            assert!(wake <= *first, "it sleeps beyond an end");
            assert!(wake > self.now, "it turns without a wait");
        }
    }
}

/// The end that an answer proves.
fn end(sent: Option<BootTime>, ttl: i64) -> Option<BootTime> {
    let ttl = u64::try_from(ttl).ok().filter(|ttl| *ttl > 0)?;
    Some(sent? + Duration::from_secs(ttl))
}

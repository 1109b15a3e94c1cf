//! What happened to the instances of a service, and the picture of it. Pure.
//!
//! A timeline keeps the events of a span of time, at most a number of them. What is forgotten is folded into the
//! state that it begins with, so what it shows stays true; it only begins later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_blocking::{Cause, Status};

/// The events of a service.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// Until it is up to date for the first time.
    opened: Option<SystemTime>,
    /// Moves on while events are forgotten.
    begun: SystemTime,
    span: Duration,
    limit: usize,
    /// The instances before the first event.
    base: BTreeMap<Arc<str>, Presence>,
    /// Whether the service could not be followed before the first event.
    base_is_stale: bool,
    events: VecDeque<Event>,
}

/// An instance that is there.
#[derive(Clone, Debug)]
struct Presence {
    addr: Arc<str>,
    status: Status,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: SystemTime,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An instance was added.
    Added {
        id: Arc<str>,
        addr: Arc<str>,
        status: Status,
    },
    /// The status of an instance changed.
    Status {
        id: Arc<str>,
        from: Status,
        to: Status,
        reason: String,
    },
    /// The program of an instance was restarted.
    Restarted { id: Arc<str> },
    /// Other properties of an instance changed; the text says which.
    Changed { id: Arc<str>, what: String },
    /// An instance was removed.
    Removed {
        id: Arc<str>,
        addr: Arc<str>,
        cause: Cause,
    },
    /// The service can no longer be followed.
    Stale,
    /// The service can be followed again.
    Live,
}

/// One instance over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) id: Arc<str>,
    /// The last address.
    pub(crate) addr: Arc<str>,
    /// The times in which it was there, in order.
    pub(crate) spans: Vec<Span>,
    /// The removals.
    pub(crate) ends: Vec<(SystemTime, Cause)>,
    /// The restarts of its program.
    pub(crate) restarts: Vec<SystemTime>,
}

/// How far back timelines reach.
pub(crate) const HISTORY: Duration = Duration::from_secs(3600);

/// The longest time from the opening of a service until it is up to date, and the longest part of it in which it says
/// that it is not.
const OPENING: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_secs(2);

/// A time in which an instance had one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
    pub(crate) status: Status,
}

impl Timeline {
    /// A timeline that begins now, without instances. It keeps events for `span`, and at most `limit` of them.
    pub(crate) fn new(begun: SystemTime, span: Duration, limit: usize) -> Self {
        Timeline {
            opened: Some(begun),
            begun,
            span,
            limit,
            base: BTreeMap::new(),
            base_is_stale: false,
            events: VecDeque::new(),
        }
    }

    /// Adds an instance that was there at the beginning.
    pub(crate) fn was_there(&mut self, id: Arc<str>, addr: Arc<str>, status: Status) {
        self.base.insert(id, Presence { addr, status });
    }

    /// The time since which it has everything.
    pub(crate) fn begun(&self) -> SystemTime {
        self.begun
    }

    /// The events, oldest first.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        self.events.iter()
    }

    /// Whether it has neither an event nor an instance.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.base.is_empty()
    }

    /// Adds an event. One that is older than the last is taken as just as old: clocks can be set back.
    pub(crate) fn record(&mut self, mut event: Event) {
        let last = self.events.back().map_or(self.begun, |last| last.at);
        event.at = event.at.max(last);
        if event.what == What::Live && self.is_opening(event.at) {
            self.events.retain(|event| event.what != What::Stale);
            self.opened = None;
            return;
        }
        self.events.push_back(event);
        while self.events.len() > self.limit {
            self.forget_first();
        }
    }

    /// Returns whether the list was opened just before `now`. A list is stale for a moment while it opens; that is not an
    /// outage.
    fn is_opening(&self, now: SystemTime) -> bool {
        let is_within =
            |since: SystemTime, time| now.duration_since(since).is_ok_and(|passed| passed < time);
        let mut stale = self.events.iter().filter(|event| event.what == What::Stale);
        let is_short = stale.next().is_none_or(|event| is_within(event.at, MOMENT));
        self.opened.is_some_and(|opened| is_within(opened, OPENING)) && is_short
    }

    /// Sets the largest number of events.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        while self.events.len() > self.limit {
            self.forget_first();
        }
    }

    /// Forgets what is older than its span. Returns whether it forgot an event.
    pub(crate) fn forget_old(&mut self, now: SystemTime) -> bool {
        let Some(oldest) = now.checked_sub(self.span) else {
            return false;
        };
        let before = self.events.len();
        while self.events.front().is_some_and(|event| event.at < oldest) {
            self.forget_first();
        }
        self.begun = self.begun.max(oldest);
        self.events.len() < before
    }

    fn forget_first(&mut self) {
        let Some(event) = self.events.pop_front() else {
            return;
        };
        self.begun = self.begun.max(event.at);
        match event.what {
            What::Added { id, addr, status } => {
                self.base.insert(id, Presence { addr, status });
            }
            What::Status { id, to, .. } => {
                if let Some(presence) = self.base.get_mut(&id) {
                    presence.status = to;
                }
            }
            What::Removed { id, .. } => {
                self.base.remove(&id);
            }
            What::Stale => self.base_is_stale = true,
            What::Live => self.base_is_stale = false,
            What::Restarted { .. } | What::Changed { .. } => {}
        }
    }

    /// Each instance over time until `now`, sorted by id.
    pub(crate) fn tracks(&self, now: SystemTime) -> Vec<Track> {
        let mut tracks: BTreeMap<Arc<str>, Track> = BTreeMap::new();
        let mut open: BTreeMap<Arc<str>, (SystemTime, Status)> = BTreeMap::new();
        for (id, presence) in &self.base {
            track(&mut tracks, id).addr = Arc::clone(&presence.addr);
            open.insert(Arc::clone(id), (self.begun, presence.status));
        }
        for Event { at, what } in &self.events {
            match what {
                What::Added { id, addr, status } => {
                    let track = track(&mut tracks, id);
                    track.addr = Arc::clone(addr);
                    track.close(open.insert(Arc::clone(id), (*at, *status)), *at);
                }
                What::Status { id, to, .. } => {
                    let before = open.insert(Arc::clone(id), (*at, *to));
                    track(&mut tracks, id).close(before, *at);
                }
                What::Removed { id, addr, cause } => {
                    let track = track(&mut tracks, id);
                    if track.addr.is_empty() {
                        track.addr = Arc::clone(addr);
                    }
                    track.close(open.remove(id), *at);
                    track.ends.push((*at, *cause));
                }
                What::Restarted { id } => track(&mut tracks, id).restarts.push(*at),
                What::Changed { .. } | What::Stale | What::Live => {}
            }
        }
        for (id, begun) in open {
            // An instance can be newer than `now` if the clock was set back.
            track(&mut tracks, &id).close(Some(begun), now.max(begun.0));
        }
        tracks.into_values().collect()
    }

    /// The times until `now` in which the service could not be followed.
    pub(crate) fn outages(&self, now: SystemTime) -> Vec<(SystemTime, SystemTime)> {
        let mut outages = Vec::new();
        let mut since = self.base_is_stale.then_some(self.begun);
        for event in &self.events {
            match event.what {
                What::Stale => since = since.or(Some(event.at)),
                What::Live => outages.extend(since.take().map(|since| (since, event.at))),
                _ => {}
            }
        }
        outages.extend(since.map(|since| (since, now.max(since))));
        outages
    }
}

fn track<'a>(tracks: &'a mut BTreeMap<Arc<str>, Track>, id: &Arc<str>) -> &'a mut Track {
    tracks.entry(Arc::clone(id)).or_insert_with(|| Track {
        id: Arc::clone(id),
        addr: Arc::from(""),
        spans: Vec::new(),
        ends: Vec::new(),
        restarts: Vec::new(),
    })
}

impl Track {
    fn close(&mut self, open: Option<(SystemTime, Status)>, to: SystemTime) {
        if let Some((from, status)) = open {
            self.spans.push(Span { from, to, status });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn timeline() -> Timeline {
        Timeline::new(at(0), Duration::from_secs(3600), 100)
    }

    fn added(seconds: u64, id: &str) -> Event {
        let what = What::Added {
            id: id.into(),
            addr: format!("{id}:1").into(),
            status: Status::Up,
        };
        Event {
            at: at(seconds),
            what,
        }
    }

    fn status(seconds: u64, id: &str, from: Status, to: Status) -> Event {
        let what = What::Status {
            id: id.into(),
            from,
            to,
            reason: String::new(),
        };
        Event {
            at: at(seconds),
            what,
        }
    }

    fn removed(seconds: u64, id: &str, cause: Cause) -> Event {
        let what = What::Removed {
            id: id.into(),
            addr: format!("{id}:1").into(),
            cause,
        };
        Event {
            at: at(seconds),
            what,
        }
    }

    fn spans(track: &Track) -> Vec<(u64, u64, Status)> {
        let seconds = |time: SystemTime| time.duration_since(at(0)).unwrap().as_secs();
        let spans = track.spans.iter();
        spans
            .map(|span| (seconds(span.from), seconds(span.to), span.status))
            .collect()
    }

    #[test]
    fn an_instance_is_shown_from_its_addition_to_its_removal() {
        let mut timeline = timeline();
        timeline.record(added(10, "a"));
        timeline.record(status(20, "a", Status::Up, Status::Draining));
        timeline.record(removed(30, "a", Cause::Left));
        timeline.record(added(40, "a"));
        let tracks = timeline.tracks(at(50));
        assert_eq!(tracks.len(), 1);
        let expected = [
            (10, 20, Status::Up),
            (20, 30, Status::Draining),
            (40, 50, Status::Up),
        ];
        assert_eq!(spans(&tracks[0]), expected);
        assert_eq!(tracks[0].ends, [(at(30), Cause::Left)]);
        assert_eq!(&*tracks[0].addr, "a:1");
    }

    #[test]
    fn what_was_there_at_the_beginning_is_shown_from_it() {
        let mut timeline = timeline();
        timeline.was_there("a".into(), "a:1".into(), Status::Starting);
        timeline.record(status(5, "a", Status::Starting, Status::Up));
        let tracks = timeline.tracks(at(9));
        let expected = [(0, 5, Status::Starting), (5, 9, Status::Up)];
        assert_eq!(spans(&tracks[0]), expected);
    }

    #[test]
    fn forgetting_changes_only_where_it_begins() {
        // Each prefix of these events is forgotten; what is left is the same as before, cut off at the beginning.
        let events = [
            added(10, "a"),
            added(20, "b"),
            status(30, "a", Status::Up, Status::OutOfService),
            removed(40, "b", Cause::Expired),
            status(50, "a", Status::OutOfService, Status::Up),
            added(60, "b"),
        ];
        let mut whole = timeline();
        events.iter().cloned().for_each(|event| whole.record(event));
        let whole = whole.tracks(at(100));
        for limit in 0..=events.len() {
            let mut cut = Timeline::new(at(0), Duration::from_secs(3600), limit);
            events.iter().cloned().for_each(|event| cut.record(event));
            assert_eq!(cut.events().len(), limit);
            let begun = cut.begun();
            for track in cut.tracks(at(100)) {
                let before = whole.iter().find(|whole| whole.id == track.id).unwrap();
                let expected = before.spans.iter().filter(|span| span.to > begun);
                let expected: Vec<Span> = expected
                    .map(|span| Span {
                        from: span.from.max(begun),
                        ..*span
                    })
                    .collect();
                assert_eq!(track.spans, expected, "{limit} {track:?}");
                assert_eq!(track.addr, before.addr);
            }
        }
    }

    #[test]
    fn old_events_are_forgotten_and_the_beginning_moves_with_the_time() {
        let mut timeline = timeline();
        timeline.record(added(10, "a"));
        timeline.record(removed(20, "a", Cause::Left));
        assert!(!timeline.forget_old(at(3610)));
        assert_eq!(timeline.begun(), at(10));
        assert!(timeline.forget_old(at(3611)));
        assert_eq!(timeline.events().len(), 1);
        assert!(timeline.forget_old(at(3621)));
        assert!(timeline.is_empty());
        assert!(timeline.tracks(at(3621)).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_reorder_events() {
        let mut timeline = timeline();
        timeline.record(added(50, "a"));
        timeline.record(removed(20, "a", Cause::Left));
        assert_eq!(spans(&timeline.tracks(at(60))[0]), [(50, 50, Status::Up)]);
        timeline.record(added(10, "b"));
        let track = &timeline.tracks(at(30))[1];
        assert_eq!(spans(track), [(50, 50, Status::Up)]);
    }

    #[test]
    fn outages_are_between_stale_and_live() {
        let event = |seconds, what| Event {
            at: at(seconds),
            what,
        };
        let mut timeline = timeline();
        for (seconds, what) in [
            (2, What::Live),
            (5, What::Stale),
            (6, What::Stale),
            (9, What::Live),
            (20, What::Stale),
        ] {
            timeline.record(event(seconds, what));
        }
        let expected = [(at(5), at(9)), (at(20), at(30))];
        assert_eq!(timeline.outages(at(30)), expected);
        // The outage whose begin is forgotten goes on.
        timeline.set_limit(2);
        let expected = [(at(6), at(9)), (at(20), at(30))];
        assert_eq!(timeline.outages(at(30)), expected);
    }

    #[test]
    fn the_moment_until_a_service_is_up_to_date_first_is_no_outage() {
        let event = |seconds, what| Event {
            at: at(seconds),
            what,
        };
        let mut timeline = timeline();
        timeline.record(event(0, What::Stale));
        timeline.record(added(1, "a"));
        timeline.record(event(1, What::Live));
        assert_eq!(timeline.events().count(), 1);
        assert_eq!(timeline.outages(at(30)), []);
        timeline.record(event(10, What::Stale));
        timeline.record(event(11, What::Live));
        assert_eq!(timeline.outages(at(30)), [(at(10), at(11))]);
    }

    #[test]
    fn restarts_are_marks() {
        let mut timeline = timeline();
        timeline.record(added(10, "a"));
        timeline.record(Event {
            at: at(20),
            what: What::Restarted { id: "a".into() },
        });
        assert_eq!(timeline.tracks(at(30))[0].restarts, [at(20)]);
    }
}

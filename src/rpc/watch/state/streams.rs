//! All watch streams of a client: the shared one, and a few for watches with a response that was too
//! large for a message.
//!
//! A watch moves to a stream with fragments when a response of it is too large, and receives that
//! response there. It stays until it must be created again, and then moves back if it received
//! anything: history in fragments can cost the server minutes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::action::Action;
use super::input::Input;
use super::watches::{MovingWatch, StreamKind, Watches};
use crate::rpc::watch::watch_id::WatchId;

/// Identifies a stream. Numbers are not reused.
pub(crate) type StreamNo = u64;

/// The stream of all watches that need no fragments.
pub(crate) const SHARED: StreamNo = 0;

/// The most streams besides the shared one. Further watches share those.
const MAX_OWN_STREAMS: usize = 4;

/// The watches of a client, on all their streams.
#[derive(Debug)]
pub(crate) struct Streams {
    shared: Watches,
    own: BTreeMap<StreamNo, Watches>,
    last: StreamNo,
    limit: usize,
}

impl Streams {
    /// Creates the state without watches; `limit` is the largest message that is accepted, in bytes.
    pub(crate) fn new(limit: usize, now: Instant) -> Self {
        let kind = StreamKind {
            fragments: false,
            limit,
        };
        Streams {
            shared: Watches::new(kind, now),
            own: BTreeMap::new(),
            last: SHARED,
            limit,
        }
    }

    /// Whether the stream exists, or will be opened again.
    pub(crate) fn has_stream(&self, stream: StreamNo) -> bool {
        stream == SHARED || self.own.contains_key(&stream)
    }

    /// The stream that a watch belongs to.
    pub(crate) fn stream_of(&self, id: WatchId) -> StreamNo {
        let own = self.own.iter().find(|(_, watches)| watches.has(id));
        own.map_or(SHARED, |(stream, _)| *stream)
    }

    /// Handles an input of a stream, or of a watch on it, and returns the actions. `random` is in 0..1.
    pub(crate) fn on(
        &mut self,
        stream: StreamNo,
        input: Input,
        now: Instant,
        random: f64,
    ) -> Vec<(StreamNo, Action)> {
        // An input of a stream that was removed meanwhile.
        let Some(watches) = self.stream(stream) else {
            return Vec::new();
        };
        let mut actions: Vec<_> = on(stream, watches.on(input, now, random)).collect();
        let (moving, highest) = watches.take_moving();
        if watches.is_empty() {
            self.own.remove(&stream);
        }
        let from = |stream, highest| move |watch| (stream, watch, highest);
        let mut queue: VecDeque<_> = moving.into_iter().map(from(stream, highest)).collect();
        while let Some((stream, watch, highest)) = queue.pop_front() {
            let to = match stream {
                // A watch leaves the shared stream for an oversized response, and returns when it
                // has caught up.
                SHARED => self.own_stream(now),
                _ => SHARED,
            };
            let Some(watches) = self.stream(to) else {
                continue;
            };
            actions.extend(on(to, watches.add_moved(watch, highest, now)));
            // A watch whose position is unknown returns at once: no fragments help it.
            let (moving, highest) = watches.take_moving();
            if watches.is_empty() {
                self.own.remove(&to);
            }
            queue.extend(moving.into_iter().map(from(to, highest)));
        }
        actions
    }

    /// The time at which the next `Tick` of each stream is due, if no other input comes before.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (StreamNo, Instant)> {
        let all = self.all();
        all.filter_map(|(stream, watches)| Some((stream, watches.deadline()?)))
    }

    /// The time from which the next `Tick` of each stream performs its step, if the client wakes up for
    /// another reason.
    pub(crate) fn ticks_from(&self) -> impl Iterator<Item = (StreamNo, Instant)> {
        let all = self.all();
        all.filter_map(|(stream, watches)| Some((stream, watches.tick_from()?)))
    }

    fn all(&self) -> impl Iterator<Item = (StreamNo, &Watches)> {
        let own = self.own.iter().map(|(stream, watches)| (*stream, watches));
        std::iter::once((SHARED, &self.shared)).chain(own)
    }

    fn stream(&mut self, stream: StreamNo) -> Option<&mut Watches> {
        match stream {
            SHARED => Some(&mut self.shared),
            stream => self.own.get_mut(&stream),
        }
    }

    /// The stream for a watch that needs fragments: a new one, or the one with the fewest watches.
    fn own_stream(&mut self, now: Instant) -> StreamNo {
        if self.own.len() >= MAX_OWN_STREAMS {
            let fewest = self.own.iter().min_by_key(|(_, watches)| watches.len());
            return fewest.map_or(SHARED, |(stream, _)| *stream);
        }
        let kind = StreamKind {
            fragments: true,
            limit: self.limit,
        };
        // Numbers are not reused: a late input of a removed stream must not reach another one.
        self.last += 1;
        self.own.insert(self.last, Watches::new(kind, now));
        self.last
    }
}

fn on(stream: StreamNo, actions: Vec<Action>) -> impl Iterator<Item = (StreamNo, Action)> {
    actions.into_iter().map(move |action| (stream, action))
}

impl Watches {
    fn has(&self, id: WatchId) -> bool {
        self.entries.contains_key(&id)
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the watches that belong on another stream, and returns the highest revision seen here.
    fn take_moving(&mut self) -> (Vec<MovingWatch>, i64) {
        (std::mem::take(&mut self.moving), self.highest)
    }

    /// Adds a watch that comes from another stream, and returns the actions.
    fn add_moved(&mut self, moving: MovingWatch, highest: i64, now: Instant) -> Vec<Action> {
        self.take_over(moving, highest);
        self.settle(now);
        std::mem::take(&mut self.actions)
    }
}

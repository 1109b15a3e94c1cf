//! All streams of a client's watches: the one that they share, and a few for watches of which a
//! response was too large for a message.
//!
//! A watch goes to a stream of its own with the response that was too large, and gets it there in
//! fragments. It stays for as long as the server keeps it there. When it has to be created anew and
//! got anything meanwhile, it comes back: history in fragments can cost the server minutes.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Action, Id, Input, Kind, Moving, Watches};

/// Names a stream; that of one that is gone is not used again.
pub(crate) type StreamNo = u64;

/// The stream that all watches share.
pub(crate) const SHARED: StreamNo = 0;

/// So many streams there are at most besides the shared one; what more there is shares them.
const MOST_OWN: usize = 4;

/// The watches of a client.
#[derive(Debug)]
pub(crate) struct Streams {
    shared: Watches,
    own: BTreeMap<StreamNo, Watches>,
    last: StreamNo,
    limit: usize,
}

impl Streams {
    /// No watches; `limit` is the largest message that is taken.
    pub(crate) fn new(limit: usize, now: Instant) -> Self {
        let kind = Kind {
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

    /// Whether there is, or will be again, such a stream.
    pub(crate) fn has_stream(&self, stream: StreamNo) -> bool {
        stream == SHARED || self.own.contains_key(&stream)
    }

    /// The stream that a watch is on, or will be.
    pub(crate) fn stream_of(&self, id: Id) -> StreamNo {
        let own = self.own.iter().find(|(_, watches)| watches.has(id));
        own.map_or(SHARED, |(stream, _)| *stream)
    }

    /// What to do about what happened on a stream, or to a watch of it; `random` is in 0..1.
    pub(crate) fn on(
        &mut self,
        stream: StreamNo,
        input: Input,
        now: Instant,
        random: f64,
    ) -> Vec<(StreamNo, Action)> {
        let Some(watches) = self.stream(stream) else {
            return Vec::new();
        };
        let mut actions: Vec<_> = on(stream, watches.on(input, now, random)).collect();
        let (moving, highest) = watches.take_moving();
        if watches.is_empty() {
            self.own.remove(&stream);
        }
        for one in moving {
            let to = match stream {
                SHARED => self.own_stream(now),
                _ => SHARED,
            };
            if let Some(watches) = self.stream(to) {
                actions.extend(on(to, watches.take_up(one, highest, now)));
            }
        }
        actions
    }

    /// When to be told `Tick` of a stream if nothing else happens before, by stream.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (StreamNo, Instant)> {
        let own = self.own.iter().map(|(stream, watches)| (*stream, watches));
        let all = std::iter::once((SHARED, &self.shared)).chain(own);
        all.filter_map(|(stream, watches)| Some((stream, watches.deadline()?)))
    }

    fn stream(&mut self, stream: StreamNo) -> Option<&mut Watches> {
        match stream {
            SHARED => Some(&mut self.shared),
            stream => self.own.get_mut(&stream),
        }
    }

    /// A stream for a watch that needs fragments: another one, or that with the fewest watches.
    fn own_stream(&mut self, now: Instant) -> StreamNo {
        if self.own.len() >= MOST_OWN {
            let fewest = self.own.iter().min_by_key(|(_, watches)| watches.len());
            return fewest.map_or(SHARED, |(stream, _)| *stream);
        }
        let kind = Kind {
            fragments: true,
            limit: self.limit,
        };
        self.last += 1;
        self.own.insert(self.last, Watches::new(kind, now));
        self.last
    }
}

fn on(stream: StreamNo, actions: Vec<Action>) -> impl Iterator<Item = (StreamNo, Action)> {
    actions.into_iter().map(move |action| (stream, action))
}

impl Watches {
    fn has(&self, id: Id) -> bool {
        self.ones.contains_key(&id)
    }

    fn len(&self) -> usize {
        self.ones.len()
    }

    fn is_empty(&self) -> bool {
        self.ones.is_empty()
    }

    /// The watches that belong on another stream, and the highest revision that is known here.
    fn take_moving(&mut self) -> (Vec<Moving>, i64) {
        (std::mem::take(&mut self.moving), self.highest)
    }

    /// Takes up a watch from another stream.
    fn take_up(&mut self, moving: Moving, highest: i64, now: Instant) -> Vec<Action> {
        self.adopt(moving, highest);
        self.settle(now);
        std::mem::take(&mut self.actions)
    }
}

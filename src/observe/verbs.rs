//! The calls of a client, by the type of their request: counted without a lock and without a list of
//! verbs that would have to be kept.

use std::any::{TypeId, type_name};
use std::hash::{Hash as _, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::latencies::Buckets;
use super::metrics::CallMetrics;
use crate::error::ErrorKind;

/// Places for types of requests; etcd has some sixty. More would share the last place.
const SLOTS: usize = 128;

/// Which type of request has which place: the same in every client of the process.
static TYPES: [OnceLock<TypeId>; SLOTS] = [const { OnceLock::new() }; SLOTS];

/// The place of a type: found at the first look, but for the first time and for collisions.
fn slot<R: 'static>() -> usize {
    let id = TypeId::of::<R>();
    let mut hash = Folded(0);
    id.hash(&mut hash);
    let start = usize::try_from(hash.0 % SLOTS as u64).unwrap_or(0);
    let (before, from) = TYPES.split_at(start);
    let places = (start..).zip(from).chain((0..).zip(before));
    let mut owned = places.filter(|(_, place)| *place.get_or_init(|| id) == id);
    owned.next().map_or(SLOTS, |(index, _)| index)
}

/// A hash of what is a hash already.
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }
}

/// The last word of a type's name: `Put` of `etcd_blocking::kv::put::Put`, also within a wrapper.
fn name<R>() -> &'static str {
    let words = type_name::<R>().rsplit(|c: char| !(c.is_alphanumeric() || c == '_'));
    words
        .into_iter()
        .find(|word| !word.is_empty())
        .unwrap_or("?")
}

/// The counters of a client.
pub(super) struct Verbs {
    slots: [OnceLock<Box<Verb>>; SLOTS + 1],
}

/// The counters of one verb.
#[derive(Debug)]
pub(super) struct Verb {
    name: &'static str,
    begun: AtomicU64,
    latency: Buckets,
    /// Behind a lock: an error costs more to make than to count.
    errors: Mutex<Vec<(ErrorKind, u64)>>,
}

impl Verbs {
    pub(super) fn new() -> Self {
        Verbs {
            slots: [const { OnceLock::new() }; SLOTS + 1],
        }
    }

    /// The counters of `R`; `None` never happens.
    pub(super) fn of<R: 'static>(&self) -> Option<&Verb> {
        let index = slot::<R>();
        let verb = || {
            let name = if index == SLOTS { "Other" } else { name::<R>() };
            Box::new(Verb::new(name))
        };
        self.slots
            .get(index)
            .map(|place| &**place.get_or_init(verb))
    }

    /// What there is, in the order of the names.
    pub(super) fn snapshot(&self) -> Vec<CallMetrics> {
        let mut calls: Vec<CallMetrics> = Vec::new();
        for verb in self.slots.iter().filter_map(OnceLock::get) {
            let one = verb.snapshot();
            // A request and the same request within a wrapper are one verb.
            match calls.iter_mut().find(|known| known.verb == one.verb) {
                Some(known) => known.merge(&one),
                None => calls.push(one),
            }
        }
        calls.sort_by_key(|call| call.verb);
        calls
    }
}

impl Verb {
    fn new(name: &'static str) -> Self {
        Verb {
            name,
            begun: AtomicU64::new(0),
            latency: Buckets::new(),
            errors: Mutex::default(),
        }
    }

    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "spans have it"))]
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self, took: Duration, error: Option<ErrorKind>) {
        if let Some(kind) = error {
            self.fail(kind);
        }
        self.latency.count(took);
    }

    #[cold]
    fn fail(&self, kind: ErrorKind) {
        let mut errors = self.errors.lock();
        match errors.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => errors.push((kind, 1)),
        }
    }

    fn snapshot(&self) -> CallMetrics {
        // What ended is read before what began, so that it is never more.
        let latency = self.latency.snapshot();
        let errors = self.errors.lock().clone();
        let ended = latency.count();
        let failed = errors.iter().map(|(_, count)| count).sum();
        CallMetrics {
            verb: self.name,
            ok: ended.saturating_sub(failed),
            errors,
            in_flight: self.begun.load(Relaxed).saturating_sub(ended),
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Put;
    #[derive(Debug)]
    struct Get;
    #[derive(Debug)]
    struct Wrapped<T>(std::marker::PhantomData<T>);

    #[test]
    fn a_type_keeps_its_place_and_no_other_has_it() {
        let places = || {
            [
                slot::<Put>(),
                slot::<Get>(),
                slot::<Wrapped<Put>>(),
                slot::<u8>(),
            ]
        };
        let first = places();
        assert_eq!(first, places());
        for (n, place) in first.iter().enumerate() {
            assert!(
                !first.iter().skip(n + 1).any(|other| other == place),
                "{first:?}"
            );
        }
    }

    #[test]
    fn a_wrapped_request_counts_as_the_request() {
        let verbs = Verbs::new();
        for verb in [verbs.of::<Put>(), verbs.of::<Wrapped<Put>>()] {
            let verb = verb.unwrap();
            verb.begin();
            verb.end(Duration::from_micros(7), None);
        }
        let get = verbs.of::<Get>().unwrap();
        get.begin();
        get.begin();
        get.end(Duration::from_secs(5), Some(ErrorKind::Timeout));
        let calls = verbs.snapshot();
        let told: Vec<_> = calls
            .iter()
            .map(|call| (call.verb, call.ok, call.failed(), call.in_flight))
            .collect();
        assert_eq!(told, [("Get", 0, 1, 1), ("Put", 2, 0, 0)]);
        assert_eq!(calls[0].errors, [(ErrorKind::Timeout, 1)]);
    }
}

//! Counts the calls of a client by verb, the first word of their errors. Needs no lock, and no list
//! of verbs.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;

use super::latencies::Buckets;
use super::metrics::CallMetrics;
use crate::error::ErrorKind;
use crate::util::atomic::AtomicU64;

/// The slots for verbs; etcd has about sixty. Further verbs share one additional slot.
const SLOTS: usize = 128;

/// The name of the shared slot.
const OTHER: &str = "other";

/// The first slot to probe for a verb (FNV-1a).
fn start(verb: &str) -> usize {
    let hash = verb.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    usize::try_from(hash % SLOTS as u64).unwrap_or(0)
}

/// The counters of a client, in a hash table that only grows.
pub(super) struct Verbs {
    slots: [OnceLock<Box<Verb>>; SLOTS + 1],
}

/// The counters of one verb.
#[derive(Debug)]
pub(super) struct Verb {
    name: &'static str,
    begun: AtomicU64,
    latency: Buckets,
    /// Locked, because creating an error costs more than counting it.
    errors: Mutex<Vec<(ErrorKind, u64)>>,
}

impl Verbs {
    pub(super) fn new() -> Self {
        Verbs {
            slots: [const { OnceLock::new() }; SLOTS + 1],
        }
    }

    /// The slot of a verb. Usually the first probe finds it.
    pub(super) fn slot(&self, verb: &'static str) -> usize {
        let (before, from) = self.slots.split_at(start(verb));
        let slots = (before.len()..SLOTS).zip(from).chain((0..).zip(before));
        // Begins at the slot of the hash and goes on to the next ones, at most once around.
        let mut owned = slots.filter(|(_, slot)| {
            // Of two threads with different verbs, one takes the slot; the other sees its name and
            // goes on.
            let there = slot.get_or_init(|| Box::new(Verb::new(verb)));
            there.name == verb
        });
        owned.next().map_or(SLOTS, |(index, _)| index)
    }

    /// The counters in a slot; `None` for an invalid index.
    pub(super) fn at(&self, slot: usize) -> Option<&Verb> {
        let slot = self.slots.get(slot)?;
        Some(slot.get_or_init(|| Box::new(Verb::new(OTHER))))
    }

    /// A snapshot of all counters, sorted by verb.
    pub(super) fn snapshot(&self) -> Vec<CallMetrics> {
        let verbs = self.slots.iter().filter_map(OnceLock::get);
        let mut calls: Vec<CallMetrics> = verbs.map(|verb| verb.snapshot()).collect();
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
        // The ended calls are read before the started ones, so they are never more.
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

    #[test]
    fn each_verb_has_a_fixed_slot_of_its_own() {
        // More verbs than slots: those that find none share the last slot.
        let names: Vec<&'static str> = (0..SLOTS + 9).map(|n| &*n.to_string().leak()).collect();
        let verbs = Verbs::new();
        let slots: Vec<usize> = names.iter().map(|name| verbs.slot(name)).collect();
        let again: Vec<usize> = names.iter().map(|name| verbs.slot(name)).collect();
        assert_eq!(slots, again);
        let (mut own, shared) = (slots[..SLOTS].to_vec(), &slots[SLOTS..]);
        own.sort_unstable();
        assert_eq!(own, (0..SLOTS).collect::<Vec<_>>());
        assert!(shared.iter().all(|slot| *slot == SLOTS));
        assert_eq!(verbs.at(SLOTS).unwrap().name, OTHER);
        assert!(verbs.at(SLOTS + 1).is_none());
    }

    // Fault: Q11
    #[test]
    fn calls_are_counted_under_their_verb() {
        let verbs = Verbs::new();
        let of = |verb| verbs.at(verbs.slot(verb)).unwrap();
        for _ in 0..2 {
            of("put").begin();
            of("put").end(Duration::from_micros(7), None);
        }
        let get = of("get");
        get.begin();
        get.begin();
        get.end(Duration::from_secs(5), Some(ErrorKind::Timeout));
        let calls = verbs.snapshot();
        let counted: Vec<_> = calls
            .iter()
            .map(|call| (call.verb, call.ok, call.failed(), call.in_flight))
            .collect();
        assert_eq!(counted, [("get", 0, 1, 1), ("put", 2, 0, 0)]);
        assert_eq!(calls[0].errors, [(ErrorKind::Timeout, 1)]);
    }
}

//! Which addresses a view probes, and when. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most probes of one view that are open at a time, so that a view with many addresses does not delay
/// the probes of others.
const MAX_OPEN: usize = 32;

/// The interval at which an address that answers is probed again.
const AGAIN: Duration = Duration::from_secs(5);

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection was accepted.
    Alive,
    /// The connection was refused, or not accepted in time.
    Dead,
    /// The probe shows nothing, such as when the name could not be looked up.
    Unknown,
}

/// The addresses to probe. Each of them is probed once at a time.
#[derive(Debug, Default)]
pub(super) struct ProbePlan {
    /// The addresses, and the time of the next probe of those that answered.
    wanted: BTreeMap<Arc<str>, Option<Instant>>,
    waiting: VecDeque<Arc<str>>,
    open: BTreeSet<Arc<str>>,
    again: BTreeSet<(Instant, Arc<str>)>,
}

impl ProbePlan {
    /// Requests probes of an address until it is [forgotten](ProbePlan::forget).
    pub(super) fn want(&mut self, addr: &Arc<str>) {
        if self.wanted.contains_key(addr) {
            return;
        }
        self.wanted.insert(addr.clone(), None);
        if !self.open.contains(addr) {
            self.waiting.push_back(addr.clone());
        }
    }

    /// Ends the probes of an address.
    pub(super) fn forget(&mut self, addr: &Arc<str>) {
        if let Some(Some(at)) = self.wanted.remove(addr) {
            self.again.remove(&(at, addr.clone()));
        }
    }

    /// Records the result of a probe.
    pub(super) fn probed(&mut self, addr: &Arc<str>, now: Instant) {
        self.open.remove(addr);
        if let Some(next @ None) = self.wanted.get_mut(addr) {
            *next = Some(now + AGAIN);
            self.again.insert((now + AGAIN, addr.clone()));
        }
    }

    /// The addresses to probe now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Arc<str>> {
        while let Some((at, _)) = self.again.first()
            && *at <= now
            && let Some((_, addr)) = self.again.pop_first()
        {
            if let Some(next) = self.wanted.get_mut(&addr) {
                *next = None;
                self.waiting.push_back(addr);
            }
        }
        let mut taken = Vec::new();
        while self.open.len() < MAX_OPEN
            && let Some(addr) = self.waiting.pop_front()
        {
            if self.wanted.contains_key(&addr) && self.open.insert(addr.clone()) {
                taken.push(addr);
            }
        }
        taken
    }

    /// The time of the next probe of an address that answered.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_probed_once_at_a_time_and_again_while_it_is_wanted() {
        let (mut plan, now) = (ProbePlan::default(), Instant::now());
        let addr: Arc<str> = "a:1".into();
        plan.want(&addr);
        plan.want(&addr);
        assert_eq!(plan.take(now).len(), 1);
        plan.forget(&addr);
        plan.want(&addr);
        assert!(plan.take(now).is_empty(), "its probe is still open");
        plan.probed(&addr, now);
        assert!(plan.take(now).is_empty());
        assert_eq!(plan.due(), Some(now + AGAIN));
        assert_eq!(plan.take(now + AGAIN).len(), 1);
        plan.probed(&addr, now + AGAIN);
        plan.forget(&addr);
        assert_eq!(plan.due(), None);
        assert!(plan.take(now + AGAIN * 2).is_empty());
    }

    #[test]
    fn few_probes_are_open_and_all_addresses_get_their_turn() {
        let (mut plan, now) = (ProbePlan::default(), Instant::now());
        let addrs: Vec<Arc<str>> = (0..100).map(|n| format!("a:{n}").into()).collect();
        addrs.iter().for_each(|addr| plan.want(addr));
        let mut seen = Vec::new();
        loop {
            let some = plan.take(now);
            assert!(some.len() <= MAX_OPEN);
            let Some(first) = some.first().cloned() else {
                break;
            };
            seen.extend(some);
            // Answers come one by one and all in the end.
            plan.forget(&first);
            plan.probed(&first, now);
            for addr in &seen {
                plan.probed(addr, now);
            }
        }
        assert_eq!(seen, addrs);
    }
}

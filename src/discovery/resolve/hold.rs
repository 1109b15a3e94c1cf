//! Decides how long a view holds instances that expired. Pure.
//!
//! The input is the changes of instances, and the output is those that the view shows. An instance with an
//! expired registration is removed later than its key, or never if it registers again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Cause, Change};
use super::probe_plan::{ProbePlan, Verdict};
use super::protection::{LONGEST, Protection};
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

/// The most instances that are held, and whose expiries are counted. Further ones are removed at once.
const MAX_HELD: usize = 1 << 16;

/// A step of the list that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShownStep {
    Added(Arc<Instance>),
    Updated {
        instance: Arc<Instance>,
        before: Arc<Instance>,
    },
    Removed {
        instance: Arc<Instance>,
        cause: Cause,
    },
    /// The instance is to be picked only if there is no other.
    Demoted(Arc<Instance>),
    /// The instance is to be picked like others again.
    Promoted(Arc<Instance>),
}

impl ShownStep {
    /// The instance of the step, as it is now.
    pub(super) fn instance(&self) -> &Arc<Instance> {
        match self {
            ShownStep::Added(instance)
            | ShownStep::Updated { instance, .. }
            | ShownStep::Removed { instance, .. }
            | ShownStep::Demoted(instance)
            | ShownStep::Promoted(instance) => instance,
        }
    }
}

/// The name of an instance, in the order of addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    addr: Arc<str>,
    id: Arc<str>,
}

impl Name {
    fn of(instance: &Instance) -> Self {
        Name {
            addr: instance.addr.as_str().into(),
            id: instance.id.as_str().into(),
        }
    }
}

#[derive(Debug)]
struct Held {
    /// The instance as it was registered.
    instance: Arc<Instance>,
    /// The instance as it is shown.
    shown: Arc<Instance>,
    cause: Cause,
    since: Instant,
    until: Instant,
}

/// The instances that expired and are held.
#[derive(Debug)]
pub(super) struct Hold {
    rules: Protection,
    /// The longest time to live of a lease that is known.
    ttl: Option<Duration>,
    /// The number of instances that are registered.
    present: usize,
    held: BTreeMap<Name, Held>,
    by_id: BTreeSet<(Arc<str>, Arc<str>)>,
    due: BTreeSet<(Instant, Name)>,
    /// Those that expired since the last decision about a mass expiry, or are held for the flap window.
    unconfirmed: BTreeSet<Name>,
    /// Those without a probe.
    unprobed: Vec<Name>,
    /// The instances that expired within the time of the protection.
    expired: BTreeMap<Name, Instant>,
    expired_order: VecDeque<(Instant, Name)>,
    /// The number of instances in both `held` and `expired`.
    held_lately: usize,
    plan: ProbePlan,
    /// The number of suspects of the present mass expiry, and whether it was taken.
    mass: Option<(usize, bool)>,
    out: Vec<ShownStep>,
}

impl Hold {
    pub(super) fn new(rules: Protection) -> Self {
        Hold {
            rules,
            ttl: None,
            present: 0,
            held: BTreeMap::new(),
            by_id: BTreeSet::new(),
            due: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            unprobed: Vec::new(),
            expired: BTreeMap::new(),
            expired_order: VecDeque::new(),
            held_lately: 0,
            plan: ProbePlan::default(),
            mass: None,
            out: Vec::new(),
        }
    }

    /// Records the time to live of a lease.
    pub(super) fn ttl(&mut self, ttl: Duration) {
        self.ttl = self.ttl.max(Some(ttl));
    }

    /// Applies a change. With `is_trusted`, a removal is shown at once whatever its cause.
    ///
    /// [`decide`](Hold::decide) must follow.
    pub(super) fn apply(&mut self, change: Change, is_trusted: bool, now: Instant) {
        match change {
            Change::Added(instance) => self.added(instance),
            Change::Updated { instance, before } if instance == before => {
                // Only another key: a removal that was expected does not come.
                self.out.push(ShownStep::Promoted(instance));
            }
            Change::Removed { instance, cause } => {
                self.present = self.present.saturating_sub(1);
                let expired = matches!(cause, Cause::Expired | Cause::Unknown | Cause::Resync)
                    && instance.status != Status::Draining;
                match expired && !is_trusted && self.held.len() < MAX_HELD {
                    true => self.expired(instance, cause, now),
                    false => self.out.push(ShownStep::Removed { instance, cause }),
                }
            }
            Change::Updated { instance, before } => {
                self.out.push(ShownStep::Updated { instance, before });
            }
            // The merge passes on changes of single instances only.
            Change::Reset { .. } | Change::Stale { .. } | Change::Live | Change::Bad { .. } => {}
        }
    }

    /// Records that the key of an instance was deleted, and that its removal follows.
    pub(super) fn unexplained(&mut self, instance: Arc<Instance>) {
        self.out.push(ShownStep::Demoted(instance));
    }

    /// Decides which instances are held, after all changes that belong together, and as time goes by.
    pub(super) fn decide(&mut self, now: Instant) {
        self.forget_expired(now);
        match self.is_mass_expiry() {
            true => {
                self.suspect();
                self.mass.get_or_insert((self.expired.len(), false));
            }
            false => self.mass = None,
        }
        while let Some((at, name)) = self.due.first().cloned()
            && at <= now
        {
            let Some(held) = self.held.get_mut(&name) else {
                self.due.pop_first();
                continue;
            };
            let limit = held.since + limit(&self.rules, self.ttl);
            // A longer time to live may have become known.
            if held.shown.status == Status::Suspect && limit > now {
                held.until = limit;
                self.due.pop_first();
                self.due.insert((limit, name));
            } else {
                self.release(&name, None);
            }
        }
        for name in std::mem::take(&mut self.unprobed) {
            if self.rules.probe && self.held.contains_key(&name) {
                self.plan.want(&name.addr);
            }
        }
    }

    /// Applies the result of a probe.
    pub(super) fn probed(&mut self, addr: &Arc<str>, verdict: Verdict, now: Instant) {
        if verdict == Verdict::Dead {
            for name in self.names_at(addr) {
                self.release(&name, None);
            }
        }
        self.plan.probed(addr, now);
    }

    /// Takes the addresses to probe now.
    pub(super) fn take_probes(&mut self, now: Instant) -> Vec<Arc<str>> {
        self.plan.take(now)
    }

    /// Takes the number of instances that expired when a mass expiry began, once.
    pub(super) fn take_mass_expiry(&mut self) -> Option<usize> {
        let (suspects, is_taken) = self.mass.as_mut().filter(|(_, is_taken)| !is_taken)?;
        *is_taken = true;
        Some(*suspects)
    }

    /// Takes the steps of the list that is shown.
    pub(super) fn take_steps(&mut self) -> Vec<ShownStep> {
        std::mem::take(&mut self.out)
    }

    /// The time of the next decision or probe.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.due.first().map(|(at, _)| *at);
        first.into_iter().chain(self.plan.due()).min()
    }

    /// Whether instances are shown that are not registered.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn added(&mut self, instance: Arc<Instance>) {
        self.present += 1;
        let name = Name::of(&instance);
        let held = self.forget(&name);
        self.expired.remove(&name);
        if let Some(held) = held {
            // It registered again. Another incarnation is a restart, and therefore an update.
            return match held.shown == instance {
                true => self.out.push(ShownStep::Promoted(instance)),
                false => self.out.push(ShownStep::Updated {
                    instance,
                    before: held.shown,
                }),
            };
        }
        if self.is_holding() {
            // The same id has another address.
            let from = (name.id.clone(), Arc::from(""));
            let same_id = self.by_id.range(from..);
            let same_id = same_id.take_while(|(id, _)| *id == name.id);
            let elsewhere: Vec<_> = same_id
                .map(|(id, addr)| Name {
                    addr: addr.clone(),
                    id: id.clone(),
                })
                .collect();
            for moved in elsewhere {
                self.release(&moved, Some(Cause::Replaced));
            }
            // The address has another id, so a probe would find the wrong process.
            for replaced in self.names_at(&name.addr) {
                self.release(&replaced, None);
            }
        }
        self.out.push(ShownStep::Added(instance));
    }

    fn expired(&mut self, instance: Arc<Instance>, cause: Cause, now: Instant) {
        let name = Name::of(&instance);
        self.expired.insert(name.clone(), now);
        self.expired_order.push_back((now, name.clone()));
        // A difference to a list is no flap.
        let until = match cause {
            Cause::Resync => now,
            _ => now + self.rules.flap_window,
        };
        self.by_id.insert((name.id.clone(), name.addr.clone()));
        self.due.insert((until, name.clone()));
        self.unconfirmed.insert(name.clone());
        self.unprobed.push(name.clone());
        self.out.push(ShownStep::Demoted(instance.clone()));
        let held = Held {
            shown: instance.clone(),
            instance,
            cause,
            since: now,
            until,
        };
        self.held.insert(name, held);
        self.held_lately += 1;
    }

    /// Whether so many instances expired that the registry is not believed.
    fn is_mass_expiry(&self) -> bool {
        let expired = self.expired.len();
        // Those that were removed in this time are part of the population.
        let held_longer = self.held.len().saturating_sub(self.held_lately);
        let population = self.present + held_longer + expired;
        population >= self.rules.population
            && expired.saturating_mul(100)
                > population.saturating_mul(self.rules.share.try_into().unwrap_or(usize::MAX))
    }

    /// Holds all that expired lately as suspects.
    fn suspect(&mut self) {
        let limit = limit(&self.rules, self.ttl);
        for name in std::mem::take(&mut self.unconfirmed) {
            let Some(held) = self.held.get_mut(&name) else {
                continue;
            };
            let mut suspect = (*held.instance).clone();
            suspect.status = Status::Suspect;
            suspect.reason = format!(
                "its registration expired together with many others ({:?})",
                held.cause
            );
            let suspect = Arc::new(suspect);
            let before = std::mem::replace(&mut held.shown, suspect.clone());
            self.due.remove(&(held.until, name.clone()));
            held.until = held.since + limit;
            self.due.insert((held.until, name));
            self.out.push(ShownStep::Updated {
                instance: suspect,
                before,
            });
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((at, _)) = self.expired_order.front()
            && now.saturating_duration_since(*at) > self.rules.within
            && let Some((at, name)) = self.expired_order.pop_front()
        {
            // It may have expired again since.
            if self.expired.get(&name) == Some(&at) {
                self.expired.remove(&name);
                self.held_lately -= usize::from(self.held.contains_key(&name));
            }
        }
    }

    /// The names of those that are held at an address.
    fn names_at(&self, addr: &Arc<str>) -> Vec<Name> {
        let from = Name {
            addr: addr.clone(),
            id: "".into(),
        };
        let held = self.held.range(from..).map(|(name, _)| name);
        held.take_while(|name| name.addr == *addr)
            .cloned()
            .collect()
    }

    /// Shows the removal of an instance that is held.
    fn release(&mut self, name: &Name, cause: Option<Cause>) {
        if let Some(held) = self.forget(name) {
            self.out.push(ShownStep::Removed {
                instance: held.shown,
                cause: cause.unwrap_or(held.cause),
            });
        }
    }

    fn forget(&mut self, name: &Name) -> Option<Held> {
        let held = self.held.remove(name)?;
        self.held_lately -= usize::from(self.expired.contains_key(name));
        self.due.remove(&(held.until, name.clone()));
        self.by_id.remove(&(name.id.clone(), name.addr.clone()));
        self.unconfirmed.remove(name);
        let from = Name {
            addr: name.addr.clone(),
            id: "".into(),
        };
        let others = self.held.range(from..).next();
        if others.is_none_or(|(other, _)| other.addr != name.addr) {
            self.plan.forget(&name.addr);
        }
        Some(held)
    }
}

/// The time for which a suspect is held at most.
fn limit(rules: &Protection, ttl: Option<Duration>) -> Duration {
    let ttl = ttl.unwrap_or_default();
    rules.hold.max(ttl.saturating_mul(3)).min(LONGEST)
}

#[cfg(test)]
mod tests;

//! The choice of one slot for a call. Pure.

use std::time::Instant;

use super::super::balance::Balance;
use super::super::slots::Position;
use super::super::stable_hash::{GOLDEN, fraction, mix};
use super::super::tier::Order;
use super::super::zone_share::own_zone_share;
use super::{FAR, NEAR, Pool};

/// How often another instance is drawn before the slots are searched one by one.
const DRAWS: u64 = 8;

/// A call that needs an instance.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Request<'a> {
    /// The hash of its key.
    pub(in super::super) key: Option<u64>,
    /// The instances that it was sent to before.
    pub(in super::super) tried: &'a [Position],
    /// `None` when no pick depends on the time.
    pub(in super::super) now: Option<Instant>,
    /// Whether it is in flight until its end is known.
    pub(in super::super) is_counted: bool,
}

impl Pool {
    /// The slot for a call. It is one that was not tried, if there is any.
    pub(super) fn choose(&mut self, request: Request<'_>) -> Option<usize> {
        if let Some(slot) = self.choose_trial(request) {
            return Some(slot);
        }
        let first = self.first_tier(request.key);
        for tier in [first, NEAR + FAR - first] {
            if let Some(slot) = self.choose_in(tier, request) {
                return Some(slot);
            }
        }
        // An ejected instance is better than one that has just failed.
        let ejected = self.search(0, |pool, slot| pool.is_new(slot, request.tried));
        if ejected.is_some() || request.tried.is_empty() {
            return ejected;
        }
        // All were tried: any but the last one.
        let (_, tried) = request.tried.split_at(match request.tried.len() {
            1 => 1,
            tried => tried - 1,
        });
        self.choose(Request { tried, ..request })
    }

    /// The slot of an instance that is tried again after its ejection, if one is due.
    fn choose_trial(&mut self, request: Request<'_>) -> Option<usize> {
        let is_by_key = request.key.is_some() && self.settings.balance == Balance::Rendezvous;
        if !request.is_counted || is_by_key || !self.any_out() {
            return None;
        }
        let share = self.own_zone_share();
        let outliers = self.outliers.as_ref()?;
        let slot = outliers.waiting_trial(|slot| {
            // Without it the other zones would get calls only because an instance of theirs had failed.
            let tier = self.slots.get(slot).map(|one| one.tier);
            self.is_new(slot, request.tried) && (tier == Some(NEAR) || share < 1.0)
        })?;
        self.outliers.as_mut()?.begin_trial(slot).then_some(slot)
    }

    /// Whether a slot has an instance that was not tried.
    fn is_new(&self, slot: usize, tried: &[Position]) -> bool {
        let position = self.slots.position(slot);
        self.slots.is_current(position) && !tried.contains(&position)
    }

    fn own_zone_share(&self) -> f64 {
        if self.settings.zone.is_none() {
            return 1.0;
        }
        let [near, _] = &self.tiers;
        let missing = self.zone.missing_weight + near.ejected_weight();
        own_zone_share(near.weight(), missing)
    }

    /// The tier whose turn it is; the other one is used when this has no instances.
    fn first_tier(&mut self, key: Option<u64>) -> u8 {
        let share = self.own_zone_share();
        if share >= 1.0 {
            return NEAR;
        }
        if let Some(key) = key.filter(|_| self.settings.balance == Balance::Rendezvous) {
            // The same keys leave the zone each time.
            let leaves = fraction(mix(key ^ GOLDEN)) >= share;
            return if leaves { FAR } else { NEAR };
        }
        // The others get their part exactly, and evenly spread.
        self.zone.owed += 1.0 - share;
        if self.zone.owed < 1.0 {
            return NEAR;
        }
        self.zone.owed -= 1.0;
        FAR
    }

    fn choose_in(&mut self, tier: u8, request: Request<'_>) -> Option<usize> {
        if let Some(key) = request.key
            && self.settings.balance == Balance::Rendezvous
        {
            return self.choose_by_key(tier, key, request);
        }
        for _ in 0..DRAWS {
            let slot = self.draw(tier, request.now)?;
            if request.tried.is_empty() || self.is_new(slot, request.tried) {
                return Some(slot);
            }
        }
        let begin = self.random.fraction() * self.slots.slots().len() as f64;
        self.search(begin as usize, |pool, slot| {
            let one = pool.slots.get(slot);
            one.is_some_and(|one| one.tier == tier && one.used_weight > 0)
                && pool.is_new(slot, request.tried)
        })
    }

    /// The first slot that meets a condition, from `begin` on.
    fn search(&self, begin: usize, condition: impl Fn(&Pool, usize) -> bool) -> Option<usize> {
        let slots = self.slots.slots().len();
        (begin..slots)
            .chain(0..begin.min(slots))
            .find(|slot| condition(self, *slot))
    }

    /// The next slot of a tier by the balance.
    fn draw(&mut self, tier: u8, now: Option<Instant>) -> Option<usize> {
        let balance = self.settings.balance;
        let [near, far] = &mut self.tiers;
        let tier = if tier == NEAR { near } else { far };
        let tree = match tier.order() {
            Order::InTurn(schedule) => return schedule.pick(),
            Order::ByWeight(tree) | Order::ByKey(tree, _) => tree,
        };
        if !matches!(balance, Balance::LeastInFlight | Balance::PeakEwma) {
            return tree.sample(self.random.fraction());
        }
        let random = [self.random.fraction(), self.random.fraction()];
        let (first, second) = tree.sample_two(random)?;
        let Some(second) = second else {
            return Some(first);
        };
        // Of equals, the first one keeps the distribution by weight.
        let is_better = self.load(second, now) < self.load(first, now);
        Some(if is_better { second } else { first })
    }

    /// The load of an instance in proportion to its weight.
    fn load(&self, slot: usize, now: Option<Instant>) -> f64 {
        let in_flight = self.calls.in_flight(slot);
        let load = match (self.settings.balance, now) {
            (Balance::PeakEwma, Some(now)) => {
                let latency = self.calls.latencies.get(slot).copied().unwrap_or_default();
                latency.cost(in_flight, now)
            }
            _ => f64::from(in_flight),
        };
        let weight = self.slots.get(slot).map_or(1, |one| one.weight);
        load / f64::from(weight.max(1))
    }

    /// The slot for a key: the best of the tier that is in use and has room.
    fn choose_by_key(&mut self, tier: u8, key: u64, request: Request<'_>) -> Option<usize> {
        let mut begin = 0;
        for draw in 0..DRAWS {
            let again = if draw == 0 {
                key
            } else {
                mix(key.wrapping_add(draw.wrapping_mul(GOLDEN)))
            };
            let tier = self.tiers.get_mut(usize::from(tier))?;
            let Order::ByKey(_, table) = tier.order() else {
                return None;
            };
            begin = table.find(again)?;
            if self.takes(begin, request) {
                return Some(begin);
            }
        }
        let is_of_tier = |pool: &Pool, slot: usize| {
            let one = pool.slots.get(slot);
            one.is_some_and(|one| one.tier == tier && one.used_weight > 0)
                && pool.is_new(slot, request.tried)
        };
        self.search(begin, |pool, slot| {
            is_of_tier(pool, slot) && (!request.is_counted || pool.has_room(slot))
        })
        // Those that have room may all have been tried.
        .or_else(|| self.search(begin, is_of_tier))
    }

    /// Whether a slot takes a call for a key. An instance on trial has this call then.
    fn takes(&mut self, slot: usize, request: Request<'_>) -> bool {
        let is_new = request.tried.is_empty() || self.is_new(slot, request.tried);
        if !is_new || request.is_counted && !self.has_room(slot) {
            return false;
        }
        match &mut self.outliers {
            Some(outliers) if !outliers.is_in_use(slot) => {
                request.is_counted && outliers.begin_trial(slot)
            }
            _ => true,
        }
    }

    /// Whether one more call keeps an instance within its bound: 1.25 times its share by weight of all
    /// calls in flight, rounded up (consistent hashing with bounded loads, Mirrokni et al.).
    fn has_room(&self, slot: usize) -> bool {
        let Some(one) = self.slots.get(slot) else {
            return false;
        };
        let tier = usize::from(one.tier);
        let all = self.tiers.get(tier).map_or(0, |tier| tier.weight());
        let total = self.calls.total.get(tier).copied().unwrap_or(0);
        let bound = 5 * (u128::from(total) + 1) * u128::from(one.weight);
        // An integer is below a fraction rounded up exactly when it is below the fraction.
        u128::from(self.calls.in_flight(slot)) * 4 * u128::from(all) < bound
    }
}

//! The instances of a view that can be picked. Pure: time is an argument, and random numbers have a seed.

mod choice;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::balance::Balance;
use super::outliers::Outliers;
use super::peak_ewma::PeakEwma;
use super::retry_budget::RetryTokens;
use super::settings::BalanceSettings;
use super::slots::{Position, Slots};
use super::stable_hash::stable_hash;
use super::subset::Subset;
use super::tier::Tier;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::util::jitter::Jitter;

pub(super) use choice::Request;

/// The tier of the own zone, or the only one.
const NEAR: u8 = 0;
const FAR: u8 = 1;

/// The state of a balancer.
#[derive(Debug)]
pub(super) struct Pool {
    settings: BalanceSettings,
    slots: Slots,
    /// Those of the own zone, and all others.
    tiers: [Tier; 2],
    zone: ZoneState,
    /// For each tier, with the setting `subset`.
    subsets: Option<[Subset; 2]>,
    calls: Calls,
    /// `None` when the setting `ejection` is off.
    outliers: Option<Outliers>,
    retries: RetryTokens,
    random: Jitter,
}

/// The own zone and its share of the calls.
#[derive(Debug, Default)]
struct ZoneState {
    /// The weights of its instances that accept no calls now and are expected to do so again.
    missing: HashMap<Bytes, u32>,
    missing_weight: u64,
    /// The part of a call that is due to the others.
    owed: f64,
}

/// The calls in flight, once guards are used.
#[derive(Debug, Default)]
struct Calls {
    in_flight: Vec<u32>,
    /// For each tier.
    total: [u64; 2],
    /// With [`Balance::PeakEwma`] only.
    latencies: Vec<PeakEwma>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEnd {
    Succeeded(Duration),
    Failed(Duration),
    /// Neither is known.
    Dropped,
}

impl Pool {
    pub(super) fn new(settings: BalanceSettings, seed: u64) -> Self {
        let balance = settings.balance;
        let subsets = settings.subset.as_ref();
        Pool {
            slots: Slots::default(),
            tiers: [Tier::new(balance), Tier::new(balance)],
            zone: ZoneState::default(),
            subsets: subsets.map(|(size, name)| [(); 2].map(|()| Subset::new(*size, name))),
            calls: Calls::default(),
            outliers: (!settings.ejection.is_off()).then(|| Outliers::new(settings.ejection)),
            retries: RetryTokens::new(settings.retry_budget),
            random: Jitter::seeded(seed),
            settings,
        }
    }

    pub(super) fn retries(&mut self) -> &mut RetryTokens {
        &mut self.retries
    }

    /// The number of instances that can be picked, including those that are ejected.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of calls in flight.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> u64 {
        self.calls.total.iter().sum()
    }

    /// Whether a pick depends on the time.
    pub(super) fn needs_clock(&self) -> bool {
        self.settings.balance == Balance::PeakEwma || self.any_out()
    }

    fn any_out(&self) -> bool {
        let outliers = self.outliers.as_ref();
        outliers.is_some_and(|outliers| !outliers.out().is_empty())
    }

    /// The instances that are ejected or on trial.
    pub(super) fn ejected(&self) -> Vec<Arc<Instance>> {
        let out = self.outliers.as_ref().map_or(&[][..], Outliers::out);
        let slots = out.iter().filter_map(|slot| self.slots.get(*slot));
        slots.filter_map(|slot| slot.instance.clone()).collect()
    }

    /// Sets the instance of a key, or removes it.
    pub(super) fn update(&mut self, key: &Bytes, instance: Option<&Arc<Instance>>) {
        self.note_missing(key, instance);
        let filter = &self.settings.filter;
        let instance = instance.filter(|instance| filter.matches(instance));
        let Some(mut subsets) = self.subsets.take() else {
            self.set(key, instance);
            return;
        };
        let tier = instance.map(|instance| self.tier_of(instance));
        let mut edits = Vec::new();
        for (subset, number) in subsets.iter_mut().zip([NEAR, FAR]) {
            let instance = instance.filter(|_| tier == Some(number));
            subset.update(key, instance, |edit| edits.push(edit));
        }
        self.subsets = Some(subsets);
        // An instance that changes its zone leaves one subset first, whatever their order is.
        edits.sort_by_key(|(_, instance)| instance.is_some());
        for (key, instance) in edits {
            self.set(&key, instance.as_ref());
        }
    }

    /// Applies the rules that depend on the number of instances, after updates.
    pub(super) fn updated(&mut self, now: Instant) {
        let instances = self.slots.len();
        if let Some(outliers) = &mut self.outliers {
            outliers.limit(instances, now);
        }
        self.apply_ejections();
    }

    fn tier_of(&self, instance: &Instance) -> u8 {
        match &self.settings.zone {
            Some(zone) if *zone != instance.zone => FAR,
            _ => NEAR,
        }
    }

    fn note_missing(&mut self, key: &Bytes, instance: Option<&Arc<Instance>>) {
        let Some(own) = &self.settings.zone else {
            return;
        };
        let filter = &self.settings.filter;
        let missing = instance.filter(|instance| {
            let is_away = matches!(instance.status, Status::OutOfService | Status::Maintenance);
            is_away
                && instance.zone == *own
                && filter.matches_besides_status(instance)
                && !filter.matches(instance)
        });
        let before = match missing {
            Some(instance) => self.zone.missing.insert(key.clone(), instance.weight),
            None => self.zone.missing.remove(key),
        };
        let weight = missing.map_or(0, |instance| instance.weight);
        self.zone.missing_weight += u64::from(weight);
        self.zone.missing_weight -= u64::from(before.unwrap_or(0));
    }

    /// Sets or removes an instance that passed the filter and is in the subset.
    fn set(&mut self, key: &Bytes, instance: Option<&Arc<Instance>>) {
        let slot = self.slots.of_key(key);
        let tier = instance.map(|instance| self.tier_of(instance));
        let before = slot
            .and_then(|slot| self.slots.get(slot))
            .map(|one| one.tier);
        match (slot, instance) {
            (Some(slot), Some(instance)) if tier == before => self.change(slot, instance),
            (slot, instance) => {
                if let Some(slot) = slot {
                    self.leave(key, slot);
                }
                if let Some(instance) = instance {
                    let tier = tier.unwrap_or(NEAR);
                    let slot = self.slots.join(key, instance, tier);
                    self.set_member(slot, instance.weight);
                    self.use_slot(slot, instance.weight);
                    self.set_key_weight(slot, instance, instance.weight);
                }
            }
        }
    }

    fn leave(&mut self, key: &Bytes, slot: usize) {
        self.use_slot(slot, 0);
        self.set_member(slot, 0);
        if let Some(left) = self.slots.get(slot) {
            let tier = usize::from(left.tier);
            if let Some(instance) = left.instance.clone() {
                self.set_key_weight(slot, &instance, 0);
            }
            self.calls.forget(slot, tier);
        }
        self.slots.leave(key);
        if let Some(outliers) = &mut self.outliers {
            outliers.forget(slot);
        }
    }

    fn change(&mut self, slot: usize, instance: &Arc<Instance>) {
        let Some(changed) = self.slots.get_mut(slot) else {
            return;
        };
        let before = changed.instance.replace(Arc::clone(instance));
        self.set_member(slot, instance.weight);
        if let Some(before) = before {
            let (old, new) = (before.incarnation(), instance.incarnation());
            // A program that was started again is not judged by its calls before.
            if old != new && old != 0 && new != 0 {
                self.forget_outcomes(slot);
            }
            if before.id != instance.id {
                self.set_key_weight(slot, &before, 0);
            }
            if before.id != instance.id || before.weight != instance.weight {
                self.set_key_weight(slot, instance, instance.weight);
            }
        }
        let outliers = self.outliers.as_ref();
        if outliers.is_none_or(|outliers| outliers.is_in_use(slot)) {
            self.use_slot(slot, instance.weight);
        }
    }

    fn forget_outcomes(&mut self, slot: usize) {
        if let Some(outliers) = &mut self.outliers {
            outliers.forget(slot);
        }
        if let Some(latency) = self.calls.latencies.get_mut(slot) {
            *latency = PeakEwma::default();
        }
    }

    fn set_key_weight(&mut self, slot: usize, instance: &Instance, weight: u32) {
        if self.settings.balance != Balance::Rendezvous {
            return;
        }
        let tier = self.slots.get(slot).map_or(NEAR, |one| one.tier);
        if let Some(tier) = self.tiers.get_mut(usize::from(tier)) {
            tier.set_key_weight(slot, stable_hash(instance.id.as_bytes()), weight);
        }
    }

    /// Sets the weight of a slot; 0 for one that is free.
    fn set_member(&mut self, slot: usize, weight: u32) {
        let Some(member) = self.slots.get_mut(slot) else {
            return;
        };
        let before = std::mem::replace(&mut member.weight, weight);
        if let Some(tier) = self.tiers.get_mut(usize::from(member.tier)) {
            tier.set_member(before, weight);
        }
    }

    /// Sets the weight by which a slot is picked; 0 for not at all.
    fn use_slot(&mut self, slot: usize, weight: u32) {
        let Some(used) = self.slots.get_mut(slot) else {
            return;
        };
        let before = std::mem::replace(&mut used.used_weight, weight);
        if let Some(tier) = self.tiers.get_mut(usize::from(used.tier))
            && before != weight
        {
            tier.set(slot, before, weight);
        }
    }

    fn apply_ejections(&mut self) {
        while let Some((slot, is_in_use)) = self.outliers.as_mut().and_then(Outliers::next_change) {
            let weight = self.slots.get(slot).map_or(0, |one| one.weight);
            self.use_slot(slot, if is_in_use { weight } else { 0 });
        }
    }

    /// The instance for a request that is not counted.
    pub(super) fn pick(&mut self, request: Request<'_>) -> Option<Arc<Instance>> {
        self.advance(request.now);
        let slot = self.choose(request)?;
        self.slots.get(slot)?.instance.clone()
    }

    /// The instance for a request, which is in flight until it is [`ended`](Pool::ended).
    pub(super) fn acquire(&mut self, request: Request<'_>) -> Option<(Position, Arc<Instance>)> {
        self.advance(request.now);
        let slot = self.choose(request)?;
        let chosen = self.slots.get(slot)?;
        let instance = chosen.instance.clone()?;
        let slots = self.slots.slots().len();
        let with_latencies = self.settings.balance == Balance::PeakEwma;
        self.calls
            .begin(slot, chosen.tier.into(), slots, with_latencies);
        Some((self.slots.position(slot), instance))
    }

    fn advance(&mut self, now: Option<Instant>) {
        if let (Some(outliers), Some(now)) = (&mut self.outliers, now) {
            outliers.advance(now);
            self.apply_ejections();
        }
    }

    /// Takes note of the end of a call. `now` is its begin when it was dropped: its time is not measured.
    pub(super) fn ended(&mut self, position: Position, end: CallEnd, now: Instant) {
        // Another instance may have the slot now.
        if !self.slots.is_current(position) {
            return;
        }
        let slot = position.slot;
        let tier = self.slots.get(slot).map_or(NEAR, |one| one.tier);
        self.calls.end(slot, tier.into());
        if let Some(latency) = self.calls.latencies.get_mut(slot) {
            match end {
                CallEnd::Succeeded(took) => latency.succeeded(took, now),
                CallEnd::Failed(took) => latency.failed(took, now),
                CallEnd::Dropped => {}
            }
        }
        let instances = self.slots.len();
        let Some(outliers) = &mut self.outliers else {
            return;
        };
        match end {
            CallEnd::Dropped => outliers.abandoned(slot, now),
            CallEnd::Succeeded(took) | CallEnd::Failed(took) => {
                let failed = matches!(end, CallEnd::Failed(_));
                let began = now.checked_sub(took).unwrap_or(now);
                let random = self.random.fraction();
                outliers.ended(slot, failed, began, instances, now, random);
                self.apply_ejections();
            }
        }
    }
}

impl Calls {
    fn begin(&mut self, slot: usize, tier: usize, slots: usize, with_latencies: bool) {
        if slot >= self.in_flight.len() {
            self.in_flight.resize(slots, 0);
        }
        if with_latencies && slot >= self.latencies.len() {
            self.latencies.resize(slots, PeakEwma::default());
        }
        if let (Some(calls), Some(total)) = (self.in_flight.get_mut(slot), self.total.get_mut(tier))
            && *calls < u32::MAX
        {
            *calls += 1;
            *total += 1;
        }
    }

    fn end(&mut self, slot: usize, tier: usize) {
        if let (Some(calls), Some(total)) = (self.in_flight.get_mut(slot), self.total.get_mut(tier))
            && *calls > 0
        {
            *calls -= 1;
            *total -= 1;
        }
    }

    /// Forgets the calls to an instance that left.
    fn forget(&mut self, slot: usize, tier: usize) {
        if let (Some(calls), Some(total)) = (self.in_flight.get_mut(slot), self.total.get_mut(tier))
        {
            *total -= u64::from(std::mem::take(calls));
        }
        if let Some(latency) = self.latencies.get_mut(slot) {
            *latency = PeakEwma::default();
        }
    }

    fn in_flight(&self, slot: usize) -> u32 {
        self.in_flight.get(slot).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;

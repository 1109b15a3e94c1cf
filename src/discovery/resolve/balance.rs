//! Which instance gets the next call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::discovery::instance::Instance;

/// How calls are spread over the instances of a service.
///
/// Only those that are [`Up`](crate::Status::Up) with a weight above 0 get any. When there is none,
/// nothing is picked, although there may be instances: one that is draining or out of service said
/// that it does not want calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other, whatever their weights.
    RoundRobin,
    /// By weight, and evenly mixed: with weights 5, 1, 1 the first gets 5 of 7 calls, but not 5 in
    /// a row. With equal weights it goes round. An instance that joins, leaves or changes does not
    /// disturb the turn of the others.
    #[default]
    Weighted,
}

/// The turn of one view, shared by all who pick from it.
#[derive(Debug)]
pub(crate) struct Balancer {
    turn: Strategy,
}

#[derive(Debug)]
enum Strategy {
    RoundRobin(AtomicU64),
    Weighted(Mutex<Smooth>),
}

impl Balancer {
    /// At the first turn.
    pub(crate) fn new(balance: Balance) -> Self {
        let turn = match balance {
            Balance::RoundRobin => Strategy::RoundRobin(AtomicU64::new(0)),
            Balance::Weighted => Strategy::Weighted(Mutex::default()),
        };
        Balancer { turn }
    }

    /// The instance whose turn it is, or `None` when none wants calls.
    pub(crate) fn pick(&self, instances: &Arc<[Arc<Instance>]>) -> Option<Arc<Instance>> {
        match &self.turn {
            Strategy::RoundRobin(turn) => round_robin(turn, instances),
            Strategy::Weighted(smooth) => smooth.lock().pick(instances),
        }
    }
}

fn round_robin(turn: &AtomicU64, instances: &[Arc<Instance>]) -> Option<Arc<Instance>> {
    let pickable = || instances.iter().filter(|instance| instance.is_pickable());
    let count = pickable().count() as u64;
    // Past the last number it goes on with 0. Order among threads does not matter to a turn.
    let turn = turn
        .fetch_add(1, Ordering::Relaxed)
        .checked_rem(count)
        .unwrap_or(0);
    pickable().nth(turn as usize).cloned()
}

/// Smooth weighted round-robin, as in nginx: at every turn each gains its weight, and the one with
/// the most is picked and loses the sum of all weights.
#[derive(Debug, Default)]
struct Smooth {
    /// The set that `lanes` is for. Held, so that no other set can come to have its address.
    set: Arc<[Arc<Instance>]>,
    lanes: Vec<Weight>,
    total: i64,
}

#[derive(Debug)]
struct Weight {
    instance: Arc<Instance>,
    weight: i64,
    gained: i64,
}

impl Smooth {
    fn pick(&mut self, set: &Arc<[Arc<Instance>]>) -> Option<Arc<Instance>> {
        if !Arc::ptr_eq(set, &self.set) {
            self.adopt(set);
        }
        let mut best: Option<&mut Weight> = None;
        for lane in &mut self.lanes {
            lane.gained += lane.weight;
            if best.as_ref().is_none_or(|best| lane.gained > best.gained) {
                best = Some(lane);
            }
        }
        let best = best?;
        best.gained -= self.total;
        Some(best.instance.clone())
    }

    /// Goes over to another set: who was there keeps what it gained.
    fn adopt(&mut self, set: &Arc<[Arc<Instance>]>) {
        let gained: HashMap<String, i64> = self
            .lanes
            .drain(..)
            .map(|lane| (lane.instance.id.clone(), lane.gained))
            .collect();
        let pickable = || set.iter().filter(|instance| instance.is_pickable());
        self.total = pickable().map(|instance| i64::from(instance.weight)).sum();
        // Nobody can gain or lose more than the sum of all weights. What is left from a time when
        // that was larger would give one instance all calls for as long.
        let bound = self.total;
        self.lanes.extend(pickable().map(|instance| {
            Weight {
                instance: instance.clone(),
                weight: i64::from(instance.weight),
                gained: gained
                    .get(&instance.id)
                    .map_or(0, |gained| (*gained).clamp(-bound, bound)),
            }
        }));
        self.set = set.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::discovery::Status;

    type Set = Arc<[Arc<Instance>]>;

    fn set(weights: &[(&str, u32)]) -> Set {
        let weights = weights.iter();
        weights
            .map(|(id, weight)| Arc::new(Instance::new("web", "a:1").id(*id).weight(*weight)))
            .collect()
    }

    fn picks(picker: &Balancer, set: &Set, count: usize) -> String {
        (0..count)
            .map(|_| picker.pick(set).unwrap().id.clone())
            .collect()
    }

    fn counts(picks: &str) -> BTreeMap<char, usize> {
        picks.chars().fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(id).or_default() += 1;
            counts
        })
    }

    #[test]
    fn round_robin_goes_round_whatever_the_weights() {
        let picker = Balancer::new(Balance::RoundRobin);
        let set = set(&[("a", 1), ("b", 100), ("z", 0), ("c", 1)]);
        assert_eq!(picks(&picker, &set, 9), "abcabcabc");
    }

    #[test]
    fn round_robin_goes_on_past_the_largest_number() {
        let picker = Balancer {
            turn: Strategy::RoundRobin(AtomicU64::new(u64::MAX - 1)),
        };
        let picked = picks(&picker, &set(&[("a", 1), ("b", 1)]), 4);
        assert_eq!(counts(&picked), BTreeMap::from([('a', 2), ('b', 2)]));
    }

    #[test]
    fn weighted_is_exact_and_mixed() {
        let picker = Balancer::new(Balance::Weighted);
        let set = set(&[("a", 5), ("b", 1), ("z", 0), ("c", 1)]);
        assert_eq!(picks(&picker, &set, 14), "aabacaaaabacaa");
    }

    #[test]
    fn weighted_with_equal_weights_goes_round() {
        let picker = Balancer::new(Balance::Weighted);
        let set = set(&[("a", 3), ("b", 3), ("c", 3)]);
        assert_eq!(picks(&picker, &set, 6), "abcabc");
    }

    #[test]
    fn weighted_counts_are_exact_for_the_largest_weights() {
        let picker = Balancer::new(Balance::Weighted);
        let set = set(&[("a", u32::MAX), ("b", u32::MAX), ("c", u32::MAX)]);
        let picked = picks(&picker, &set, 3000);
        assert_eq!(
            counts(&picked),
            BTreeMap::from([('a', 1000), ('b', 1000), ('c', 1000)])
        );
    }

    #[test]
    fn a_change_of_the_set_does_not_start_the_turn_again() {
        let picker = Balancer::new(Balance::Weighted);
        let mut picked = String::new();
        // A new set before every pick would send every call to the first, if that lost its turn.
        for _ in 0..12 {
            picked += &picks(&picker, &set(&[("a", 1), ("b", 1), ("c", 2)]), 1);
        }
        assert_eq!(
            counts(&picked),
            BTreeMap::from([('a', 3), ('b', 3), ('c', 6)])
        );
    }

    #[test]
    fn one_heavy_instance_that_leaves_does_not_skew_the_rest() {
        let picker = Balancer::new(Balance::Weighted);
        let heavy = set(&[("a", 1000), ("b", 1), ("c", 1)]);
        // At this turn one of the light ones is far ahead of the other.
        picks(&picker, &heavy, 500);
        let light = set(&[("b", 1), ("c", 1)]);
        let counts = counts(&picks(&picker, &light, 20));
        assert!(counts[&'b'].abs_diff(counts[&'c']) <= 4, "{counts:?}");
    }

    #[test]
    fn nothing_is_picked_when_nobody_wants_calls() {
        let all = [Status::Starting, Status::Draining, Status::OutOfService];
        let set: Set = all
            .into_iter()
            .map(|status| Arc::new(Instance::new("web", status).status(status)))
            .chain([Arc::new(Instance::new("web", "zero").weight(0))])
            .collect();
        for balance in [Balance::RoundRobin, Balance::Weighted] {
            let picker = Balancer::new(balance);
            assert_eq!(picker.pick(&set), None);
            assert_eq!(picker.pick(&Arc::default()), None);
        }
    }

    #[test]
    fn threads_share_one_turn() {
        let set = set(&[("a", 2), ("b", 1), ("c", 1)]);
        for (balance, expected) in [
            (Balance::RoundRobin, [400, 400, 400]),
            (Balance::Weighted, [600, 300, 300]),
        ] {
            let picker = Balancer::new(balance);
            let all: String = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| picks(&picker, &set, 300)))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(
                counts(&all).into_values().collect::<Vec<_>>(),
                expected,
                "{balance:?}"
            );
        }
    }
}

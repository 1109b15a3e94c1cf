mod balances;
mod ejection;
mod keys;
mod retries;
mod schedule;
mod selection;
mod zones;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

fn instance(id: &str, weight: u32) -> Arc<Instance> {
    Arc::new(Instance::new("web", "a:1").id(id).weight(weight))
}

fn put(pool: &mut Pool, instance: Instance) {
    let key = Bytes::from(instance.id.clone());
    pool.update(&key, Some(&Arc::new(instance)));
}

fn remove(pool: &mut Pool, id: &str) {
    pool.update(&Bytes::from(id.to_owned()), None);
}

/// A pool with instances named 0, 1, 2 and so on.
fn filled(settings: BalanceSettings, weights: &[u32]) -> Pool {
    let mut pool = Pool::new(settings, 7);
    for (n, weight) in weights.iter().enumerate() {
        let id = n.to_string();
        pool.update(&Bytes::from(id.clone()), Some(&instance(&id, *weight)));
    }
    pool.updated(Instant::now());
    pool
}

fn balanced(balance: Balance) -> BalanceSettings {
    BalanceSettings {
        balance,
        ..BalanceSettings::default()
    }
}

const BALANCES: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::Random,
    Balance::LeastInFlight,
    Balance::PeakEwma,
    Balance::Rendezvous,
];

fn counted(now: Instant) -> Request<'static> {
    Request {
        now: Some(now),
        is_counted: true,
        ..Request::default()
    }
}

/// The number in the name of an instance.
fn number(instance: &Instance) -> usize {
    instance.id.parse().unwrap()
}

/// The instance with this number.
fn position(pool: &Pool, n: usize) -> Position {
    let slot = pool.slots.of_key(&Bytes::from(n.to_string()));
    pool.slots.position(slot.unwrap())
}

/// Ejects an instance by calls that fail. It is due for a trial after five seconds.
fn eject(pool: &mut Pool, n: usize, now: Instant) {
    let position = position(pool, n);
    for _ in 0..5 {
        pool.ended(position, CallEnd::Failed(ms(0)), now);
    }
    assert!(pool.ejected().iter().any(|one| number(one) == n));
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How often each instance is picked.
fn pick_counts(pool: &mut Pool, instances: usize, picks: usize) -> Vec<usize> {
    let mut counts = vec![0; instances];
    let request = Request {
        now: Some(Instant::now()),
        ..Request::default()
    };
    for _ in 0..picks {
        counts[number(&pool.pick(request).unwrap())] += 1;
    }
    counts
}

#[track_caller]
fn assert_shares(counts: &[usize], weights: &[u32]) {
    let (all, total) = (counts.iter().sum::<usize>(), weights.iter().sum::<u32>());
    for (count, weight) in counts.iter().zip(weights) {
        let expected = all as f64 * f64::from(*weight) / f64::from(total);
        // Six standard deviations.
        let off = (*count as f64 - expected).abs();
        assert!(off <= 6.0 * expected.sqrt(), "{counts:?} by {weights:?}");
    }
}

#[test]
fn pickable_instances_are_counted() {
    let mut pool = Pool::new(BalanceSettings::default(), 1);
    for (weight, pickable) in [(1, 1), (0, 0), (2, 1), (3, 1)] {
        put(
            &mut pool,
            Instance::new("web", "a:1").id("a").weight(weight),
        );
        assert_eq!(pool.len(), pickable);
    }
    put(&mut pool, Instance::new("web", "a:1").id("b"));
    remove(&mut pool, "a");
    remove(&mut pool, "unknown");
    assert_eq!(pool.len(), 1);
}

#[test]
fn only_latencies_and_ejections_need_the_time() {
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &[1, 1, 1]);
        let by_latency = balance == Balance::PeakEwma;
        assert_eq!(pool.needs_clock(), by_latency, "{balance:?}");
        assert!(pool.pick(Request::default()).is_some());
    }
}

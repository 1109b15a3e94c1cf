//! The distribution of each balance against its definition.

use proptest::prelude::*;

use super::*;

const WEIGHTS: [u32; 6] = [1, 2, 3, 1, 0, 5];

#[test]
fn without_calls_in_flight_all_balances_but_round_robin_are_by_weight() {
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &WEIGHTS);
        let counts = pick_counts(&mut pool, 6, 12_000);
        match balance {
            Balance::RoundRobin => assert_eq!(counts, [2400, 2400, 2400, 2400, 0, 2400]),
            Balance::Weighted => assert_eq!(counts, [1000, 2000, 3000, 1000, 0, 5000]),
            _ => assert_shares(&counts, &WEIGHTS),
        }
    }
}

#[test]
fn random_picks_are_independent_of_each_other() {
    let mut pool = filled(balanced(Balance::Random), &[1; 4]);
    let picks: Vec<_> = (0..16_000)
        .map(|_| number(&pool.pick(Request::default()).unwrap()))
        .collect();
    let mut pairs = [0; 16];
    for pair in picks.windows(2) {
        pairs[pair[0] * 4 + pair[1]] += 1;
    }
    assert_shares(&pairs, &[1; 16]);
}

#[test]
fn of_two_instances_the_one_with_fewer_calls_in_flight_for_its_weight_is_picked() {
    let now = Instant::now();
    let mut pool = filled(balanced(Balance::LeastInFlight), &[1, 2]);
    // The second gets two calls for each of the first, and never falls behind by more than one.
    let mut in_flight = [0, 0];
    for _ in 0..300 {
        let (_, instance) = pool.acquire(counted(now)).unwrap();
        in_flight[number(&instance)] += 1;
        let ahead: i32 = in_flight[1] - 2 * in_flight[0];
        assert!(ahead.abs() <= 2, "{in_flight:?}");
    }
}

#[test]
fn two_random_choices_keep_the_loads_close() {
    let now = Instant::now();
    let spread = |balance| {
        let mut pool = filled(balanced(balance), &[1; 100]);
        let mut loads = [0; 100];
        for _ in 0..10_000 {
            let (_, instance) = pool.acquire(counted(now)).unwrap();
            loads[number(&instance)] += 1;
        }
        loads.iter().max().unwrap() - loads.iter().min().unwrap()
    };
    let (random, least) = (spread(Balance::Random), spread(Balance::LeastInFlight));
    assert!(least <= 8 && random > 30, "{least} and {random}");
}

/// Runs calls one after the other, of which each takes the latency of its instance.
fn call_counts(pool: &mut Pool, latencies: &[u64], calls: usize, start: Instant) -> Vec<usize> {
    let (mut counts, mut now) = (vec![0; latencies.len()], start);
    for _ in 0..calls {
        let (position, instance) = pool.acquire(counted(now)).unwrap();
        let took = ms(latencies[number(&instance)]);
        counts[number(&instance)] += 1;
        now += took;
        pool.ended(position, CallEnd::Succeeded(took), now);
    }
    counts
}

#[test]
fn peak_ewma_avoids_a_slow_instance_and_returns_to_it_when_it_is_fast_again() {
    let start = Instant::now();
    let mut pool = filled(balanced(Balance::PeakEwma), &[1; 5]);
    let slow = call_counts(&mut pool, &[200, 10, 10, 10, 10], 2000, start);
    // It has one call at the beginning, and further ones once its average has decayed below that of the others.
    assert!(slow[0] < 40, "{slow:?}");
    let later = start + Duration::from_secs(3600);
    let fast = call_counts(&mut pool, &[10; 5], 2000, later);
    assert!(fast[0] > 250, "{fast:?}");
}

#[test]
fn a_new_instance_gets_one_call_until_its_latency_is_known() {
    let now = Instant::now();
    let mut pool = filled(balanced(Balance::PeakEwma), &[1; 2]);
    call_counts(&mut pool, &[10, 10], 20, now);
    put(&mut pool, Instance::new("web", "a:1").id("2"));
    let new = (0..100).filter(|_| number(&pool.acquire(counted(now)).unwrap().1) == 2);
    assert_eq!(new.count(), 1);
}

#[test]
fn calls_in_flight_end_with_their_instance() {
    let now = Instant::now();
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &[1, 1]);
        let calls: Vec<_> = (0..10)
            .map(|_| pool.acquire(counted(now)).unwrap())
            .collect();
        assert_eq!(pool.calls.total, [10, 0]);
        remove(&mut pool, "0");
        put(&mut pool, Instance::new("web", "a:1").id("2"));
        for (position, _) in &calls {
            pool.ended(*position, CallEnd::Failed(ms(1)), now);
        }
        // Ended again: a position is not a guard, and nothing goes below 0.
        for (position, _) in calls {
            pool.ended(position, CallEnd::Dropped, now);
        }
        assert_eq!(pool.calls.total, [0, 0], "{balance:?}");
        assert!(pool.calls.in_flight.iter().all(|calls| *calls == 0));
    }
}

#[test]
fn full_counters_are_not_an_error() {
    let now = Instant::now();
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &[u32::MAX; 3]);
        pool.acquire(counted(now)).unwrap();
        pool.calls.in_flight = vec![u32::MAX; 3];
        pool.calls.total = [u64::MAX, 0];
        for key in 0..100 {
            let key = Some(key << 50);
            let request = Request {
                key,
                ..counted(now)
            };
            let (position, _) = pool.acquire(request).unwrap();
            pool.calls.total = [u64::MAX, 0];
            pool.calls.in_flight = vec![u32::MAX; 3];
            assert!(pool.slots.is_current(position));
        }
        pool.slots.get_mut(0).unwrap().generation = u32::MAX;
        remove(&mut pool, "0");
        put(&mut pool, Instance::new("web", "a:1").id("0"));
        assert_eq!(pool.len(), 3);
    }
}

#[test]
fn an_instance_without_guards_costs_no_state_of_calls() {
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &[1; 100]);
        pick_counts(&mut pool, 100, 1000);
        assert_eq!(pool.calls.in_flight.capacity(), 0);
        assert_eq!(pool.calls.latencies.capacity(), 0);
        pool.acquire(counted(Instant::now())).unwrap();
        let latencies = pool.calls.latencies.len();
        let expected = if balance == Balance::PeakEwma { 100 } else { 0 };
        assert_eq!((latencies, pool.calls.in_flight.len()), (expected, 100));
    }
}

proptest! {
    /// Whatever joins, leaves and is called: a pick is an instance that is there, and one that was not tried while
    /// there is one.
    #[test]
    fn a_call_never_meets_the_same_instance_twice_while_others_exist(
        balance in 0usize..6,
        key in any::<Option<u64>>(),
        changes in proptest::collection::vec((0usize..8, 0u32..4), 1..30),
        failures in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let mut now = Instant::now();
        let mut pool = filled(balanced(BALANCES[balance]), &[]);
        let mut present = std::collections::BTreeSet::new();
        for ((n, weight), failed) in changes.into_iter().zip(failures) {
            put(&mut pool, Instance::new("web", "a:1").id(n.to_string()).weight(weight));
            pool.updated(now);
            if weight > 0 { present.insert(n) } else { present.remove(&n) };
            let mut tried = Vec::new();
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..present.len() {
                let request = Request { key, tried: &tried, ..counted(now) };
                let (position, instance) = pool.acquire(request).unwrap();
                prop_assert!(present.contains(&number(&instance)));
                prop_assert!(seen.insert(number(&instance)), "{} twice", instance.id);
                tried.push(position);
            }
            let request = Request { key, tried: &tried, ..counted(now) };
            let again = pool.acquire(request);
            prop_assert_eq!(again.is_some(), !present.is_empty());
            tried.extend(again.map(|(position, _)| position));
            now += ms(100);
            for position in tried {
                let end = if failed { CallEnd::Failed(ms(1)) } else { CallEnd::Succeeded(ms(1)) };
                pool.ended(position, end, now);
            }
            prop_assert_eq!(pool.calls.total, [0, 0]);
        }
    }
}

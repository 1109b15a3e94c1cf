//! Ejection: simulated services whose instances fail.

use proptest::prelude::*;

use super::*;

/// A service with a clock, whose instances fail with given probabilities.
struct Service {
    pool: Pool,
    now: Instant,
    failing: Vec<f64>,
    random: Jitter,
    counts: Vec<usize>,
}

impl Service {
    fn new(balance: Balance, failing: &[f64], seed: u64) -> Self {
        Service {
            pool: filled(balanced(balance), &vec![1; failing.len()]),
            now: Instant::now(),
            failing: failing.to_vec(),
            random: Jitter::seeded(seed),
            counts: vec![0; failing.len()],
        }
    }

    /// One call, with a key that differs each time; the next one begins `wait` later.
    fn call(&mut self, wait: Duration) -> (usize, bool) {
        let key = Some((self.random.fraction() * 1e18) as u64);
        let request = Request {
            key,
            ..counted(self.now)
        };
        let (position, instance) = self.pool.acquire(request).unwrap();
        let n = number(&instance);
        let failed = self.random.fraction() < self.failing[n];
        self.counts[n] += 1;
        self.now += wait;
        let took = wait.min(ms(1));
        let end = if failed {
            CallEnd::Failed(took)
        } else {
            CallEnd::Succeeded(took)
        };
        self.pool.ended(position, end, self.now);
        (n, failed)
    }

    fn calls(&mut self, calls: usize, wait: Duration) -> Vec<usize> {
        self.counts.fill(0);
        for _ in 0..calls {
            self.call(wait);
        }
        self.counts.clone()
    }

    /// How many calls instance 0 gets until it is ejected, at most 1000.
    fn calls_until_ejected(&mut self) -> usize {
        while self.pool.ejected().is_empty() && self.counts[0] < 1000 {
            self.call(ms(10));
        }
        self.counts[0]
    }
}

fn one_of_ten(failing: f64) -> Vec<f64> {
    let mut all = vec![0.0; 10];
    all[0] = failing;
    all
}

#[test]
fn an_instance_that_fails_half_of_its_calls_is_ejected_within_20_and_gets_under_2_percent() {
    for balance in BALANCES {
        let mut late = 0;
        for seed in 0..20 {
            let mut service = Service::new(balance, &one_of_ten(0.5), seed);
            // By chance it fails under 30 % of them once in a hundred times.
            late += usize::from(service.calls_until_ejected() > 20);
            assert_eq!(number(&service.pool.ejected()[0]), 0);
            // Ten seconds with 100 calls each.
            let counts = service.calls(1_000, ms(10));
            assert!(counts[0] < 20, "{balance:?}, {seed}: {counts:?}");
            // Five minutes: it is tried again, and does not come back.
            let counts = service.calls(6_000, ms(50));
            let (share, most) = (counts[0], 6_000 * 2 / 100);
            assert!(0 < share && share < most, "{balance:?}, {seed}: {counts:?}");
        }
        assert!(late <= 1, "{balance:?}: {late} of 20");
    }
}

#[test]
fn nearly_all_instances_that_fail_half_of_their_calls_are_ejected_within_20() {
    let late = (0..2000).filter(|seed| {
        let mut service = Service::new(Balance::Weighted, &one_of_ten(0.5), 1000 + seed);
        service.calls_until_ejected() > 20
    });
    // Six failures of twenty, or three of the first ten, are missed by few.
    assert!(late.count() < 40);
}

#[test]
fn a_dead_instance_is_ejected_after_five_calls() {
    for balance in BALANCES {
        let mut service = Service::new(balance, &one_of_ten(1.0), 3);
        let until = service.calls_until_ejected();
        assert!(until <= 5, "{balance:?}: {until}");
    }
}

#[test]
fn with_all_failing_all_are_used() {
    for balance in BALANCES {
        for failing in [0.5, 1.0] {
            let mut service = Service::new(balance, &one_of_ten(0.5), 5);
            service.calls_until_ejected();
            service.failing.fill(failing);
            // The others must have failed for a while before this is known.
            service.calls(300, ms(10));
            let counts = service.calls(2_000, ms(10));
            let least = counts.iter().min().unwrap();
            assert!(*least >= 40, "{balance:?}, {failing}: {counts:?}");
        }
    }
}

#[test]
fn an_instance_that_recovers_is_used_as_before() {
    for balance in BALANCES {
        let mut service = Service::new(balance, &one_of_ten(1.0), 7);
        service.calls_until_ejected();
        service.failing.fill(0.0);
        // At most five seconds, and then five calls.
        service.calls(700, ms(10));
        assert!(service.pool.ejected().is_empty(), "{balance:?}");
        let counts = service.calls(5_000, ms(10));
        assert!(counts[0] > 300, "{balance:?}: {counts:?}");
    }
}

#[test]
fn an_ejected_instance_gets_one_call_at_a_time() {
    for balance in BALANCES {
        let mut service = Service::new(balance, &one_of_ten(1.0), 9);
        service.calls_until_ejected();
        service.now += Duration::from_secs(5);
        let open: Vec<_> = (0..200)
            .map(|n| {
                let key = Some(stable_hash(&[n]));
                let request = Request {
                    key,
                    ..counted(service.now)
                };
                service.pool.acquire(request).unwrap()
            })
            .filter(|(_, instance)| number(instance) == 0)
            .collect();
        assert_eq!(open.len(), 1, "{balance:?}");
        // A call without an outcome permits the next one.
        service.pool.ended(open[0].0, CallEnd::Dropped, service.now);
        let counts = service.calls(50, ms(0));
        assert_eq!(counts[0], 1, "{balance:?}: it failed again");
    }
}

#[test]
fn picks_without_guards_avoid_it_and_its_trial_ends_without_calls() {
    for balance in BALANCES {
        let mut service = Service::new(balance, &one_of_ten(1.0), 11);
        service.calls_until_ejected();
        let mut now = service.now;
        let mut count = |seconds| {
            now += Duration::from_secs(seconds);
            let request = Request {
                now: Some(now),
                ..Request::default()
            };
            (0..1000)
                .filter(|_| number(&service.pool.pick(request).unwrap()) == 0)
                .count()
        };
        assert_eq!(count(0), 0);
        // The ejection is over, and nobody says how a call ends.
        assert_eq!(count(5), 0);
        // With PeakEwma its last call makes it the most expensive one.
        assert!(count(6) > 50 || balance == Balance::PeakEwma, "{balance:?}");
        assert!(service.pool.ejected().is_empty());
    }
}

#[test]
fn an_instance_that_was_started_again_is_used_at_once() {
    let mut service = Service::new(Balance::Weighted, &one_of_ten(1.0), 13);
    let start = |incarnation| {
        let mut instance = Instance::new("web", "a:1").id("0");
        instance.incarnation = incarnation;
        instance
    };
    put(&mut service.pool, start(1));
    service.calls_until_ejected();
    put(&mut service.pool, start(1).meta("load", "7"));
    assert_eq!(service.pool.ejected().len(), 1);
    put(&mut service.pool, start(2));
    assert!(service.pool.ejected().is_empty());
    assert!(pick_counts(&mut service.pool, 10, 100)[0] == 10);
}

#[test]
fn nothing_is_ejected_when_that_is_off_or_the_service_has_one_instance() {
    let off = BalanceSettings {
        ejection: super::super::super::ejection::Ejection::off(),
        ..BalanceSettings::default()
    };
    let mut service = Service::new(Balance::Weighted, &one_of_ten(1.0), 15);
    service.pool = filled(off, &[1; 10]);
    assert_eq!(service.calls(1000, ms(1))[0], 100);
    let mut service = Service::new(Balance::Weighted, &[1.0], 15);
    assert_eq!(service.calls(1000, ms(1))[0], 1000);
}

#[test]
fn failures_that_all_instances_share_eject_none() {
    // Such as requests that are refused by whoever gets them.
    for seed in 0..20 {
        let mut service = Service::new(Balance::Weighted, &[0.4; 10], seed);
        service.calls(200, ms(10));
        let counts = service.calls(5_000, ms(10));
        assert!(counts.iter().all(|count| *count > 250), "{counts:?}");
    }
}

proptest! {
    /// Whatever happens, at most half is ejected, and an instance that is there is picked.
    #[test]
    fn at_most_half_of_a_service_is_ejected(
        balance in 0usize..6,
        failing in proptest::collection::vec(0.0..1.0, 1..12),
        steps in proptest::collection::vec((0usize..12, 0u8..4, 0u64..4000), 1..80),
        seed in any::<u64>(),
    ) {
        let mut service = Service::new(BALANCES[balance], &failing, seed);
        let mut present: std::collections::BTreeSet<_> = (0..failing.len()).collect();
        for (n, action, wait) in steps {
            let n = n % failing.len();
            match action {
                0 if present.len() > 1 => {
                    remove(&mut service.pool, &n.to_string());
                    present.remove(&n);
                }
                1 => {
                    put(&mut service.pool, Instance::new("web", "a:1").id(n.to_string()));
                    present.insert(n);
                }
                2 => service.failing[n] = 1.0 - service.failing[n],
                _ => {}
            }
            service.pool.updated(service.now);
            for _ in 0..20 {
                let out = service.pool.ejected().len();
                prop_assert!(out <= present.len() / 2, "{out} of {}", present.len());
                let (n, _) = service.call(ms(wait));
                prop_assert!(present.contains(&n));
            }
            // What is in use is what is picked.
            let used = service.pool.slots.slots().iter().filter(|slot| slot.used_weight > 0);
            prop_assert_eq!(used.count(), present.len() - service.pool.ejected().len());
        }
    }
}

#[test]
fn a_pool_without_a_limit_of_failures_ejects_none() {
    use crate::discovery::balance::ejection::Ejection;

    let off = Ejection::default()
        .consecutive_failures(0)
        .failure_percent(0);
    assert!(off.is_off());
    assert!(!off.consecutive_failures(5).is_off() && !off.failure_percent(50).is_off());
    assert!(!Ejection::default().is_off());
}

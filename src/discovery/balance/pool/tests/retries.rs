//! The instance of a call that was sent to others before.

use super::*;

const WEIGHTS: [u32; 6] = [1, 2, 3, 1, 0, 5];

#[test]
fn a_retry_is_by_weight_among_the_others() {
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &WEIGHTS);
        let tried = [position(&pool, 1)];
        let mut counts = vec![0; WEIGHTS.len()];
        for key in 0..9_000u64 {
            let request = Request {
                key: Some(stable_hash(&key.to_le_bytes())),
                tried: &tried,
                now: Some(Instant::now()),
                is_counted: false,
            };
            counts[number(&pool.pick(request).unwrap())] += 1;
        }
        match balance {
            Balance::RoundRobin => assert_shares(&counts, &[1, 0, 1, 1, 0, 1]),
            _ => assert_shares(&counts, &[1, 0, 3, 1, 0, 5]),
        }
    }
}

#[test]
fn when_all_were_tried_it_is_any_but_the_last_one() {
    for balance in BALANCES {
        let mut pool = filled(balanced(balance), &[1, 1000, 1]);
        for last in 0..3 {
            let order = [(last + 1) % 3, (last + 2) % 3, last];
            let tried = order.map(|n| position(&pool, n));
            for key in 0..50 {
                let request = Request {
                    key: Some(stable_hash(&[key])),
                    tried: &tried,
                    ..counted(Instant::now())
                };
                let (position, _) = pool.acquire(request).unwrap();
                assert_ne!(position, tried[2], "{balance:?}");
                pool.ended(position, CallEnd::Dropped, Instant::now());
            }
        }
    }
}

/// The draws by weight find nothing but an instance that was tried.
#[test]
fn a_retry_after_a_heavy_instance_is_spread_among_the_usable_ones_of_its_zone() {
    for balance in BALANCES {
        let now = Instant::now();
        let settings = BalanceSettings {
            zone: Some("a".to_owned()),
            ..balanced(balance)
        };
        let mut pool = Pool::new(settings, 3);
        // Of two in another zone, one has a lower and one a higher number than those in the own zone.
        for (n, zone, weight) in [
            (0, "b", 1),
            (1, "a", 1),
            (2, "a", 1),
            (3, "a", 1_000_000),
            (4, "a", 1),
            (5, "a", 1),
            (6, "b", 1),
        ] {
            let instance = Instance::new("web", "a:1").id(n.to_string());
            put(&mut pool, instance.zone(zone).weight(weight));
        }
        pool.updated(now);
        eject(&mut pool, 1, now);
        eject(&mut pool, 4, now);
        let tried = [position(&pool, 3)];
        let mut counts = [0; 7];
        for key in 0..600u64 {
            let request = Request {
                key: Some(stable_hash(&key.to_le_bytes())),
                tried: &tried,
                now: Some(now),
                is_counted: false,
            };
            counts[number(&pool.pick(request).unwrap())] += 1;
        }
        assert_eq!(counts[2] + counts[5], 600, "{balance:?}: {counts:?}");
        // A key has the next one of the list.
        let least = if balance == Balance::Rendezvous {
            0
        } else {
            60
        };
        assert!(counts[2].min(counts[5]) >= least, "{balance:?}: {counts:?}");
    }
}

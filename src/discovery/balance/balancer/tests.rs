use super::super::balance::Balance;
use super::*;

#[test]
fn all_threads_pick_from_one_sequence() {
    let edits = [("a", 2), ("b", 1), ("c", 1)].map(|(id, weight)| {
        let instance = Instance::new("web", "a:1").id(id).weight(weight);
        (id.into(), Some(Arc::new(instance)))
    });
    for (balance, expected) in [
        (Balance::RoundRobin, [400, 400, 400]),
        (Balance::Weighted, [600, 300, 300]),
    ] {
        let balancer = Balancer::new(BalanceSettings {
            balance,
            ..BalanceSettings::default()
        });
        balancer.update(&edits);
        let all: String = std::thread::scope(|scope| {
            let id = |_| balancer.pick(None).unwrap().id.clone();
            let threads = [(); 4].map(|()| scope.spawn(move || (0..300).map(id).collect()));
            let picked: [String; 4] = threads.map(|thread| thread.join().unwrap());
            picked.concat()
        });
        let counts = ['a', 'b', 'c'].map(|id| all.matches(id).count());
        assert_eq!(counts, expected, "{balance:?}");
    }
}

#[test]
fn threads_call_and_instances_change_at_the_same_time() {
    for balance in [
        Balance::Weighted,
        Balance::LeastInFlight,
        Balance::PeakEwma,
        Balance::Rendezvous,
    ] {
        let balancer = Balancer::new(BalanceSettings {
            balance,
            ..BalanceSettings::default()
        });
        let edit = |n: usize, weight| {
            let instance = Instance::new("web", "a:1").id(n.to_string()).weight(weight);
            (n.to_string().into(), Some(Arc::new(instance)))
        };
        // Those below 10 stay, so there is always one to call.
        balancer.update(&(0..200).map(|n| edit(n, 1)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let balancer = &balancer;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for n in 0..500usize {
                        let key = [n as u8, thread as u8];
                        let call = balancer.acquire(Some(&key)).expect("some are there");
                        match (n + thread) % 4 {
                            0 => call.failed(),
                            1 => call.succeeded(),
                            2 => drop(call),
                            _ => kept.push(call),
                        }
                    }
                });
            }
            scope.spawn(|| {
                for n in 0..2000 {
                    balancer.update(&[edit(10 + n * 7 % 190, n as u32 % 3)]);
                }
            });
        });
        // All calls have ended, those to instances that left in between, too.
        assert_eq!(balancer.pool.lock().in_flight(), 0, "{balance:?}");
        assert!(balancer.ejected().len() <= balancer.pickable() / 2);
    }
}

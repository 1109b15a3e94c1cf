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

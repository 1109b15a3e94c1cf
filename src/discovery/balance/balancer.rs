//! Picks the instance of a view that gets the next call, for any number of threads.

use std::sync::Arc;

use parking_lot::Mutex;

use super::balance::Balance;
use super::pick_schedule::PickSchedule;
use crate::discovery::instance::Instance;
use crate::discovery::resolve::instance_list::InstanceEdit;

/// The balancer of one view, shared by all threads that pick from it.
#[derive(Debug)]
pub(crate) struct Balancer(Mutex<PickSchedule>);

impl Balancer {
    pub(crate) fn new(balance: Balance) -> Self {
        Balancer(Mutex::new(PickSchedule::new(balance)))
    }

    pub(crate) fn update(&self, edits: &[InstanceEdit]) {
        // The lock is released in between: a list of 100,000 instances must not delay a pick.
        for edits in edits.chunks(64) {
            let mut schedule = self.0.lock();
            for (key, instance) in edits {
                schedule.update(key, instance.as_ref());
            }
        }
    }

    /// The next instance, or `None` when none accepts calls.
    pub(crate) fn pick(&self) -> Option<Arc<Instance>> {
        self.0.lock().pick()
    }
}

#[cfg(test)]
mod tests {
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
            let balancer = Balancer::new(balance);
            balancer.update(&edits);
            let all: String = std::thread::scope(|scope| {
                let id = |_| balancer.pick().unwrap().id.clone();
                let threads = [(); 4].map(|()| scope.spawn(move || (0..300).map(id).collect()));
                let picked: [String; 4] = threads.map(|thread| thread.join().unwrap());
                picked.concat()
            });
            let counts = ['a', 'b', 'c'].map(|id| all.matches(id).count());
            assert_eq!(counts, expected, "{balance:?}");
        }
    }
}

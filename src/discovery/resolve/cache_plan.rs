//! When a view writes its cache file. Pure.

use std::time::{Duration, Instant};

use super::cache_report::CacheResult;
use crate::util::backoff::Backoff;

/// The shortest time between two writes of one file.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two writes while the view is live, so that the age of the file is the time since
/// the view was live, and not since the service changed.
const REFRESH: Duration = Duration::from_secs(300);

/// The longest wait after a failed write: a disk stays full for a long time.
const RETRY: Backoff = Backoff::new(PAUSE, REFRESH);

/// The next write of a file.
#[derive(Debug)]
pub(super) struct CachePlan {
    is_dirty: bool,
    written: Option<Instant>,
    /// The time before which a failed write is not repeated.
    retry: Option<Instant>,
    backoff: Backoff,
}

impl Default for CachePlan {
    fn default() -> Self {
        CachePlan {
            is_dirty: false,
            written: None,
            retry: None,
            backoff: RETRY,
        }
    }
}

impl CachePlan {
    /// Records that the instances changed.
    pub(super) fn changed(&mut self) {
        self.is_dirty = true;
    }

    /// Whether the file is to be written now. `is_true` means that the list is complete and as etcd has it.
    pub(super) fn write(&mut self, is_true: bool, now: Instant) -> bool {
        if !is_true || self.due().is_some_and(|due| now < due) {
            return false;
        }
        self.is_dirty = false;
        self.written = Some(now);
        self.retry = None;
        true
    }

    /// Records how a write ended. One that failed is repeated after a wait, even if nothing changes; `random`
    /// is in 0..1.
    pub(super) fn ended(&mut self, result: CacheResult, now: Instant, random: f64) {
        match result {
            CacheResult::Failed => {
                self.is_dirty = true;
                self.retry = Some(now + self.backoff.next(random));
            }
            CacheResult::Recovered => {
                self.retry = None;
                self.backoff.reset();
            }
        }
    }

    /// The time of the next write; `None` for the first one, which is written at once.
    fn due(&self) -> Option<Instant> {
        let pause = if self.is_dirty { PAUSE } else { REFRESH };
        let due = self.written.map(|at| at + pause);
        due.max(self.retry)
    }

    /// The time at which the view has to decide again. A write that is due and waits for a true list needs no
    /// time: the list becomes true by an event.
    pub(super) fn next_work(&self, now: Instant) -> Option<Instant> {
        self.due().filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use CacheResult::{Failed, Recovered};

    #[test]
    fn a_file_is_written_once_a_second_and_only_when_the_list_is_true() {
        let (mut plan, now) = (CachePlan::default(), Instant::now());
        assert!(!plan.write(false, now));
        assert!(plan.write(true, now), "the first list");
        assert!(!plan.write(true, now + PAUSE), "nothing changed");
        plan.changed();
        plan.changed();
        assert_eq!(plan.next_work(now), Some(now + PAUSE));
        assert_eq!(
            plan.next_work(now + PAUSE),
            None,
            "it waits for a true list"
        );
        assert!(!plan.write(true, now + PAUSE / 2));
        assert!(!plan.write(false, now + PAUSE));
        assert!(plan.write(true, now + PAUSE * 2));
        assert!(!plan.write(true, now + PAUSE * 4), "written once");
        assert!(plan.write(true, now + PAUSE * 2 + REFRESH), "its age");
    }

    #[test]
    fn a_failed_write_is_repeated_after_a_wait_that_doubles_up_to_5_minutes() {
        let (mut plan, mut now) = (CachePlan::default(), Instant::now());
        assert!(plan.write(true, now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            // The longest and the shortest wait; the shortest time between two writes holds anyway.
            let mut early = CachePlan {
                backoff: plan.backoff.clone(),
                ..CachePlan::default()
            };
            assert!(early.write(true, now));
            early.ended(Failed, now, 0.0);
            assert_eq!(early.next_work(now), Some(now + PAUSE));

            plan.ended(Failed, now, 1.0);
            // A change does not make it earlier.
            plan.changed();
            let due = now + Duration::from_secs(seconds);
            assert_eq!(plan.next_work(now), Some(due), "{seconds}");
            assert!(!plan.write(true, due - Duration::from_millis(1)));
            assert!(plan.write(true, due));
            now = due;
        }
        plan.ended(Recovered, now, 1.0);
        assert_eq!(plan.next_work(now), Some(now + REFRESH), "it is written");
        plan.ended(Failed, now, 1.0);
        assert_eq!(plan.next_work(now), Some(now + PAUSE), "a new series");
    }

    #[test]
    fn a_directory_that_cannot_be_created_delays_the_first_write() {
        let (mut plan, now) = (CachePlan::default(), Instant::now());
        plan.ended(Failed, now, 1.0);
        assert!(!plan.write(true, now));
        assert_eq!(plan.next_work(now), Some(now + PAUSE));
        assert!(plan.write(true, now + PAUSE));
    }

    /// What happens to a view, to the thread that writes, and to the clock.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Change,
        /// The list becomes true, or stops to be.
        Truth(bool),
        /// The thread takes the next file.
        Begin,
        /// The thread ends its write.
        End {
            succeeds: bool,
        },
        /// The view runs although nothing is due, such as for another source.
        Wake,
        Sleep(u64),
    }

    /// A view with its plan, the queue of one file, and the thread that writes it. The view runs only when
    /// something wakes it, or at the time that it named.
    struct Model {
        plan: CachePlan,
        now: Instant,
        due: Option<Instant>,
        list: u32,
        is_true: bool,
        queued: Option<u32>,
        writing: Option<u32>,
        file: Option<u32>,
        is_failing: bool,
        writes: Vec<Instant>,
    }

    impl Model {
        fn work(&mut self, result: Option<CacheResult>, is_changed: bool) {
            if let Some(result) = result {
                self.plan.ended(result, self.now, 0.5);
            }
            if is_changed {
                self.plan.changed();
            }
            if self.plan.write(self.is_true, self.now) {
                // The newest contents replace those that wait.
                self.queued = Some(self.list);
                self.writes.push(self.now);
            }
            self.due = self.plan.next_work(self.now);
        }

        fn end(&mut self, succeeds: bool) {
            let Some(written) = self.writing.take() else {
                return;
            };
            if succeeds {
                self.file = Some(written);
            }
            let was_failing = std::mem::replace(&mut self.is_failing, !succeeds);
            match (succeeds, was_failing) {
                (true, false) => {}
                (true, true) => self.work(Some(Recovered), false),
                (false, _) => self.work(Some(Failed), false),
            }
        }

        fn sleep(&mut self, time: Duration) {
            let until = self.now + time;
            while let Some(due) = self.due.filter(|due| *due <= until) {
                self.now = due;
                self.work(None, false);
            }
            self.now = until;
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Change => {
                    self.list += 1;
                    self.work(None, true);
                }
                Step::Truth(is_true) => {
                    self.is_true = is_true;
                    self.work(None, false);
                }
                Step::Begin if self.writing.is_none() => self.writing = self.queued.take(),
                Step::Begin => {}
                Step::End { succeeds } => self.end(succeeds),
                Step::Wake => self.work(None, false),
                Step::Sleep(millis) => self.sleep(Duration::from_millis(millis)),
            }
        }
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Change),
            1 => any::<bool>().prop_map(Step::Truth),
            3 => Just(Step::Begin),
            3 => any::<bool>().prop_map(|succeeds| Step::End { succeeds }),
            1 => Just(Step::Wake),
            3 => (0u64..2500).prop_map(Step::Sleep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_newest_true_list_is_in_the_file_in_the_end(
            steps in prop::collection::vec(any_step(), 0..60),
        ) {
            let now = Instant::now();
            let mut model = Model {
                plan: CachePlan::default(),
                now,
                due: None,
                list: 0,
                is_true: true,
                queued: None,
                writing: None,
                file: None,
                is_failing: false,
                writes: Vec::new(),
            };
            model.work(None, true);
            for step in steps {
                model.step(step);
            }
            // The disk is well again, and the list is true. Nothing else changes.
            model.step(Step::Truth(true));
            // The longest wait after a failure is shorter than the time between two writes without a change.
            let late = model.now + REFRESH.mul_f64(0.5) + PAUSE * 2;
            while model.file != Some(model.list) {
                prop_assert!(model.now <= late, "the last change is lost");
                model.step(Step::End { succeeds: true });
                model.step(Step::Begin);
                model.step(Step::End { succeeds: true });
                model.step(Step::Sleep(500));
            }
            for pair in model.writes.windows(2) {
                prop_assert!(pair[1] - pair[0] >= PAUSE, "{:?}", model.writes);
            }
        }
    }
}

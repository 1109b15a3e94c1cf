//! When a view writes its cache file. Pure.

use std::time::{Duration, Instant};

/// The shortest time between two writes of one file.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two writes while the view is live, so that the age of the file is the time since
/// the view was live, and not since the service changed.
const REFRESH: Duration = Duration::from_secs(300);

/// The next write of a file.
#[derive(Debug, Default)]
pub(super) struct CachePlan {
    is_dirty: bool,
    written: Option<Instant>,
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
        true
    }

    /// The time of the next write; `None` for the first one, which is written at once.
    pub(super) fn due(&self) -> Option<Instant> {
        let pause = if self.is_dirty { PAUSE } else { REFRESH };
        self.written.map(|at| at + pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_a_second_and_only_when_the_list_is_true() {
        let (mut plan, now) = (CachePlan::default(), Instant::now());
        assert!(!plan.write(false, now));
        assert!(plan.write(true, now), "the first list");
        assert!(!plan.write(true, now + PAUSE), "nothing changed");
        plan.changed();
        plan.changed();
        assert_eq!(plan.due(), Some(now + PAUSE));
        assert!(!plan.write(true, now + PAUSE / 2));
        assert!(!plan.write(false, now + PAUSE));
        assert!(plan.write(true, now + PAUSE * 2));
        assert!(!plan.write(true, now + PAUSE * 4), "written once");
        assert!(plan.write(true, now + PAUSE * 2 + REFRESH), "its age");
    }
}

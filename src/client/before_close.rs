//! Hooks that run when a client is closed, before its connections close.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time limit for all hooks together.
const WITHIN: Duration = Duration::from_secs(1);

/// An action that needs a working client, such as the removal of keys from etcd.
pub(crate) trait BeforeClose: Send + Sync {
    /// Starts the action without blocking. The closure that it returns waits for the end of the action, at
    /// most until the deadline.
    fn begin(&self) -> Box<dyn FnOnce(Instant)>;
}

/// The hooks of a client. A hook is removed when its owner drops it.
#[derive(Default)]
pub(super) struct BeforeCloses(Mutex<Vec<Weak<dyn BeforeClose>>>);

impl BeforeCloses {
    pub(super) fn add(&self, hook: &Arc<dyn BeforeClose>) {
        let mut hooks = self.0.lock();
        // Dropped hooks are removed when the list would grow, so that the cost of adding does not depend on the count.
        if hooks.len() == hooks.capacity() {
            hooks.retain(|hook| hook.strong_count() > 0);
        }
        hooks.push(Arc::downgrade(hook));
    }

    /// Runs all hooks at the same time.
    pub(super) fn run(&self) {
        let deadline = Instant::now() + WITHIN;
        // The lock is not held while hooks run: they may add or drop hooks.
        let hooks: Vec<Arc<dyn BeforeClose>> =
            self.0.lock().iter().filter_map(Weak::upgrade).collect();
        // All hooks begin before the first wait, so that the second is shared and not divided.
        let begun: Vec<_> = hooks.iter().map(|hook| hook.begin()).collect();
        for wait in begun {
            wait(deadline);
        }
    }
}

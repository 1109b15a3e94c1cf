//! Hooks that run when a client is closed, before its connections close.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Client;

/// The time limit for all hooks together.
const WITHIN: Duration = Duration::from_secs(1);

/// Something that has to be done while calls still get through, such as taking keys out of etcd.
pub(crate) trait BeforeClose: Send + Sync {
    /// Begins it, without blocking. What it returns waits for its end, at most until the deadline.
    fn begin(&self) -> Box<dyn FnOnce(Instant)>;
}

/// All that is to be done, for as long as somebody else has it.
#[derive(Default)]
pub(super) struct BeforeCloses(Mutex<Vec<Weak<dyn BeforeClose>>>);

impl BeforeCloses {
    fn add(&self, hook: &Arc<dyn BeforeClose>) {
        let mut hooks = self.0.lock();
        // Looked through when it would grow anyway, so that adding costs the same however many.
        if hooks.len() == hooks.capacity() {
            hooks.retain(|hook| hook.strong_count() > 0);
        }
        hooks.push(Arc::downgrade(hook));
    }

    /// Does all of it, at the same time.
    pub(super) fn run(&self) {
        let deadline = Instant::now() + WITHIN;
        let hooks: Vec<Arc<dyn BeforeClose>> =
            self.0.lock().iter().filter_map(Weak::upgrade).collect();
        let begun: Vec<_> = hooks.iter().map(|hook| hook.begin()).collect();
        for wait in begun {
            wait(deadline);
        }
    }
}

impl Client {
    /// Has this done by [`close`](Client::close), on this client or any clone or view of it.
    pub(crate) fn before_close(&self, hook: &Arc<dyn BeforeClose>) {
        self.core.before_closes.add(hook);
    }
}

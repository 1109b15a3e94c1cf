//! Freeing large contents on the runtime, in steps between which its other tasks run.

use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::key_tree::Remains;

/// Frees a tree that a task of the runtime no longer needs.
pub(super) fn free_later(mut remains: Remains) {
    if !remains.free() {
        return;
    }
    // Without a runtime, or while it ends, no other task waits for the rest.
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(async move {
            while remains.free() {
                yield_now().await;
            }
        }));
    }
}

//! A blocking call that a signal can interrupt.

use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded, select};

/// Runs a blocking call on a thread of its own, and waits for its result or for a signal. Returns `None`
/// after a signal.
pub(crate) fn unless_stopped<T: Send + 'static>(
    stop: &Receiver<()>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, answer) = bounded(1);
    thread::spawn(move || sender.send(call()));
    select! {
        recv(answer) -> answer => answer.ok(),
        recv(stop) -> _ => None,
    }
}

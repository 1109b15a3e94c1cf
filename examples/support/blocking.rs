//! A call that blocks, in a program that hears signals.

use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded, select};

/// Makes a call that blocks, on a thread of its own, so that a signal is heard meanwhile; `None`
/// when there was one.
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

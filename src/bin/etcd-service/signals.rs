//! Signals as a channel.

use std::io;
use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Returns a channel that receives each SIGINT, SIGTERM and SIGHUP of the process from now on. More than 64 unread
/// signals are dropped.
pub(crate) fn signals() -> Result<Receiver<i32>, Failure> {
    receive(&[SIGINT, SIGTERM, SIGHUP])
}

/// Returns a channel that receives these signals of the process from now on.
pub(crate) fn receive(which: &[i32]) -> Result<Receiver<i32>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("receive signals: {error}"));
    let mut signals = Signals::new(which).map_err(failed)?;
    let (sender, receiver) = bounded(64);
    let forward = move || {
        for signal in signals.forever() {
            let _ = sender.try_send(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(forward).map_err(failed)?;
    Ok(receiver)
}

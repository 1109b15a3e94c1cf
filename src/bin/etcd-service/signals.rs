//! Signals as a channel.

use std::io;
use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Returns a channel that receives each SIGINT, SIGTERM and SIGHUP of the process from now on.
///
/// If a verb is stuck, such as in a write to a disk that hangs, the user can still end it: a SIGINT or SIGTERM that
/// comes while an earlier one is unread ends the program at once, with 128 and the number of the signal.
pub(crate) fn signals() -> Result<Receiver<i32>, Failure> {
    let mut earlier = EarlierEnd::default();
    start(&[SIGINT, SIGTERM, SIGHUP], move |signal, unread| {
        if earlier.is_unread(signal, unread) {
            std::process::exit(128 + signal);
        }
    })
}

/// Tells whether the program has not read an earlier SIGINT or SIGTERM yet. Pure.
#[derive(Debug, Default)]
struct EarlierEnd {
    /// The number of signals since the last one of these, and itself; 0 if there was none.
    since: usize,
}

impl EarlierEnd {
    /// Takes the next signal, and the number of signals that are unread before it. Returns whether it is the second that
    /// is to end the program while the first waits.
    fn is_unread(&mut self, signal: i32, unread: usize) -> bool {
        let is_end = [SIGINT, SIGTERM].contains(&signal);
        let waits = self.since > 0 && self.since <= unread;
        self.since = match (is_end, self.since) {
            (true, _) => 1,
            (false, 0) => 0,
            (false, since) => since + 1,
        };
        is_end && waits
    }
}

/// Returns a channel that receives these signals of the process from now on.
pub(crate) fn receive(which: &[i32]) -> Result<Receiver<i32>, Failure> {
    start(which, |_, _| {})
}

/// Starts the thread that forwards signals. It calls `look` before, with the number of signals that are unread. More
/// than 64 unread signals are dropped.
fn start(
    which: &[i32],
    mut look: impl FnMut(i32, usize) + Send + 'static,
) -> Result<Receiver<i32>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("receive signals: {error}"));
    let mut signals = Signals::new(which).map_err(failed)?;
    let (sender, receiver) = bounded(64);
    let forward = move || {
        for signal in signals.forever() {
            look(signal, sender.len());
            let _ = sender.try_send(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(forward).map_err(failed)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_is_unread_lets_the_next_one_end_at_once() {
        let mut earlier = EarlierEnd::default();
        for (signal, unread, expected) in [
            (SIGHUP, 0, false),
            // The one that waits reads a file again.
            (SIGTERM, 1, false),
            // It was read.
            (SIGINT, 0, false),
            (SIGHUP, 1, false),
            (SIGTERM, 2, true),
            (SIGHUP, 1, false),
            // Only the SIGHUP waits.
            (SIGINT, 1, false),
        ] {
            assert_eq!(
                earlier.is_unread(signal, unread),
                expected,
                "{signal} {unread}"
            );
        }
    }
}

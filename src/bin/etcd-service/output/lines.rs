//! Lines on stdout from a thread, so that a reader that is slow or gone does not stop the program.

use std::io;
use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};

use super::say;
use crate::failure::Failure;

/// Writes lines to stdout.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Takes the next line once the one before is written.
    pub(crate) next: Sender<String>,
    /// Receives the reason once nothing can be written: [`Failure::ClosedPipe`] soon after the reader is gone, also
    /// while nothing is written.
    pub(crate) ended: Receiver<Failure>,
}

impl Lines {
    /// Starts the threads.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (next, lines) = bounded::<String>(0);
        let (end, ended) = bounded(2);
        let failed = |error: io::Error| Failure::failed(format!("start a thread: {error}"));
        let end_of_writer = end.clone();
        let writer = move || {
            for line in lines {
                if let Err(failure) = say(line) {
                    let _ = end_of_writer.try_send(failure);
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("stdout".into());
        thread.spawn(writer).map_err(failed)?;
        let watch = move || {
            wait_until_closed();
            let _ = end.try_send(Failure::ClosedPipe);
            // The channel stays connected: there is one end only.
            thread::park();
        };
        let thread = thread::Builder::new().name("closed-stdout".into());
        thread.spawn(watch).map_err(failed)?;
        Ok(Lines { next, ended })
    }
}

/// Waits until the reader of stdout, or the terminal, has closed it. If stdout is a file, it never returns.
pub(crate) fn wait_until_closed() {
    let stdout = io::stdout();
    loop {
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(n) if n > 0 => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // The writer notices.
            Err(_) => loop {
                thread::park();
            },
        }
    }
}

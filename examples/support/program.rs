//! The beginning and end of the longer examples: an error is one line on stderr and an exit code, and a
//! closed stdout ends the program without a panic.

use std::io::{self, ErrorKind::BrokenPipe, Write as _};
use std::process::ExitCode;
use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Why a program ends before its work is done.
#[derive(Debug)]
pub(crate) enum Ending {
    /// `--help` was given.
    Help,
    /// The arguments are wrong: exit code 2.
    Misused(String),
    /// The work failed: exit code 1.
    Failed(String),
    /// The reader of stdout has closed it, as in `discover | head -1`.
    Unread,
}

/// Runs a program to its exit code.
pub(crate) fn main(name: &str, usage: &str, run: impl FnOnce() -> Result<(), Ending>) -> ExitCode {
    // `println!` and `eprintln!` panic when the pipe is closed; these writes do not.
    let complain = |text: String| {
        let _ = writeln!(io::stderr(), "{name}: {text}");
    };
    match run() {
        Ok(()) | Err(Ending::Unread) => ExitCode::SUCCESS,
        Err(Ending::Help) => {
            let _ = write!(io::stdout(), "{usage}");
            ExitCode::SUCCESS
        }
        Err(Ending::Misused(text)) => {
            complain(format!("{text} (see --help)"));
            ExitCode::from(2)
        }
        Err(Ending::Failed(text)) => {
            complain(text);
            ExitCode::FAILURE
        }
    }
}

/// Prints a line.
pub(crate) fn say(line: impl std::fmt::Display) -> Result<(), Ending> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == BrokenPipe => Err(Ending::Unread),
        written => written.map_err(|error| Ending::Failed(format!("stdout: {error}"))),
    }
}

/// A channel that receives an item at the first Ctrl-C or SIGTERM, for `select!`.
pub(crate) fn stop_signals() -> Result<Receiver<()>, Ending> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Ending::Failed(format!("signals: {error}")))?;
    let (sender, stop) = bounded(1);
    thread::spawn(move || {
        signals.forever().next();
        let _ = sender.send(());
        // The handler stays installed, so that a second signal does not kill the program while it ends.
        signals.forever().for_each(drop);
    });
    Ok(stop)
}

impl From<etcd_blocking::Error> for Ending {
    fn from(error: etcd_blocking::Error) -> Self {
        match error.kind() {
            // Only the arguments of the user can be invalid here.
            etcd_blocking::ErrorKind::InvalidArgument => Ending::Misused(error.to_string()),
            _ => Ending::Failed(error.to_string()),
        }
    }
}

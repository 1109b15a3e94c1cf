//! How the examples begin and end, like any good program of a terminal: one clear line on stderr
//! when something is wrong, an exit code that says so, and no panic when nobody reads any more.

use std::io::{self, ErrorKind::BrokenPipe, Write as _};
use std::process::ExitCode;
use std::thread;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Why a program ends before its work is done.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It was asked what it can do.
    Help,
    /// It was called the wrong way: exit code 2.
    Misused(String),
    /// It could not do its work: exit code 1.
    Failed(String),
    /// Whoever read its output has gone, as in `discover | head -1`.
    Unread,
}

/// Runs a program to its exit code.
pub(crate) fn main(name: &str, usage: &str, run: impl FnOnce() -> Result<(), Ending>) -> ExitCode {
    // `println!` and `eprintln!` panic when nobody reads; these writes do not.
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

/// A channel that hears of the first Ctrl-C or SIGTERM, to `select!` on.
pub(crate) fn stop_signals() -> Result<Receiver<()>, Ending> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Ending::Failed(format!("signals: {error}")))?;
    let (sender, stop) = bounded(1);
    thread::spawn(move || {
        signals.forever().next();
        let _ = sender.send(());
        // Kept for as long as the program runs: who is stopped stays stopped.
        signals.forever().for_each(drop);
    });
    Ok(stop)
}

impl From<etcd_blocking::Error> for Ending {
    fn from(error: etcd_blocking::Error) -> Self {
        match error.kind() {
            // Nothing but what the user asked for can be wrong here.
            etcd_blocking::ErrorKind::InvalidArgument => Ending::Misused(error.to_string()),
            _ => Ending::Failed(error.to_string()),
        }
    }
}

//! Lines on stdout and stderr.

use std::fmt;
use std::io::{self, Write as _};

use crate::failure::Failure;

/// Prints a line to stdout and flushes it.
///
/// Unlike `println!`, it does not panic when the reader is gone.
pub(crate) fn say(line: impl fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}

/// Prints a line to stderr, with the name of the program. A closed stderr is ignored.
pub(crate) fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "etcd-service: {line}");
}

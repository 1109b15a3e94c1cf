//! Why a verb ends before its work is done, and the exit code for it.

use std::fmt;
use std::io;

use etcd_blocking::{Error, ErrorKind};

/// The result of a verb: the exit code of the program.
pub(crate) type Outcome = Result<u8, Failure>;

/// Why a verb ends before its work is done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, or a file that they name, are wrong: exit code 2.
    Usage(String),
    /// The work failed: exit code 1.
    Failed(String),
    /// The reader of stdout has closed it, as in `etcd-service list | head -1`: exit code 0, and no message.
    ClosedPipe,
}

impl Failure {
    /// The arguments are wrong.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Failure::Usage(text.to_string())
    }

    /// The work failed.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Failure::Failed(text.to_string())
    }

    /// An error of stdout.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Failed(format!("write to stdout: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            // Only the arguments of the user can be invalid here.
            ErrorKind::InvalidArgument => Failure::Usage(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

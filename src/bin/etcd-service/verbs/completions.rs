//! The verb `completions`.

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Arguments;
use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service completions bash >~/.local/share/bash-completion/completions/etcd-service
  etcd-service completions zsh >\"${fpath[1]}/_etcd-service\"")]
pub(crate) struct Completions {
    /// The shell that reads the script
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        let mut script = Vec::new();
        // It panics if the writer fails, which a `Vec` does not.
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "etcd-service",
            &mut script,
        );
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&script).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::stdout(&error))?;
        Ok(0)
    }
}

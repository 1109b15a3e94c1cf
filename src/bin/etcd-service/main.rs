//! `etcd-service` registers processes as services in etcd, shows and renders services, and runs commands while
//! they hold a lock. `etcd-service --help` lists its verbs; the page `docs/etcd-service.md` documents them.

mod arguments;
mod failure;
mod output;
mod signals;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use arguments::ConnectionArguments;
use failure::{Failure, Outcome};
use output::complain;
use verbs::Verb;

/// Registers processes as services in etcd, shows and renders services, and guards commands by locks.
#[derive(Debug, Parser)]
#[command(name = "etcd-service", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong arguments or settings. `run`, `lock` and `lead` end with \
the exit code of their command: 128 and the signal if a signal ended it, 127 if there is no such program."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    // clap prints help, versions and errors of arguments itself, with exit codes 0 and 2.
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    ExitCode::from(exit_code(arguments.verb.run(&arguments.connection)))
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(Failure::ClosedPipe) => 0,
        Err(Failure::Usage(text)) => {
            complain(text);
            2
        }
        Err(Failure::Failed(text)) => {
            complain(text);
            1
        }
    }
}

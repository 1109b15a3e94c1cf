//! `etcd-service` registers processes as services in etcd, shows and renders services, and runs commands while
//! they hold a lock. `etcd-service --help` lists its verbs; the page `docs/etcd-service.md` documents them.

mod arguments;
mod base64;
mod calendar;
mod check_report;
// Runs targets with the inputs in `fuzz/corpus`, as the unit tests of the library do.
#[cfg(test)]
#[path = "../../fuzz/campaign/mod.rs"]
mod campaign;
mod child;
mod failure;
mod guarded;
mod operator_change;
mod operator_setting;
mod outage;
mod output;
mod registration_state;
mod registry;
mod settings_file;
mod signals;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use arguments::ConnectionArguments;
use child::{STAGE, end_all, stage};
use failure::{Failure, Outcome};
use output::complain;
use settings_file::with_settings;
use verbs::Verb;

/// Registers processes as services in etcd, shows and renders services, and guards commands by locks.
#[derive(Debug, Parser)]
#[command(
    name = "etcd-service",
    version,
    max_term_width = 100,
    args_override_self = true
)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong arguments or settings. `run`, `lock` and `lead` end with \
the exit code of their command: 128 and the signal if a signal ended it, 127 if there is no such program."
)]
pub(crate) struct Arguments {
    /// File with settings, in TOML or YAML: each key is the name of a flag [also as ETCD_SERVICE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    let code = exit_code(run());
    end_all();
    ExitCode::from(code)
}

fn run() -> Outcome {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, first, stage_arguments @ ..] = arguments.as_slice()
        && first == STAGE
    {
        return stage(stage_arguments);
    }
    let program = Arguments::command();
    let arguments = with_settings(arguments, &program)?;
    let parsed = program.try_get_matches_from(arguments);
    match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments.verb.run(&arguments.connection),
        Err(message) => print(&message),
    }
}

/// Prints what clap says in place of arguments: a help text, the version, or an error.
fn print(message: &clap::Error) -> Outcome {
    let printed = message.print();
    match (message.use_stderr(), printed) {
        (true, _) => Ok(2),
        (false, Ok(())) => Ok(0),
        (false, Err(error)) => Err(Failure::stdout(&error)),
    }
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

//! The verbs, one file or folder each.

mod completions;
mod doctor;
mod drain;
mod lead;
mod list;
mod lock;
mod manual;
mod record;
mod register;
mod render;
mod replay;
mod run;
mod serve;
mod top;
mod undrain;
mod watch;
mod weight;

use clap::Subcommand;

use crate::arguments::ConnectionArguments;
use crate::failure::Outcome;

/// What the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Starts a command, and keeps it registered as an instance of a service while it is healthy
    Run(run::Run),
    /// Keeps services registered that other programs run
    Register(register::Register),
    /// Lists services, or the instances of a service
    List(list::List),
    /// Prints a line for each change of the instances of a service
    Watch(watch::Watch),
    /// Writes a file from a template whenever services or keys change
    Render(render::Render),
    /// Runs a command while this process holds a lock
    Lock(lock::Lock),
    /// Runs a command while this process is the leader
    Lead(lead::Lead),
    /// Marks an instance as draining, until `undrain`
    Drain(drain::Drain),
    /// Removes the status that an operator has set for an instance
    Undrain(undrain::Undrain),
    /// Sets the weight of an instance
    Weight(weight::Weight),
    /// Serves a web page, metrics and JSON about services
    Serve(serve::Serve),
    /// Shows services in the terminal
    Top(top::Top),
    /// Checks etcd and the registry, and says what is wrong
    Doctor(doctor::Doctor),
    /// Writes the changes of a prefix to a file
    Record(record::Record),
    /// Draws a recording as a timeline
    Replay(replay::Replay),
    /// Prints a script of completions for a shell
    Completions(completions::Completions),
    /// Writes the manual pages to a folder
    Manual(manual::Manual),
}

impl Verb {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        match self {
            Verb::Run(verb) => verb.run(connection),
            Verb::Register(verb) => verb.run(connection),
            Verb::List(verb) => verb.run(connection),
            Verb::Watch(verb) => verb.run(connection),
            Verb::Render(verb) => verb.run(connection),
            Verb::Lock(verb) => verb.run(connection),
            Verb::Lead(verb) => verb.run(connection),
            Verb::Drain(verb) => verb.run(connection),
            Verb::Undrain(verb) => verb.run(connection),
            Verb::Weight(verb) => verb.run(connection),
            Verb::Serve(verb) => verb.run(connection),
            Verb::Top(verb) => verb.run(connection),
            Verb::Doctor(verb) => verb.run(connection),
            Verb::Record(verb) => verb.run(connection),
            Verb::Replay(verb) => verb.run(connection),
            Verb::Completions(verb) => verb.run(connection),
            Verb::Manual(verb) => verb.run(connection),
        }
    }
}

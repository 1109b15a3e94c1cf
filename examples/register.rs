//! Registers one instance of a service, and keeps it registered until Ctrl-C or SIGTERM.
//!
//! ```sh
//! cargo run --example register -- --service web --addr 127.0.0.1:8080
//! ```
//!
//! While it runs, try what you like on etcd: delete the key, revoke the lease, restart the server,
//! wipe its data. Every state is a line, and the last one is always `registered` again.

#[path = "support/blocking.rs"]
mod blocking;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/flags.rs"]
mod flags;
#[path = "support/program.rs"]
mod program;
#[path = "support/states.rs"]
mod states;

use std::process::ExitCode;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::select;
use etcd_blocking::{Client, Instance, Registrar};

use flags::Flags;
use program::{Ending, say};

const USAGE: &str = "\
Registers one instance of a service, until Ctrl-C or SIGTERM.

    register --service NAME --addr HOST:PORT [--ttl SECONDS] [--codec native|plain] [--prefix P]

    --service  the service, such as web
    --addr     where others reach this instance, such as 127.0.0.1:8080
    --ttl      how long it stays in etcd after this process was killed; 5 unless given
    --codec    native (JSON with every property; the default) or plain (the address and nothing
               else, as the usual Go programs write it)
    --prefix   what the key begins with; /services/ with native and / with plain unless given

The etcd is that of ETCD_ENDPOINTS (separated by commas), or http://127.0.0.1:2379.
Exit codes: 0 it left; 1 it could not register or leave; 2 wrong usage.
";

fn main() -> ExitCode {
    program::main("register", USAGE, run)
}

fn run() -> Result<(), Ending> {
    let flags = Flags::read(
        &["--service", "--addr", "--ttl", "--codec", "--prefix"],
        &[],
    )?;
    let instance = Instance::new(flags.required("--service")?, flags.required("--addr")?);
    // A registrar checks too; here it is known that the flags are to blame.
    instance.check()?;
    let ttl = ttl(&flags)?;
    let endpoints = etcd::endpoints()?.unwrap_or(vec!["http://127.0.0.1:2379".to_owned()]);
    let stop = program::stop_signals()?;

    // One client for a whole program, and one registrar for everything that it registers: all of
    // it shares one lease.
    let client = Client::connect(endpoints)?;
    let mut settings = Registrar::builder(&client).ttl(ttl).codec(flags.codec()?);
    if let Some(prefix) = flags.get("--prefix") {
        settings = settings.prefix(prefix);
    }
    let registrar = settings.start()?;

    // `register` gives up after the client's timeout, so that a wrong endpoint shows at once. A
    // program that must start although etcd is away would `announce`.
    let Some(registered) = blocking::unless_stopped(&stop, move || registrar.register(instance))
    else {
        return Ok(());
    };
    let registration = registered?;

    // From here on nothing needs to be done: the states are there for who wants to know.
    let states = registration.states().clone();
    loop {
        select! {
            recv(states) -> state => match state {
                Ok(state) => say(states::describe(&state))?,
                Err(_) => return Err(Ending::Failed("the client is closed".to_owned())),
            },
            recv(stop) -> _ => break,
        }
    }

    // Dropping it would do the same, and could not tell of a failure.
    registration.leave()?;
    states
        .try_iter()
        .try_for_each(|state| say(states::describe(&state)))
}

/// Whole seconds: etcd counts in nothing smaller.
fn ttl(flags: &Flags) -> Result<Duration, Ending> {
    let given = flags.get("--ttl").unwrap_or("5");
    match given.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(Ending::Misused(format!(
            "--ttl is a number of seconds from 1 to 86400, not {given:?}"
        ))),
    }
}

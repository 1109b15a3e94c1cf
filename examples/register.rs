//! Registers one instance of a service, and keeps it registered until Ctrl-C or SIGTERM.
//!
//! ```sh
//! cargo run --example register -- --service web --addr 127.0.0.1:8080
//! ```
//!
//! While it runs, delete the key, revoke the lease, restart etcd or wipe its data. Each state is a line,
//! and the last one is always `registered` again.

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

    register --service NAME --addr HOST:PORT [--ttl SECONDS] [--codec CODEC] [--prefix P]

    --service  the service, such as web
    --addr     where others reach this instance, such as 127.0.0.1:8080
    --ttl      how long it stays in etcd after this process was killed; 5 by default
    --codec    the format: native (JSON with every property; the default), plain (the address and
               nothing else, as the usual Go programs write it), go-naming, go-zero, kratos, kitex,
               hertz, rpcx, go-micro, dubbo-go or skydns; or several, separated by commas
    --prefix   what the key begins with; each format has a default, such as /services/ with native.
               For several formats: one for each, separated by commas; an empty one is the default

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
    // `register` checks, too. Here an error can only be in the flags: exit code 2.
    instance.check()?;
    let ttl = ttl(&flags)?;
    let endpoints = etcd::endpoints()?.unwrap_or(vec!["http://127.0.0.1:2379".to_owned()]);
    let stop = program::stop_signals()?;

    // A program needs one client, and one registrar for all its instances: they share a lease.
    let client = Client::connect(endpoints)?;
    let mut settings = Registrar::builder(&client).ttl(ttl);
    for (index, (codec, prefix)) in flags.codecs()?.into_iter().enumerate() {
        settings = match index {
            0 => settings.codec(codec),
            _ => settings.add_codec(codec),
        };
        if let Some(prefix) = prefix {
            settings = settings.prefix(prefix);
        }
    }
    let registrar = settings.start()?;

    // `register` fails after the client's timeout, so that a wrong endpoint is noticed at once. A
    // program that must start while etcd is unreachable uses `announce` instead.
    let Some(registered) = blocking::unless_stopped(&stop, move || registrar.register(instance))
    else {
        return Ok(());
    };
    let registration = registered?;

    // Nothing more needs to be done; the states are printed for information.
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

    // Dropping it would do the same, but could not report a failure.
    registration.leave()?;
    states
        .try_iter()
        .try_for_each(|state| say(states::describe(&state)))
}

/// A TTL in whole seconds, which is etcd's unit.
fn ttl(flags: &Flags) -> Result<Duration, Ending> {
    let given = flags.get("--ttl").unwrap_or("5");
    match given.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(Ending::Misused(format!(
            "--ttl is a number of seconds from 1 to 86400, not {given:?}"
        ))),
    }
}

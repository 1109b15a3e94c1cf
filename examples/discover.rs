//! Follows the instances of a service, and prints a line for each change.
//!
//! ```sh
//! cargo run --example discover -- --service web          # until Ctrl-C
//! cargo run --example discover -- --service web --once   # the addresses now
//! ```

#[path = "support/blocking.rs"]
mod blocking;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/flags.rs"]
mod flags;
#[path = "support/program.rs"]
mod program;

use std::process::ExitCode;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::select;
use etcd_blocking::{Cause, Change, Client, Discovery, Instance};

use flags::Flags;
use program::{Ending, say};

const USAGE: &str = "\
Follows the instances of a service, until Ctrl-C or SIGTERM.

    discover --service NAME [--once] [--codec CODEC] [--prefix P]

    --service  the service, such as web
    --once     print the addresses now, one a line, and end
    --codec    the formats, separated by commas, of those of `register`; native by default. An instance in
               several formats is one instance, as the first of them has it
    --prefix   what the keys begin with, for each format, separated by commas; each format has a default,
               such as /services/ with native

One line for each change; its first character says which:

    + ADDR          there is a new instance
    ~ ADDR STATUS   an instance changed its properties
    - ADDR CAUSE    an instance is gone: Left, Expired, Replaced, Resync or Unknown
    ! TEXT          about the view itself: stale, live again, resync, a bad value

The etcd is that of ETCD_ENDPOINTS (separated by commas), or http://127.0.0.1:2379.
Exit codes: 0 done; 1 the service cannot be read; 2 wrong usage.
";

fn main() -> ExitCode {
    program::main("discover", USAGE, run)
}

fn run() -> Result<(), Ending> {
    let flags = Flags::read(&["--service", "--codec", "--prefix"], &["--once"])?;
    let service = flags.required("--service")?.to_owned();
    let codecs = flags.codecs()?;
    let endpoints = etcd::endpoints()?.unwrap_or(vec!["http://127.0.0.1:2379".to_owned()]);
    let stop = program::stop_signals()?;

    let client = Client::connect(endpoints)?;
    let mut discovery = Discovery::new(&client);
    for (n, (codec, prefix)) in codecs.into_iter().enumerate() {
        discovery = match n {
            0 => discovery.codec(codec),
            _ => discovery.add_codec(codec),
        };
        if let Some(prefix) = prefix {
            discovery = discovery.prefix(prefix);
        }
    }
    // `service` returns when the first list is read: an empty list means that there are no instances.
    let Some(opened) = blocking::unless_stopped(&stop, move || discovery.service(&service)) else {
        return Ok(());
    };
    let view = opened?;

    if flags.get("--once").is_some() {
        let instances = view.snapshot();
        return instances
            .iter()
            .try_for_each(|instance| say(&instance.addr));
    }

    // The first reset is the first list; only later ones are printed as such.
    let mut first = true;
    loop {
        select! {
            recv(view.changes()) -> change => match change {
                Ok(change) => print(&change, std::mem::take(&mut first))?,
                // The view has ended; any wait returns the reason.
                Err(_) => return Ok(view.wait_for(usize::MAX, Duration::ZERO).map(drop)?),
            },
            recv(stop) -> _ => return Ok(()),
        }
    }
}

fn print(change: &Change, first: bool) -> Result<(), Ending> {
    match change {
        Change::Added(instance) => appeared(instance),
        Change::Updated { instance, .. } => updated(instance),
        Change::Removed { instance, cause } => gone(instance, *cause),
        // Removed instances come first: a reset may remove an id and add it with another address.
        Change::Reset {
            added,
            updated: changed,
            removed,
        } => {
            if !first {
                let (new, other, less) = (added.len(), changed.len(), removed.len());
                say(format_args!(
                    "! resync: {new} new, {other} updated, {less} gone"
                ))?;
            }
            removed.iter().try_for_each(|(i, cause)| gone(i, *cause))?;
            changed.iter().try_for_each(|i| updated(i))?;
            added.iter().try_for_each(|i| appeared(i))
        }
        Change::Stale { .. } => say("! stale: etcd cannot be followed; this is the last good list"),
        Change::Live => say("! live: up to date again"),
        Change::Bad { key, reason } => say(format_args!(
            "! bad value of {:?}: {reason}",
            String::from_utf8_lossy(key)
        )),
        // More kinds may come with later versions of the crate.
        other => say(format_args!("! {other:?}")),
    }
}

fn appeared(instance: &Instance) -> Result<(), Ending> {
    say(format_args!("+ {}", instance.addr))
}

fn updated(instance: &Instance) -> Result<(), Ending> {
    let Instance { addr, status, .. } = instance;
    say(format_args!("~ {addr} {status}"))
}

fn gone(instance: &Instance, cause: Cause) -> Result<(), Ending> {
    say(format_args!("- {} {cause:?}", instance.addr))
}

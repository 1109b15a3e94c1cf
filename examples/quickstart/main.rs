//! Service registration and discovery, with everything that can go wrong, in some five seconds:
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! It starts an etcd of its own and three processes of a small TCP service. The processes
//! [register themselves](service); this one discovers and [calls](caller) them. Then one is killed,
//! one leaves, and etcd loses all its data. Calls go on all the time.

mod caller;
mod process;
#[path = "../support/program.rs"]
mod program;
mod service;
#[path = "../support/states.rs"]
mod states;
mod timeline;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, select, unbounded};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Balance, Cause, Change, Client, Discovery, ServiceView};

use caller::{Call, Caller};
use process::Process;
use program::Ending;
use timeline::Timeline;

const USAGE: &str = "\
Shows registration and discovery on an etcd of its own, in some five seconds.

    quickstart
";

/// What the three processes have in common.
const SERVICE: &str = "web";
const TTL: Duration = Duration::from_secs(3);

/// How long any step may take before the demonstration has failed: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    program::main("quickstart", USAGE, || {
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        let args: Vec<_> = args.iter().map(|arg| arg.to_str()).collect();
        match args[..] {
            [] => demonstrate(),
            // This program is its own service: the processes that it starts come in here.
            [Some("serve"), Some(name), Some(endpoint)] => service::serve(name, endpoint),
            [Some("--help" | "-h")] => Err(Ending::Help),
            _ => Err(Ending::Misused("it takes no arguments".to_owned())),
        }
    })
}

fn demonstrate() -> Result<(), Ending> {
    let timeline = Timeline::start();
    let stop = program::stop_signals()?;

    timeline.say("starting an etcd, for this demonstration alone");
    let mut etcd = LocalEtcd::start().map_err(failed)?;
    timeline.say(format_args!("etcd answers at {}", etcd.endpoint()));

    // The view is there before the services are: it shows how they come.
    let client = Client::connect([etcd.endpoint()])?;
    let view = Discovery::new(&client)
        .balance(Balance::RoundRobin)
        .service(SERVICE)?;
    let view = Arc::new(view);
    let story = Story {
        timeline,
        stop,
        changes: print_changes(&view, timeline),
    };

    timeline.say("starting three processes, which register themselves, TTL 3s:");
    let start = |name| Process::start(name, &etcd.endpoint(), timeline).map_err(failed);
    let (mut web1, mut web2, mut web3) = (start("web-1")?, start("web-2")?, start("web-3")?);
    story.until("three instances are up", || view.snapshot().len() == 3)?;
    story.done("all three are discovered");

    timeline.say("calling them, whomever pick() says, about 100 times a second until the end:");
    let caller = Caller::start(Arc::clone(&view));
    let mut tally = Tally::default();
    while tally.answers.len() < 3 {
        let call = story.next(caller.calls(), "an answer of each instance")?;
        if let Some(news) = tally.add(call) {
            timeline.say(format_args!("  answered: {news}"));
        }
    }
    story.done("each of the three was called");

    let killed = Instant::now();
    web2.kill_dash_9().map_err(failed)?;
    timeline.say("killed web-2 with -9: it cannot say goodbye, but its lease ends soon");
    story.gone("web-2", Cause::Expired)?;
    let took = killed.elapsed().as_secs_f64();
    story.done(format_args!("web-2 was gone after {took:.1}s, as Expired"));

    let asked = Instant::now();
    web3.ask_to_leave();
    timeline.say("asked web-3 to leave: it drops its registration");
    story.gone("web-3", Cause::Left)?;
    let took = asked.elapsed().as_millis();
    story.done(format_args!("web-3 was gone after {took}ms, as Left"));
    story.until("web-3 ends by itself", || web3.has_ended())?;

    timeline.say("restarting etcd, with all its data wiped: no lease, no key, revision 1");
    etcd.restart_wiped().map_err(failed)?;
    let wiped = Instant::now();
    timeline.say("etcd answers again, at the same address");
    // It is a race whether the view reads the new store before or after web-1 has put itself back.
    // If before, web-1 is gone for a moment, and calls wait that long.
    story.until("web-1 is in the new store and in the view", || {
        // Not only what the view shows: what the new etcd says, asked anew.
        let key = client.get(format!("/services/{SERVICE}/web-1"));
        matches!(key, Ok(Some(_))) && view.staleness().is_none() && view.snapshot().len() == 1
    })?;
    let took = wiped.elapsed().as_secs_f64();
    story.done(format_args!(
        "{took:.1}s later web-1 is registered again and the view follows"
    ));

    for call in caller.stop() {
        tally.add(call);
    }
    timeline.say(&tally);
    if let Some(error) = &tally.failure {
        return Err(Ending::Failed(format!("a call failed: {error}")));
    }
    story.done("every call was answered");

    web1.ask_to_leave();
    story.gone("web-1", Cause::Left)?;
    story.until("web-1 ends by itself", || web1.has_ended())?;
    story.done("the last one has left: nothing remains");
    Ok(())
}

/// The waits of the demonstration: each has an end, and hears Ctrl-C, so that everything that was
/// started is dropped, and with that killed.
struct Story {
    timeline: Timeline,
    stop: Receiver<()>,
    changes: Receiver<Change>,
}

impl Story {
    fn done(&self, what: impl std::fmt::Display) {
        self.timeline.say(format_args!("ok: {what}\n"));
    }

    /// The next thing to come in a channel.
    fn next<T>(&self, channel: &Receiver<T>, what: &str) -> Result<T, Ending> {
        select! {
            recv(channel) -> item => item.map_err(|_| Ending::Failed(format!("ended before: {what}"))),
            recv(self.stop) -> _ => Err(Ending::Failed("stopped by a signal".to_owned())),
            default(PATIENCE) => Err(Ending::Failed(format!("not in {PATIENCE:?}: {what}"))),
        }
    }

    /// Waits for an instance to be gone, and for that reason.
    fn gone(&self, id: &str, expected: Cause) -> Result<(), Ending> {
        loop {
            let change = self.next(&self.changes, &format!("{id} is gone, as {expected:?}"))?;
            let mut gone = change.causes();
            if gone.any(|(instance, cause)| instance.id == id && cause == expected) {
                return Ok(());
            }
        }
    }

    /// Waits for a condition.
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Ending> {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if Instant::now() >= deadline {
                return Err(Ending::Failed(format!("not in {PATIENCE:?}: {what}")));
            }
            select! {
                recv(self.stop) -> _ => return Err(Ending::Failed("stopped by a signal".to_owned())),
                default(Duration::from_millis(20)) => {}
            }
        }
        Ok(())
    }
}

/// Prints what happens to the service, on a thread of its own, and hands it on.
fn print_changes(view: &ServiceView, timeline: Timeline) -> Receiver<Change> {
    let changes = view.changes().clone();
    let (sender, seen) = unbounded();
    thread::spawn(move || {
        for change in changes {
            for (instance, cause) in change.causes() {
                timeline.say(format_args!("  view: - {} {cause:?}", instance.id));
            }
            for instance in change.present() {
                timeline.say(format_args!("  view: + {} {}", instance.id, instance.addr));
            }
            match &change {
                Change::Stale { .. } => {
                    timeline.say("  view: stale, and shows what it knew last");
                }
                Change::Live => timeline.say("  view: live"),
                _ => {}
            }
            if sender.send(change).is_err() {
                return;
            }
        }
    });
    seen
}

/// What became of all calls.
#[derive(Default)]
struct Tally {
    answers: BTreeMap<String, usize>,
    picked_again: usize,
    slowest: Duration,
    failure: Option<String>,
}

impl Tally {
    /// Counts a call; returns the answer when it is the first of an instance.
    fn add(&mut self, call: Call) -> Option<String> {
        self.slowest = self.slowest.max(call.took);
        self.picked_again += usize::from(call.picks > 1);
        match call.answer {
            Ok(answer) => {
                let count = self.answers.entry(answer.clone()).or_default();
                *count += 1;
                (*count == 1).then_some(answer)
            }
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total: usize = self.answers.values().sum();
        write!(
            f,
            "{total} calls were answered, {} of them at the second pick (the first was dead and not \
             yet expired); the slowest took {:.1?}",
            self.picked_again, self.slowest
        )
    }
}

fn failed(error: std::io::Error) -> Ending {
    Ending::Failed(error.to_string())
}

//! Service registration and discovery under faults, in about five seconds:
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! It starts an etcd of its own and three processes of a small TCP service. The processes
//! [register themselves](service); this one discovers and [calls](caller) them. Then one fails its calls
//! and is ejected for a time, the health check of one fails and recovers, one is killed, one leaves, and etcd loses all its data. The calls continue
//! meanwhile.

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

use etcd_blocking::balance::Ejection;
use etcd_blocking::crossbeam_channel::{Receiver, select, unbounded};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Balance, Cause, Change, Client, Discovery, ServiceView};

use caller::{Call, Caller};
use process::Process;
use program::Ending;
use timeline::Timeline;

const USAGE: &str = "\
Shows registration and discovery on a private etcd, in about five seconds.

    quickstart
";

/// The service and the TTL of the three processes.
const SERVICE: &str = "web";
const TTL: Duration = Duration::from_secs(3);

/// How long an instance that fails gets no calls at first.
const EJECTED: Duration = Duration::from_millis(500);

/// The bound for one step, after which the demonstration fails.
const LIMIT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    program::main("quickstart", USAGE, || {
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        let args: Vec<_> = args.iter().map(|arg| arg.to_str()).collect();
        match args[..] {
            [] => demonstrate(),
            // The processes of the service are this program with other arguments.
            [Some("serve"), Some(name), Some(endpoint)] => service::serve(name, endpoint),
            [Some("--help" | "-h")] => Err(Ending::Help),
            _ => Err(Ending::Misused("it takes no arguments".to_owned())),
        }
    })
}

fn demonstrate() -> Result<(), Ending> {
    let timeline = Timeline::start();
    let stop = program::stop_signals()?;

    timeline.say("starting a private etcd");
    let mut etcd = LocalEtcd::start().map_err(failed)?;
    timeline.say(format_args!("etcd answers at {}", etcd.endpoint()));

    // The view is opened before the services start, so that it shows them start.
    let client = Client::connect([etcd.endpoint()])?;
    let view = Discovery::new(&client)
        .balance(Balance::RoundRobin)
        .ejection(Ejection::default().base_time(EJECTED))
        .service(SERVICE)?;
    let view = Arc::new(view);
    let steps = Steps {
        timeline,
        stop,
        changes: print_changes(&view, timeline),
    };

    timeline.say("starting three processes, which register themselves, TTL 3s:");
    let start = |name| Process::start(name, &etcd.endpoint(), timeline).map_err(failed);
    let (mut web1, mut web2, mut web3) = (start("web-1")?, start("web-2")?, start("web-3")?);
    steps.until("three instances are up", || view.snapshot().len() == 3)?;
    steps.done("all three are discovered");

    timeline.say(
        "calling the instance that acquire() returns, about 100 times a second until the end:",
    );
    let caller = Caller::start(Arc::clone(&view));
    let mut tally = Tally::default();
    while tally.answers.len() < 3 {
        let call = steps.next(caller.calls(), "an answer of each instance")?;
        if let Some(answer) = tally.add(call) {
            timeline.say(format_args!("  answered: {answer}"));
        }
    }
    steps.done("each of the three was called");

    web2.tell("hang up").map_err(failed)?;
    timeline.say("web-2 hangs up on its callers, which its health check does not notice");
    let is_ejected = || view.ejected().iter().any(|one| one.id == "web-2");
    steps.until("web-2 is ejected", is_ejected)?;
    steps.done("web-2 failed five calls in a row and is ejected: others answer them");
    web2.tell("recover").map_err(failed)?;
    steps.until("web-2 is used again", || !is_ejected())?;
    steps.done("web-2 answers again, and is used as before");

    web3.tell("fail").map_err(failed)?;
    timeline.say("web-3 has a full disk: its health check fails three times in a row");
    let is_picked = |id: &str| (0..10).any(|_| view.pick().is_some_and(|picked| picked.id == id));
    let why = || {
        let found = view
            .snapshot()
            .iter()
            .find(|one| one.id == "web-3")?
            .clone();
        Some(found.reason.clone()).filter(|_| !found.is_pickable())
    };
    steps.until("web-3 is out of service", || why().is_some())?;
    steps.until("web-3 is not picked", || !is_picked("web-3"))?;
    let why = why().unwrap_or_default();
    steps.done(format_args!(
        "web-3 is out of service ({why}) and is not called"
    ));
    web3.tell("recover").map_err(failed)?;
    steps.until("web-3 is picked", || is_picked("web-3"))?;
    steps.done("web-3 has recovered, and is called again");

    let killed = Instant::now();
    web2.kill_dash_9().map_err(failed)?;
    timeline.say("killed web-2 with -9: it cannot leave, but its lease ends soon");
    steps.gone("web-2", Cause::Expired)?;
    let took = killed.elapsed().as_secs_f64();
    steps.done(format_args!("web-2 was gone after {took:.1}s, as Expired"));

    let asked = Instant::now();
    web3.ask_to_leave();
    timeline.say("asked web-3 to leave: it drops its registration");
    steps.gone("web-3", Cause::Left)?;
    let took = asked.elapsed().as_millis();
    steps.done(format_args!("web-3 was gone after {took}ms, as Left"));
    steps.until("web-3 ends by itself", || web3.has_ended())?;

    timeline.say("restarting etcd, with all its data wiped: no lease, no key, revision 1");
    etcd.restart_wiped().map_err(failed)?;
    let wiped = Instant::now();
    timeline.say("etcd answers again, at the same address");
    // The view may read the new store before web-1 has restored its key. web-1 is then absent for a
    // moment, and calls wait.
    steps.until("web-1 is in the new store and in the view", || {
        // Checks the new etcd itself, and not only the view.
        let key = client.get(format!("/services/{SERVICE}/web-1"));
        matches!(key, Ok(Some(_))) && view.staleness().is_none() && view.snapshot().len() == 1
    })?;
    let took = wiped.elapsed().as_secs_f64();
    steps.done(format_args!(
        "{took:.1}s later web-1 is registered again and the view follows"
    ));

    for call in caller.stop() {
        tally.add(call);
    }
    timeline.say(&tally);
    if let Some(error) = &tally.failure {
        return Err(Ending::Failed(format!("a call failed: {error}")));
    }
    steps.done("every call was answered");

    web1.ask_to_leave();
    steps.gone("web-1", Cause::Left)?;
    steps.until("web-1 ends by itself", || web1.has_ended())?;
    steps.done("the last one has left: nothing remains");
    Ok(())
}

/// The waits of the demonstration. Each is bounded and ends at Ctrl-C, so that every process that was
/// started is killed when it is dropped.
struct Steps {
    timeline: Timeline,
    stop: Receiver<()>,
    changes: Receiver<Change>,
}

impl Steps {
    fn done(&self, what: impl std::fmt::Display) {
        self.timeline.say(format_args!("ok: {what}\n"));
    }

    /// Receives the next item of a channel.
    fn next<T>(&self, channel: &Receiver<T>, what: &str) -> Result<T, Ending> {
        select! {
            recv(channel) -> item => item.map_err(|_| Ending::Failed(format!("ended before: {what}"))),
            recv(self.stop) -> _ => Err(Ending::Failed("stopped by a signal".to_owned())),
            default(LIMIT) => Err(Ending::Failed(format!("not in {LIMIT:?}: {what}"))),
        }
    }

    /// Waits until an instance is removed with this cause.
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
        let deadline = Instant::now() + LIMIT;
        while !holds() {
            if Instant::now() >= deadline {
                return Err(Ending::Failed(format!("not in {LIMIT:?}: {what}")));
            }
            select! {
                recv(self.stop) -> _ => return Err(Ending::Failed("stopped by a signal".to_owned())),
                default(Duration::from_millis(20)) => {}
            }
        }
        Ok(())
    }
}

/// Prints the changes of the service on a thread of its own, and forwards them.
fn print_changes(view: &ServiceView, timeline: Timeline) -> Receiver<Change> {
    let changes = view.changes().clone();
    let (sender, seen) = unbounded();
    thread::spawn(move || {
        for change in changes {
            for (instance, cause) in change.causes() {
                timeline.say(format_args!("  view: - {} {cause:?}", instance.id));
            }
            let is_update = matches!(change, Change::Updated { .. });
            for instance in change.present().filter(|_| !is_update) {
                timeline.say(format_args!("  view: + {} {}", instance.id, instance.addr));
            }
            match &change {
                Change::Updated { instance, .. } => {
                    let now = format!("{} {}", instance.status, instance.reason);
                    timeline.say(format_args!("  view: ~ {} {}", instance.id, now.trim_end()));
                }
                Change::Stale { .. } => {
                    timeline.say("  view: stale, shows the last good list");
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

/// The results of all calls.
#[derive(Default)]
struct Tally {
    answers: BTreeMap<String, usize>,
    picked_again: usize,
    slowest: Duration,
    failure: Option<String>,
}

impl Tally {
    /// Counts a call. Returns the answer if it is the first one of its instance.
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

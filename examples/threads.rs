//! A program with channels of its own: one `select!` over its work, a watch, a lease and a timer.
//!
//! ```sh
//! cargo run --example threads
//! ETCD_ENDPOINTS=http://127.0.0.1:2379 cargo run --example threads
//! ```
//!
//! A thread makes work. The main thread does it and puts the results into etcd, under a lease, so
//! that they are deleted when the program dies. Meanwhile it watches the results, keeps the lease alive and
//! prints its progress. Events of etcd arrive on crossbeam channels, like those of the program: there is
//! nothing to poll and no callback.

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/program.rs"]
mod program;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, bounded, never, select, tick};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Put, Watch};

use program::{Ending, say};

const USAGE: &str = "\
Does some work for a few seconds, with one select! over channels of its own and of etcd.

    threads

The etcd is that of ETCD_ENDPOINTS (separated by commas), or one of its own.
";

const JOBS: u32 = 40;
const TTL: Duration = Duration::from_secs(3);
/// The bound for all of it; it takes about three seconds.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    program::main("threads", USAGE, || match std::env::args_os().nth(1) {
        None => run(),
        Some(arg) if arg == "--help" || arg == "-h" => Err(Ending::Help),
        Some(arg) => Err(Ending::Misused(format!("unknown argument {arg:?}"))),
    })
}

fn run() -> Result<(), Ending> {
    let stop = program::stop_signals()?;
    // The private etcd is killed when `_own` is dropped, so `_own` must outlive the client.
    let (_own, endpoints) = match etcd::endpoints()? {
        Some(endpoints) => (None, endpoints),
        None => {
            let own = LocalEtcd::start().map_err(|error| Ending::Failed(error.to_string()))?;
            let endpoint = own.endpoint();
            (Some(own), vec![endpoint])
        }
    };
    say(format_args!("using {}", endpoints.join(", ")))?;
    let client = Client::connect(endpoints)?;

    // The results are attached to a lease; its id makes the keys of two runs differ.
    let lease = client.grant(TTL)?.id();
    let alive = client.keep_alive(lease)?;
    let results = format!("examples/threads/{lease}/");
    // From here on the watcher receives every change, also after a lost connection.
    let watcher = client.watch(Watch::prefix(&results).no_delete())?;

    let mut work = jobs();
    let ticks = tick(Duration::from_millis(500));
    let (mut done, mut seen, mut renewals) = (0, 0, 0);
    let begun = Instant::now();
    while seen < JOBS {
        select! {
            recv(work) -> job => match job {
                Ok(job) => {
                    // Blocks for a round trip. A program that must not wait uses `client.submit`, and
                    // receives the answer later.
                    client.call(Put::new(format!("{results}{job:03}"), job.to_string()).lease(lease))?;
                    done += 1;
                }
                // A closed channel is always ready: without this, the loop would spin.
                Err(_) => work = never(),
            },
            recv(watcher.receiver()) -> item => match item {
                // Several changes may come in one item.
                Ok(item) => seen += u32::try_from(item?.events().len()).unwrap_or(u32::MAX),
                Err(_) => return Err(Ending::Failed("the watch has ended".to_owned())),
            },
            recv(alive.receiver()) -> item => match item {
                Ok(renewal) => {
                    let left = renewal?.deadline().remaining();
                    renewals += 1;
                    say(format_args!("  lease renewed, good for {:.1}s", left.as_secs_f64()))?;
                }
                Err(_) => return Err(Ending::Failed("the lease is not kept alive any more".to_owned())),
            },
            recv(ticks) -> _ => {
                say(format_args!("  {done} of {JOBS} jobs done, {seen} seen in etcd"))?;
                if begun.elapsed() > LIMIT {
                    return Err(Ending::Failed(format!("not done in {LIMIT:?}")));
                }
            }
            recv(stop) -> _ => {
                say("stopped by a signal")?;
                break;
            }
        }
    }

    // The results would be deleted when the lease ends; revoking it deletes them now.
    client.revoke(lease)?;
    say(format_args!(
        "{done} jobs done, {seen} results seen by the watch, {renewals} renewals, in {:.1}s",
        begun.elapsed().as_secs_f64()
    ))
}

/// A thread that produces work, and its channel.
fn jobs() -> Receiver<u32> {
    let (sender, jobs) = bounded(4);
    thread::spawn(move || {
        for job in 0..JOBS {
            // The producer waits for the next job and for room in the channel.
            thread::sleep(Duration::from_millis(75));
            if sender.send(job).is_err() {
                return;
            }
        }
    });
    jobs
}

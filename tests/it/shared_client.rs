//! Many kinds of use share one client while one of them is stalled, oversized, refused or flooded: no other
//! use fails.
//!
//! Each use runs on a thread of its own and measures its operations. Latencies are printed and not
//! asserted, because a loaded machine increases them; a use that is starved fails by its own deadline.
//! `ETCD_BLOCKING_SHARED_SECONDS` sets the length of each window (2 s).

mod faults;
mod uses;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::auth::Permission;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, KeyRange};

use crate::support::wait::Raise;
use uses::Use;

/// The client under test refuses replies over this many bytes, so that a reply can be too large
/// without moving much data.
const RECEIVE_LIMIT: usize = 512 << 10;

/// How long each window lasts.
fn window() -> Duration {
    let seconds = std::env::var("ETCD_BLOCKING_SHARED_SECONDS");
    Duration::from_secs(seconds.map_or(2, |text| text.parse().unwrap()))
}

/// A pause between the operations of one use, because the uses must not be the load.
const PAUSE: Duration = Duration::from_millis(10);

/// The latencies of one use in one window.
struct Measured {
    name: &'static str,
    times: Vec<Duration>,
}

impl Measured {
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

/// Runs every use for one window, with `fault` beside them.
fn measure(uses: &mut [Use], fault: impl Fn(&AtomicBool) + Sync) -> Vec<Measured> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = Raise(&stop);
        let (stop, fault) = (&stop, &fault);
        scope.spawn(move || fault(stop));
        let running: Vec<_> = uses
            .iter_mut()
            .map(|one| scope.spawn(move || run(one, stop)))
            .collect();
        thread::sleep(window());
        drop(done);
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn run(one: &mut Use, stop: &AtomicBool) -> Measured {
    let mut times = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        if let Err(error) = (one.step)() {
            panic!(
                "{} failed after {:?}: {error} ({:?})",
                one.name,
                begun.elapsed(),
                error.kind()
            );
        }
        times.push(begun.elapsed());
        thread::sleep(PAUSE);
    }
    times.sort_unstable();
    let name = one.name;
    Measured { name, times }
}

fn show(fault: &str, quiet: &[Measured], during: &[Measured]) {
    println!("{fault}: p50/p99 quiet -> during (operations)");
    for (before, now) in quiet.iter().zip(during) {
        println!(
            "  {:14} {:>9.1?}/{:>9.1?} -> {:>9.1?}/{:>9.1?} ({})",
            now.name,
            before.percentile(50),
            before.percentile(99),
            now.percentile(50),
            now.percentile(99),
            now.times.len()
        );
    }
}

/// etcd with users: `app` may read and write below `use/` and nothing else.
fn with_users() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let anybody = Client::connect([etcd.endpoint()]).unwrap();
    anybody.auth().role_add("app").unwrap();
    let below = Permission::read_write(KeyRange::prefix("use/"));
    anybody.auth().role_grant_permission("app", below).unwrap();
    for user in ["app", "root"] {
        anybody.auth().user_add(user, "pw").unwrap();
        anybody.auth().user_grant_role(user, user).unwrap();
    }
    anybody.auth().enable().unwrap();
    let root = Client::builder([etcd.endpoint()])
        .allow_plaintext_credentials()
        .user("root", "pw")
        .connect()
        .unwrap();
    (etcd, root)
}

fn shared(etcd: &LocalEtcd) -> Client {
    Client::builder([etcd.endpoint()])
        .receive_limit(RECEIVE_LIMIT)
        .allow_plaintext_credentials()
        .user("app", "pw")
        .connect()
        .unwrap()
}

#[test]
fn a_stalled_or_refused_use_fails_no_other_use_of_its_client() {
    let (etcd, root) = with_users();
    let client = shared(&etcd);
    let mut uses = uses::all(&client);
    let quiet = measure(&mut uses, |_| ());
    for (name, fault) in faults::all() {
        let during = measure(&mut uses, |stop| fault(&client, &root, stop));
        show(name, &quiet, &during);
        assert!(during.iter().all(|used| !used.times.is_empty()), "{name}");
    }
}

#[test]
fn read_and_unread_snapshots_affect_no_other_use() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    for n in 0..64 {
        client
            .put(format!("filler/{n}"), vec![b'x'; 1 << 18])
            .unwrap();
    }
    let mut uses = uses::all(&client);
    uses.push(uses::snapshot(&client));
    let quiet = measure(&mut uses, |_| ());
    let during = measure(&mut uses, |stop| faults::unread_snapshots(&client, stop));
    show("unread snapshots", &quiet, &during);
}

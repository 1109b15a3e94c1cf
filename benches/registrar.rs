//! Prints the cost of registering, restoring and renewing, by the number of instances of a registrar.
//!
//! `cargo bench --bench registrar` takes about two minutes. CPU time is that of the client's threads (Linux),
//! for each instance; *renewal* is the CPU time of one renewal of the lease with all its instances. Growth
//! is relative to the row above: 1.0 means that the cost does not grow.
//!
//! - register: all instances are announced, and are in etcd;
//! - revoked: another client revokes the lease, and all instances are registered under another one;
//! - deleted: another client deletes the prefix, and all instances are registered again.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

mod process;

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, LeaseId, Registrar, Registration, State};
use process::{cpu, micros, threads, threads_since};

const SOON: Duration = Duration::from_secs(120);

/// The time in which renewals are measured. The lease is renewed once a second.
const RENEWALS: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(3);

/// The lease of an instance, and the revision of its key, once it is registered.
fn registered(registration: &Registration) -> Option<(LeaseId, i64)> {
    match registration.state() {
        State::Registered {
            lease, revision, ..
        } => Some((lease, revision.get())),
        _ => None,
    }
}

/// Waits until this holds for all. Returns how long it took since `begun`.
fn wait(begun: Instant, all: &[Registration], holds: impl Fn(LeaseId, i64) -> bool) -> Duration {
    for registration in all {
        while !registered(registration).is_some_and(|(lease, revision)| holds(lease, revision)) {
            assert!(begun.elapsed() < SOON, "not registered in {SOON:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }
    begun.elapsed()
}

fn main() {
    let etcd = LocalEtcd::start().expect("etcd starts");
    let other = Client::connect(etcd.endpoint()).expect("a client");
    other.ready(SOON).expect("etcd serves");
    println!(
        "{:>9}  {:>28}  {:>28}  {:>28}  {:>18}",
        "instances", "register", "revoked", "deleted", "renewal"
    );
    println!(
        "{:>9}  {:>10} {:>8} {:>8}  {:>10} {:>8} {:>8}  {:>10} {:>8} {:>8}  {:>9} {:>8}",
        "",
        "in",
        "us each",
        "growth",
        "in",
        "us each",
        "growth",
        "in",
        "us each",
        "growth",
        "us",
        "growth"
    );
    let mut above = [f64::NAN; 4];
    for count in [1, 10, 100, 1_000, 10_000] {
        let others = threads();
        let client = Client::connect(etcd.endpoint()).expect("a client");
        let registrar = Registrar::builder(&client).ttl(TTL).start();
        let registrar = registrar.expect("a registrar");
        let own = threads_since(&others);
        let measured = |run: &mut dyn FnMut() -> Duration| {
            let before = cpu(&own);
            let took = run();
            // What follows the last answer belongs to it.
            thread::sleep(Duration::from_millis(200));
            (took, micros(cpu(&own) - before, count))
        };
        let mut all = Vec::new();
        let register = measured(&mut || {
            let begun = Instant::now();
            all.extend((0..count).map(|n| {
                let instance = Instance::new("api", format!("10.{}.{}.1:80", n / 250, n % 250));
                registrar.announce(instance).expect("announced")
            }));
            wait(begun, &all, |_, _| true)
        });
        let (lease, _) = registered(&all[0]).expect("registered");
        let revoked = measured(&mut || {
            let begun = Instant::now();
            other.revoke(lease).expect("revoked");
            wait(begun, &all, |now, _| now != lease)
        });
        let deleted = measured(&mut || {
            let begun = Instant::now();
            let deleted = other.delete_prefix("/services/api/").expect("deleted");
            let at = deleted.revision().get();
            wait(begun, &all, |_, revision| revision > at)
        });
        let (renewals, before) = (client.metrics().leases.renewals, cpu(&own));
        thread::sleep(RENEWALS);
        let renewals = client.metrics().leases.renewals - renewals;
        let renewal = micros(cpu(&own) - before, renewals as usize);
        let figures = [register.1, revoked.1, deleted.1, renewal];
        let growth: Vec<_> = figures
            .iter()
            .zip(above)
            .map(|(now, old)| now / old)
            .collect();
        let column = |(took, each): (Duration, f64), growth: f64| {
            format!("{:>10} {each:>8.1} {growth:>8.2}", format!("{took:.1?}"))
        };
        println!(
            "{count:>9}  {}  {}  {}  {renewal:>9.0} {:>8.2}",
            column(register, growth[0]),
            column(revoked, growth[1]),
            column(deleted, growth[2]),
            growth[3]
        );
        above = figures;
        drop(all);
        registrar.leave_all().expect("left");
    }
}

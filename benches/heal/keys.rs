//! How soon the keys of one instance in four formats are right again.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Delete, Instance, KeyRange, LeaseId, Registrar, codec};

use super::{ROUNDS, SOON, print, random, until};

const MS: Duration = Duration::from_millis(1);

/// The value of each key.
type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// The keys and the leases under which they are, all at one revision.
fn read(other: &Client) -> Option<(Keys, Vec<LeaseId>)> {
    let all = other.get_prefix("").ok()?;
    let keys = all
        .iter()
        .map(|kv| (kv.key().to_vec(), kv.value().to_vec()))
        .collect();
    Some((keys, all.iter().filter_map(|kv| kv.lease()).collect()))
}

/// Whether a fault is the first of its instance, or one of many in a row, which the registrar answers more slowly.
#[derive(Clone, Copy)]
enum Faults {
    First,
    Repeated,
}

pub(super) fn run() {
    let mut etcd = LocalEtcd::start().unwrap();
    let addr = etcd.client_addr();
    let other = Client::connect(etcd.endpoint()).unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let registrar = Registrar::builder(&client)
        .add_codec(codec::GoNaming)
        .add_codec(codec::Kratos)
        .add_codec(codec::SkyDns)
        .prefix("/skydns/local/cluster/");
    let registrar = registrar.start().unwrap();
    let register = || {
        let instance = Instance::new("web", "127.0.1.1:8080");
        (registrar.register(instance).unwrap(), read(&other).unwrap())
    };
    let measure = |what: &str, faults: Faults, fault: &mut dyn FnMut(usize, &Keys, LeaseId)| {
        let mut registered = register();
        let rounds = (0..ROUNDS).map(|round| {
            if matches!(faults, Faults::First) {
                registered.0.leave().unwrap();
                registered = register();
            }
            let expected = &registered.1.0;
            assert_eq!(expected.len(), 4);
            thread::sleep(random(MS, MS * 500));
            fault(round, expected, read(&other).unwrap().1[0]);
            until(Instant::now(), MS, || {
                let now = read(&other);
                now.is_some_and(|(keys, leases)| keys == *expected && leases.len() == 4)
            })
        });
        print(what, rounds.collect());
        registered.0.leave().unwrap();
    };
    for (faults, name) in [(Faults::First, ""), (Faults::Repeated, ", repeatedly")] {
        let nth = |keys: &Keys, n: usize| keys.keys().nth(n % 4).unwrap().clone();
        measure(
            &format!("one key deleted{name}"),
            faults,
            &mut |round, keys, _| {
                other.delete(nth(keys, round)).unwrap();
            },
        );
        measure(
            &format!("one key overwritten{name}"),
            faults,
            &mut |round, keys, _| {
                other.put(nth(keys, round), "nonsense").unwrap();
            },
        );
        measure(
            &format!("lease revoked{name}"),
            faults,
            &mut |_, _, lease| {
                other.revoke(lease).unwrap();
            },
        );
        measure(
            &format!("all keys deleted{name}"),
            faults,
            &mut |_, _, _| {
                other.call(Delete::range(KeyRange::all())).unwrap();
            },
        );
    }
    let mut healthy = Vec::new();
    measure(
        "etcd wiped, since it accepts connections",
        Faults::First,
        &mut |_, _, _| {
            etcd.kill().unwrap();
            etcd.wipe().unwrap();
            thread::sleep(random(MS * 100, MS * 4_000));
            etcd.spawn().unwrap();
            until(Instant::now(), MS, || TcpStream::connect(addr).is_ok());
        },
    );
    measure(
        "etcd wiped, since it is healthy",
        Faults::First,
        &mut |_, _, _| {
            etcd.kill().unwrap();
            etcd.wipe().unwrap();
            thread::sleep(random(MS * 100, MS * 4_000));
            etcd.spawn().unwrap();
            until(Instant::now(), MS, || TcpStream::connect(addr).is_ok());
            let begun = Instant::now();
            etcd.wait_ready(SOON).unwrap();
            healthy.push(begun.elapsed());
        },
    );
    print("etcd itself, until it is healthy", healthy);
}

//! What a choice of an instance costs with each balance and setting.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::balance::{Attempt, Filter};
use etcd_blocking::{Balance, Client, Discovery, Put, ServiceView};

const TIMES: u32 = 200_000;

/// The time of one of many runs.
fn time(mut run: impl FnMut(u32)) -> Duration {
    let begun = Instant::now();
    for n in 0..TIMES {
        run(n);
    }
    begun.elapsed() / TIMES
}

fn key(n: u32) -> [u8; 8] {
    u64::from(n)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_le_bytes()
}

/// An instance with a zone and a tag.
pub(crate) fn put(n: usize, load: usize) -> Put {
    let (port, weight) = (1 + n % 60_000, 1 + n % 7);
    let (zone, tag) = if n.is_multiple_of(2) {
        ("a", "even")
    } else {
        ("b", "odd")
    };
    let value = format!(
        r#"{{"addr":"127.0.1.1:{port}","weight":{weight},"zone":"{zone}","tags":["{tag}"],"version":"{load}"}}"#
    );
    Put::new(format!("/services/s0/{n}"), value)
}

/// Puts changed values a thousand times a second, for two seconds.
pub(crate) fn change(writer: &Client, put: impl Fn(usize, usize) -> Put, instances: usize) {
    let begun = Instant::now();
    let mut pending = Vec::new();
    for load in 0..2_000 {
        pending.push(writer.submit(put(load * 7919 % instances, load)));
        let due = begun + Duration::from_millis(load as u64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    drop(pending);
}

/// The median and the slowest of a hundred runs, of 16 threads, while instances change a thousand times a second.
pub(crate) fn busy(run: impl Fn() + Sync, changes: impl FnOnce()) -> (Duration, Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let pickers = [(); 16].map(|()| {
            scope.spawn(|| {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    run();
                    took.push(begun.elapsed());
                    if took.len() % 64 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                took
            })
        });
        changes();
        stop.store(true, Ordering::Relaxed);
        let mut took: Vec<_> = pickers
            .into_iter()
            .flat_map(|picker| picker.join().expect("picked"))
            .collect();
        took.sort_unstable();
        (took[took.len() / 2], took[took.len() * 99 / 100])
    })
}

fn row(name: &str, instances: usize, view: &ServiceView, changes: impl FnOnce()) {
    let pick = time(|_| drop(black_box(view.pick())));
    let pick_for = time(|n| drop(black_box(view.pick_for(key(n)))));
    let acquire = time(|n| {
        if let Some(call) = view.acquire_for(key(n)) {
            call.succeeded();
        }
    });
    let call = time(|_| {
        let _ = black_box(view.call(|_| Attempt::<_, ()>::Succeeded(())));
    });
    let end = || {
        if let Some(call) = view.acquire_for(key(7)) {
            call.succeeded();
        }
    };
    let (p50, p99) = busy(end, changes);
    println!(
        "{name:<22} {instances:>9} {pick:>9.2?} {pick_for:>9.2?} {acquire:>9.2?} {call:>9.2?}  {p50:>9.2?} / {p99:.2?}"
    );
}

/// Prints a row for each balance and setting, of a service that has so many instances.
pub(crate) fn table(etcd: &str, writer: &Client, instances: usize) {
    let client = Client::connect(etcd).expect("a client");
    let discovery = Discovery::new(&client);
    let all = [
        ("RoundRobin", discovery.clone().balance(Balance::RoundRobin)),
        ("Weighted", discovery.clone().balance(Balance::Weighted)),
        ("Random", discovery.clone().balance(Balance::Random)),
        (
            "LeastInFlight",
            discovery.clone().balance(Balance::LeastInFlight),
        ),
        ("PeakEwma", discovery.clone().balance(Balance::PeakEwma)),
        ("Rendezvous", discovery.clone().balance(Balance::Rendezvous)),
        ("Weighted, zone", discovery.clone().zone("a")),
        (
            "Weighted, subset of 20",
            discovery.clone().subset(20, "bench"),
        ),
        (
            "Weighted, filter",
            discovery.clone().filter(Filter::new().tag("even")),
        ),
        ("Weighted, 3 ejected", discovery.clone()),
    ];
    for (name, discovery) in all {
        let view = discovery.service("s0").expect("a view");
        if name.ends_with("ejected") {
            while view.ejected().len() < 3 {
                let _ = view.call(|one| match one.addr.as_str() {
                    "127.0.1.1:1" | "127.0.1.1:2" | "127.0.1.1:3" => Attempt::Failed(()),
                    _ => Attempt::Succeeded(()),
                });
            }
        }
        row(name, instances, &view, || change(writer, put, instances));
    }
}

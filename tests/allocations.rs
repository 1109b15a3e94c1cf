//! What a choice of an instance allocates: nothing.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::time::Duration;

use etcd_blocking::balance::{CallGuard, Filter};
use etcd_blocking::{Balance, Client, Discovery, Instance, ServiceView};

const BALANCES: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::Random,
    Balance::LeastInFlight,
    Balance::PeakEwma,
    Balance::Rendezvous,
];

/// The calls of one measurement.
const CALLS: u64 = 2_000;

/// Opens a view of `count` instances, without a server.
fn view(client: &Client, balance: Balance, count: usize) -> ServiceView {
    let instance = |n: usize| {
        Instance::new("web", format!("127.0.1.1:{}", n + 1))
            .weight(1 + n as u32 % 3)
            .zone(["a", "b"][n % 2])
            .tag("gpu")
    };
    Discovery::new(client)
        .balance(balance)
        .filter(Filter::new().tag("gpu"))
        .zone("a")
        .fallback((0..count).map(instance))
        .service("web")
        .unwrap()
}

/// The allocations of this thread during the calls. The least of several measurements: the lock of a view may
/// allocate when this thread waits for the worker for the first time.
fn allocations(mut call: impl FnMut(u64)) -> u64 {
    let mut measure = || allocation_counter::measure(|| (0..CALLS).for_each(&mut call)).count_total;
    // The first calls create what the balance counts for each instance.
    measure();
    (0..5).map(|_| measure()).min().unwrap()
}

/// Calls `check` with the views of all balances, with few and with many instances.
fn each_view(check: impl Fn(&ServiceView, &str)) {
    // Nothing listens there.
    let client = Client::builder(["http://127.0.1.1:1"])
        .timeout(Duration::from_secs(1))
        .connect()
        .unwrap();
    for balance in BALANCES {
        for count in [10, 1_000] {
            let view = view(&client, balance, count);
            assert_eq!(view.snapshot().len(), count);
            check(&view, &format!("{balance:?} of {count}"));
        }
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|n| drop(Box::new(n))), CALLS);
}

#[test]
fn a_pick_allocates_nothing() {
    each_view(|view, name| {
        let picked = allocations(|_| assert!(view.pick().is_some()));
        assert_eq!(picked, 0, "pick, {name}");
        let picked = allocations(|n| assert!(view.pick_for(n.to_be_bytes()).is_some()));
        assert_eq!(picked, 0, "pick_for, {name}");
    });
}

#[test]
fn a_counted_call_allocates_nothing() {
    each_view(|view, name| {
        let calls = allocations(|_| view.acquire().unwrap().succeeded());
        assert_eq!(calls, 0, "acquire and succeeded, {name}");
        let calls = allocations(|n| view.acquire_for(n.to_be_bytes()).unwrap().succeeded());
        assert_eq!(calls, 0, "acquire_for and succeeded, {name}");
        let calls = allocations(|_| drop(view.acquire().unwrap()));
        assert_eq!(calls, 0, "acquire and drop, {name}");
        // Many calls in flight at a time.
        let mut guards: [Option<CallGuard>; 50] = [const { None }; 50];
        let calls = allocations(|n| {
            let guard = &mut guards[n as usize % 50];
            if let Some(guard) = std::mem::replace(guard, view.acquire()) {
                guard.succeeded();
            }
        });
        assert_eq!(calls, 0, "50 calls in flight, {name}");
        // Some fail, and some of the instances are ejected.
        let calls = allocations(|n| {
            let guard = view.acquire().unwrap();
            match guard.addr.ends_with("1") && n % 2 == 0 {
                true => guard.failed(),
                false => guard.succeeded(),
            }
        });
        assert_eq!(calls, 0, "with failures, {name}");
    });
}

//! Runs models, as many at a time as there are cores, and prints how many orders each of them has.

use std::cell::Cell;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A small program whose orders are run.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    name: &'static str,
    /// In how many places of one run a thread is interrupted, at most. `None` for every order.
    interruptions: Option<usize>,
    run: fn(),
}

impl Model {
    pub(crate) const fn every_order(name: &'static str, run: fn()) -> Self {
        Model {
            name,
            interruptions: None,
            run,
        }
    }

    /// A model with too many orders: a thread is interrupted in so many places of one run at most. A thread that waits
    /// or ends does not count.
    pub(crate) const fn interrupted(name: &'static str, places: usize, run: fn()) -> Self {
        Model {
            name,
            interruptions: Some(places),
            run,
        }
    }
}

/// The time after which a model is not continued. A complete run of each takes less.
const LIMIT: Duration = Duration::from_secs(120);

/// How many operations one run has, at most.
const MAX_BRANCHES: usize = 50_000;

// The model that this thread runs.
thread_local!(static CURRENT: Cell<&'static str> = const { Cell::new("none") });

pub(crate) fn run(models: &[Model], names: &[String]) -> ExitCode {
    let is_wanted =
        |model: &&Model| names.is_empty() || names.iter().any(|name| model.name.contains(name));
    let models: Vec<&Model> = models.iter().filter(is_wanted).collect();
    let (next, total, failed) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let begun = Instant::now();
    // A deadlock that leaves locks behind may end the process at once.
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        eprintln!("\nFAILED: {}", CURRENT.get());
        print(panic);
    }));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Relaxed)) {
                    match check(model) {
                        Some(orders) => total.fetch_add(orders, Relaxed),
                        None => failed.fetch_add(1, Relaxed),
                    };
                }
            });
        }
    });
    let (total, failed) = (total.into_inner(), failed.into_inner());
    println!(
        "{} models, {total} orders, {:.0?}, {failed} failed",
        models.len(),
        begun.elapsed()
    );
    match failed == 0 && !models.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs all orders of a model, and returns their number.
fn check(model: &Model) -> Option<usize> {
    let mut builder = loom::model::Builder::new();
    // LOOM_MAX_PREEMPTIONS is for all models.
    builder.preemption_bound = builder.preemption_bound.or(model.interruptions);
    builder.max_branches = MAX_BRANCHES;
    builder.max_duration = Some(LIMIT);
    // How often the duration is looked at.
    builder.checkpoint_interval = 1000;
    let bound = match builder.preemption_bound {
        Some(bound) => format!("{bound} interruptions"),
        None => "every order".to_owned(),
    };
    CURRENT.set(model.name);
    let (begun, orders, run) = (Instant::now(), Arc::new(AtomicUsize::new(0)), model.run);
    let counted = Arc::clone(&orders);
    let result = catch_unwind(move || {
        builder.check(move || {
            counted.fetch_add(1, Relaxed);
            stand_ins::Timeouts::Never.set();
            run();
        });
    });
    let (orders, time) = (orders.load(Relaxed), begun.elapsed());
    let name = model.name;
    match result {
        Ok(()) if time < LIMIT => println!("{name}: {orders} orders ({bound}), {time:.1?}"),
        Ok(()) => println!("{name}: INCOMPLETE after {orders} orders ({bound}), {time:.1?}"),
        Err(_) => println!("{name}: FAILED in order {orders} ({bound}), {time:.1?}"),
    }
    (result.is_ok() && time < LIMIT).then_some(orders)
}

//! Runs a fuzz target as a unit test: with each file of its corpus, then with mutations of them.
//!
//! The program `etcd-service` includes this folder for its own targets, so it uses the standard library, `fastrand`
//! and `rustix` only.

mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use mutation::Mutator;

/// The number of mutations that every run tries.
const MUTATIONS: u32 = 2_000;

/// The seed of these mutations.
const SEED: u64 = 0x6574_6364;

/// Runs for so many seconds instead, with a random seed.
const SECONDS: &str = "ETCD_BLOCKING_FUZZ_SECONDS";

/// The CPU time that one input may take, of a build without optimisation.
const LONGEST: Duration = Duration::from_secs(1);

/// Runs the target `name` with its corpus in `fuzz/corpus`. The crate as it is published has no corpus; the mutations
/// then begin with an empty input.
pub(crate) fn run(name: &str, target: impl Fn(&[u8])) {
    let corpus = corpus(name);
    for input in &corpus {
        check(name, &target, input);
    }
    let seconds = env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    let (seed, end) = match seconds {
        None => (SEED, None),
        Some(seconds) => (
            fastrand::u64(..),
            Some(Instant::now() + Duration::from_secs_f64(seconds)),
        ),
    };
    let mut mutator = Mutator::new(seed, corpus);
    let mut tried = 0;
    while end.map_or(tried < MUTATIONS, |end| Instant::now() < end) {
        check(name, &target, &mutator.input());
        tried += 1;
    }
    if end.is_some() {
        println!("{name}: {tried} inputs with the seed {seed:#x}");
    }
}

/// The inputs of a target, sorted by the names of their files.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(folder.join(name)).into_iter().flatten();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// Runs the target with one input, which a failure prints.
fn check(name: &str, target: &impl Fn(&[u8]), input: &[u8]) {
    let before = cpu_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = cpu_time().saturating_sub(before);
    if outcome.is_err() || took > LONGEST {
        eprintln!(
            "{name} failed in {took:?} with b\"{}\"",
            input.escape_ascii()
        );
    }
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    assert!(
        took <= LONGEST,
        "{name}: an input took {took:?} of CPU time"
    );
}

/// The CPU time of this thread: other programs do not count.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Where threads have no clock of their own, no input is too slow.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "CPU time")]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn an_input_that_takes_long_fails() {
        let begun = cpu_time();
        let spin = |_: &[u8]| while cpu_time() < begun + LONGEST + Duration::from_millis(10) {};
        check("spin", &spin, b"");
    }

    #[test]
    #[should_panic(expected = "found")]
    fn a_few_bytes_that_a_target_refuses_are_found() {
        run("nothing", |data| {
            assert!(!data.starts_with(b"\xff"), "found")
        });
    }
}

//! A long run with a constant load and one fault at a time, judged while it runs: it needs no record, so that it may
//! last for hours. It counts delivered events and labelled writes, and measures the memory, threads and files of the
//! clients.
//!
//! ```sh
//! MALLOC_ARENA_MAX=1 ETCD_BLOCKING_SOAK_SECONDS=7200 cargo test --release --test chaos soak::run -- --nocapture
//! ```
//!
//! `ETCD_BLOCKING_SOAK_SECONDS` sets how long faults are injected (8), `ETCD_BLOCKING_SOAK_EVERY` the seconds from one
//! fault to the next (2, or 10 in runs of 10 minutes and more), and `ETCD_BLOCKING_SEED` the seed of their plan (7).

mod labels;
mod load;
mod stream;
mod usage;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::{Client, Get, KeyRange};

use self::labels::Counts;
use self::load::{Load, READERS};
use self::usage::Usage;
use crate::history::Recorders;
use crate::plan::{Plan, Settings, Step};
use crate::run::scene::Scene;
use crate::run::stage::{Stage, wait};
use crate::run::{ONE_AT_A_TIME, setting};
use crate::support::wait::Raise;

const PATIENCE: Duration = Duration::from_secs(60);
/// The history that is kept behind the slowest reader: more than the longest fault.
const KEPT: Duration = Duration::from_secs(60);
const SAMPLES: Duration = Duration::from_secs(1);
/// The memory of a shorter run says nothing about an hour.
const LONG: Duration = Duration::from_secs(600);
/// MiB per hour.
const MAX_SLOPE: f64 = 1.0;
/// The connections of a client to its members differ from time to time; a proxy needs two threads and two files for each.
const VARIATION: usize = 40;

#[test]
fn run() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let lasts = Duration::from_secs(setting("ETCD_BLOCKING_SOAK_SECONDS", 8));
    let every = if lasts < LONG { 2 } else { 10 };
    let every = Duration::from_secs(setting("ETCD_BLOCKING_SOAK_EVERY", every));
    let settings = Settings {
        members: 3,
        secure: true,
        lasts,
    };
    let seed = setting("ETCD_BLOCKING_SEED", 7);
    let plan = Plan::new(seed, settings).spaced(every);
    println!(
        "ETCD_BLOCKING_SEED={seed}, {} faults in {lasts:?}",
        plan.steps.len()
    );
    let dir = format!("soak-{seed}-{}", std::process::id());
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(dir);
    let stage = Arc::new(Stage::new(Recorders::create(&dir), seed));
    let mut scene = Scene::start(&settings, &stage);
    let clients: Vec<Client> = (0..4).map(|_| scene.client(&[0, 1, 2])).collect();
    let load = Load::open(&clients);
    let begun = Instant::now();
    let (mut samples, mut not_caused) = (Vec::new(), 0);
    thread::scope(|scope| {
        let (stage, load) = (&*stage, &load);
        let _at_the_end = [&stage.ending, &stage.over].map(Raise);
        load.start(scope, stage, &clients);
        wait(PATIENCE, "every reader and writer works", || load.idle(20));
        let sampler = scope.spawn(|| sample(stage, load, begun));
        not_caused = play(&mut scene, &plan);
        scene.heal();
        stage.ending.store(true, SeqCst);
        let revision = last_revision(&scene.admin);
        let arrived = wait(PATIENCE, "everything arrived everywhere", || {
            load.missing(revision)
        });
        stage.over.store(true, SeqCst);
        samples = sampler.join().unwrap();
        assert!(arrived, "seed {seed}: {:?}", load.missing(revision));
    });
    let (events, counts) = (load.events(), load.counts());
    let faults = plan.steps.iter().map(faults_of).sum::<usize>();
    println!(
        "{} readers, {events} events: none lost, repeated or out of order\n{} writes: {} succeeded, {} were not \
         executed, {} of unknown outcome, of which {} were executed: none wrong\n{faults} faults ({not_caused} not \
         caused) in {:.0?}",
        READERS,
        counts.all(),
        counts.done,
        counts.not_executed,
        counts.unknown,
        counts.unknown_seen,
        begun.elapsed(),
    );
    judge_usage(&samples, lasts);
    // So that the run cannot be empty.
    let least = setting("ETCD_BLOCKING_CHAOS_MIN_OPS", 10) * lasts.as_secs();
    assert!(counts.done >= least && events >= least * READERS as u64);
    drop(load);
    scene.join();
    std::fs::remove_dir_all(&dir).unwrap();
}

fn faults_of(step: &Step) -> usize {
    1 + usize::from(step.with.is_some())
}

/// Plays the plan. A failure of a reader or writer ends it.
fn play(scene: &mut Scene, plan: &Plan) -> usize {
    let mut failed = 0;
    let begun = Instant::now();
    for step in &plan.steps {
        while begun.elapsed() < step.at && scene.stage.works() {
            thread::sleep(Duration::from_millis(5));
        }
        if !scene.stage.works() {
            break;
        }
        let at = Step {
            at: Duration::ZERO,
            ..*step
        };
        failed += scene.play(&Plan {
            steps: vec![at],
            ..plan.clone()
        });
    }
    failed
}

/// The revision after the last write.
fn last_revision(admin: &Client) -> i64 {
    let mut revision = 0;
    wait(PATIENCE, "the last revision", || {
        match admin.call(Get::key("soak/none")) {
            Ok(read) => {
                revision = read.header().revision.get();
                Vec::new()
            }
            Err(error) => vec![error.to_string()],
        }
    });
    revision
}

/// Samples this process and reports the revision up to which the store may be compacted, until the run is over.
fn sample(stage: &Stage, load: &Load, begun: Instant) -> Vec<Usage> {
    let compacted = stage.reached("truth-readers");
    let mut kept = VecDeque::new();
    let mut samples = Vec::new();
    while !stage.is_over() {
        let now = Instant::now();
        kept.push_back((now, load.slowest()));
        while let Some((at, revision)) = kept.front().copied() {
            if now.duration_since(at) < KEPT {
                break;
            }
            compacted.store(revision, SeqCst);
            kept.pop_front();
        }
        let usage = Usage::sample(begun.elapsed().as_secs_f64());
        if samples.len() % 60 == 0 {
            let Counts { done, unknown, .. } = load.counts();
            println!(
                "{usage:.1?}, {done} writes, {unknown} unknown, {} events",
                load.events()
            );
        }
        samples.push(usage);
        thread::sleep(SAMPLES);
    }
    samples
}

fn judge_usage(samples: &[Usage], lasts: Duration) {
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    // The queues and arenas fill up first.
    let settled = &samples[samples.len() / 6..];
    let slope = usage::slope(settled, |usage| usage.memory);
    let heap = usage::slope(settled, |usage| usage.heap);
    println!(
        "memory {:.1} to {:.1} MiB, {slope:.2} MiB/h; allocated {:.1} to {:.1} MiB, {heap:.2} MiB/h; threads {} to {}, of \
         clients {} to {}; files {} to {}",
        first.memory,
        last.memory,
        first.heap,
        last.heap,
        first.threads,
        last.threads,
        first.clients,
        last.clients,
        first.files,
        last.files,
    );
    assert_eq!(first.clients, last.clients, "the threads of the clients");
    assert!(last.threads <= first.threads + VARIATION && last.files <= first.files + VARIATION);
    if lasts >= 6 * LONG {
        assert!(
            slope < MAX_SLOPE && heap < MAX_SLOPE,
            "{slope} and {heap} MiB/h"
        );
    }
}

/// All keys with their versions, and the revision.
type Listed = (Vec<(Vec<u8>, i64)>, i64);

fn list(client: &Client) -> Listed {
    let list = client.call(Get::range(KeyRange::all())).unwrap();
    let kvs = list.kvs().iter();
    let versions = kvs.map(|kv| (kv.key().to_vec(), kv.version())).collect();
    (versions, list.header().revision.get())
}

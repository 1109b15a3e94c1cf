//! Runs a plan under a load, records everything, and judges the record.
//!
//! `ETCD_BLOCKING_SEED` sets the first seed (7), `ETCD_BLOCKING_CHAOS_SECONDS` how long faults are injected in each
//! run, `ETCD_BLOCKING_CHAOS_SEEDS` the number of seeds (1), `ETCD_BLOCKING_CHAOS_MIN_OPS` the operations per second
//! without which a run is void (10). `ETCD_BLOCKING_CHAOS_KEEP` keeps every history.

mod clients;
mod faults;
mod gateway;
mod readers;
mod replicas;
pub mod scene;
mod seats;
pub mod stage;
mod truth;

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::concurrency::Session;
use etcd_blocking::metrics::Metrics;
use etcd_blocking::{Client, Get, KeyRange, Revision};

use self::clients::Operations;
use self::replicas::Replicas;
use self::scene::Scene;
use self::stage::{Stage, recorded, wait};
use crate::history::{self, Change, Final, History, Line, Recorders, Run, Time, now};
use crate::judge::judge;
use crate::plan::{Plan, Settings, Step};
use crate::support::wait::Raise;

/// The time limit of each condition after the faults.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time in which everything must work again, on a slow and loaded machine.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long a client may not know that its lease was ended for another reason than the clock.
const GRACE: Duration = Duration::from_secs(5);
/// Clients that read and write.
const CLIENTS: u32 = 5;
/// Runs do not compete for the machine.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
    })
}

#[test]
fn one_member_keeps_every_promise_through_a_plan_of_faults() {
    run_all(1, false, 12);
}

#[test]
fn three_members_with_tls_and_users_keep_every_promise_through_a_plan_of_faults() {
    run_all(3, true, 14);
}

fn run_all(members: usize, secure: bool, seconds: u64) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let settings = Settings {
        members,
        secure,
        lasts: Duration::from_secs(setting("ETCD_BLOCKING_CHAOS_SECONDS", seconds)),
    };
    let first = setting("ETCD_BLOCKING_SEED", 7);
    for seed in first..first + setting("ETCD_BLOCKING_CHAOS_SEEDS", 1) {
        run_one(&Plan::new(seed, settings));
    }
}

fn run_one(plan: &Plan) {
    println!("ETCD_BLOCKING_SEED={}, {:?}", plan.seed, plan.settings);
    for (n, step) in plan.steps.iter().enumerate() {
        println!("  {n:3} {step}");
    }
    let name = format!(
        "chaos-{}-{}-{}",
        plan.seed,
        plan.settings.members,
        std::process::id()
    );
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    let figures = record(plan, &dir);
    let history = history::read(&dir);
    let judgement = judge(&history);
    judgement.print(&history);
    figures.print(&history);
    if !judgement.violations.is_empty() {
        judgement.print_violations(&history);
        let count = judgement.violations.len();
        panic!(
            "seed {}: {count} violations; the history is in {}",
            plan.seed,
            dir.display()
        );
    }
    let least = setting("ETCD_BLOCKING_CHAOS_MIN_OPS", 10);
    assert!(
        judgement.answered as u64 >= least * plan.settings.lasts.as_secs(),
        "void: {} answers in {:?}; the history is in {}",
        judgement.answered,
        plan.settings.lasts,
        dir.display()
    );
    if std::env::var_os("ETCD_BLOCKING_CHAOS_KEEP").is_some() {
        println!("the history is in {}", dir.display());
        return;
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// What the clients and proxies counted.
#[derive(Debug, Default)]
struct Figures {
    metrics: Vec<Metrics>,
    connections: usize,
    not_caused: usize,
    took: Duration,
    recovered: Duration,
}

impl Figures {
    fn print(&self, history: &History) {
        let sum = |of: fn(&Metrics) -> u64| self.metrics.iter().map(of).sum::<u64>();
        let begun = history.faults.iter().filter(|fault| fault.begins).count();
        println!(
            "{begun} faults ({} not caused) in {:.1?}, all well after {:.1?}; {} connections, {} retries, {} watch \
             streams, {} watches resumed, {} paused, {} tokens, {} leases lost",
            self.not_caused,
            self.took,
            self.recovered,
            self.connections,
            sum(|metrics| metrics.retries),
            sum(|metrics| metrics.watches.streams),
            sum(|metrics| metrics.watches.resumes),
            sum(|metrics| metrics.watches.pauses),
            sum(|metrics| metrics.tokens.refreshes),
            sum(|metrics| metrics.leases.lost),
        );
    }
}

/// Records a run.
fn record(plan: &Plan, dir: &std::path::Path) -> Figures {
    let begun = Instant::now();
    let stage = Arc::new(Stage::new(Recorders::create(dir), plan.seed));
    let mut scene = Scene::start(&plan.settings, &stage);
    for member in 0..plan.settings.members {
        scene.report_truth(member);
    }
    scene.record.write(Line::Run(Run {
        seed: plan.seed,
        members: plan.settings.members,
        plan: plan.steps.iter().map(Step::to_string).collect(),
        grace: GRACE.as_nanos() as Time,
        recovery: RECOVERY.as_nanos() as Time,
    }));
    let all: Vec<usize> = (0..plan.settings.members).collect();
    let (working, watching, contending) =
        (scene.client(&all), scene.client(&all), scene.client(&all));
    let pinned: Vec<Client> = all.iter().map(|member| scene.client(&[*member])).collect();
    let replicas = Replicas::open(&watching);
    let onlooker = Session::builder(&watching).start().unwrap();
    let observer = seats::observer(&onlooker);
    let mut figures = Figures::default();
    let direct = scene.admin.clone();
    thread::scope(|scope| {
        let (stage, replicas, observer, direct) = (&*stage, &replicas, &observer, &direct);
        // All threads end when this one fails.
        let _at_the_end = [&stage.ending, &stage.over].map(Raise);
        let mut workers = Vec::new();
        for number in 0..CLIENTS {
            // Two clients have all members, and the others one each.
            let client = match number {
                0 | 1 => &working,
                _ => &pinned[number as usize % pinned.len()],
            };
            workers.push(scope.spawn(move || clients::work(stage, client, number)));
        }
        for (number, name, long) in [(10, "l", false), (11, "l", false), (12, "m", true)] {
            let client = &contending;
            workers.push(scope.spawn(move || seats::lock(stage, client, number, name, long)));
        }
        for number in 20..22 {
            let client = &contending;
            workers.push(scope.spawn(move || seats::campaign(stage, client, number)));
        }
        scope.spawn(move || seats::observe(stage, observer));
        scope.spawn(move || replicas.sample(stage));
        for (chain, kind) in readers::Kind::ALL.into_iter().enumerate() {
            let client = &watching;
            scope.spawn(move || readers::follow(stage, client, direct, chain as u32, kind));
        }
        for (member, client) in pinned.iter().enumerate() {
            let chain = 10 + member as u32;
            scope.spawn(move || {
                readers::follow(stage, client, direct, chain, readers::Kind::Listed)
            });
        }
        figures.not_caused = scene.play(plan);
        scene.heal();
        let quiet = now();
        let healed = Instant::now();
        settle(&scene, replicas, quiet, workers);
        figures.recovered = healed.elapsed();
        stage.over.store(true, SeqCst);
    });
    let clients = pinned.iter().chain([&working, &watching, &contending]);
    figures.metrics = clients.map(Client::metrics).collect();
    figures.connections = scene.proxies.iter().map(|proxy| proxy.connections()).sum();
    figures.took = begun.elapsed();
    drop((replicas, observer, onlooker));
    scene.join();
    figures
}

/// After the faults: everything must work again, and everything that was written must arrive everywhere.
fn settle(
    scene: &Scene,
    replicas: &Replicas,
    quiet: Time,
    workers: Vec<thread::ScopedJoinHandle<'_, ()>>,
) {
    let stage = &*scene.stage;
    let before = stage.answers();
    wait(PATIENCE, "every client gets answers again", || {
        let pairs = before.iter().zip(stage.answers()).enumerate();
        let silent = pairs.filter(|(_, (before, now))| **before + 3 > *now);
        silent.map(|(n, _)| format!("client {n}")).collect()
    });
    stage.ending.store(true, SeqCst);
    for worker in workers {
        worker.join().unwrap();
    }
    wait(PATIENCE, "every instance is registered again", || {
        replicas.missing()
    });
    let mut operations = Operations::new(stage, 200);
    let admin = &scene.admin;
    wait(PATIENCE, "the last writes", || {
        let value = Some(format!("{}{}", clients::END, now()));
        let then = clients::end_keys().map(|key| Change {
            key,
            value: value.clone(),
        });
        let put = clients::transact(&mut operations, admin, Vec::new(), Vec::new(), then.into());
        let deleted =
            put.and_then(|_| clients::delete(&mut operations, admin, &clients::end_keys()[1]));
        if deleted.is_some() {
            Vec::new()
        } else {
            vec!["refused".to_owned()]
        }
    });
    let revision = read_all(admin).0;
    wait(PATIENCE, "everything arrived everywhere", || {
        let mut behind = stage.behind(|name| name.starts_with("watch-"), 1);
        behind.extend(stage.behind(|name| name.starts_with("truth-"), revision.get()));
        behind.extend(replicas.behind(revision));
        behind.extend(replicas.missing());
        behind
    });
    let (revision, kvs) = read_all(admin);
    scene.record.write(Line::Final(Final {
        quiet,
        t: now(),
        revision: revision.get(),
        kvs,
    }));
    wait(PATIENCE, "the truth is complete", || {
        stage.behind(|name| name.starts_with("truth-"), revision.get())
    });
    replicas.shots(&stage.file("replicas-end"));
}

/// Everything that the store has.
fn read_all(admin: &Client) -> (Revision, Vec<history::Kv>) {
    let mut read = None;
    wait(PATIENCE, "the last list", || {
        match admin.call(Get::range(KeyRange::all())) {
            Ok(list) => {
                let kvs = list.kvs().iter().map(recorded).collect();
                read = Some((list.header().revision, kvs));
                Vec::new()
            }
            Err(error) => vec![error.to_string()],
        }
    });
    read.expect("the servers answer")
}

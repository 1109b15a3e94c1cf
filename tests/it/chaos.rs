//! Repeated faults of a cluster with TLS and authentication, while many clients write, watch, lock and
//! campaign. All guarantees are checked together.
//!
//! `ETCD_BLOCKING_CHAOS_SECONDS` sets the duration; a fault occurs every five seconds.

mod contenders;
mod counters;
mod faults;
mod histories;
mod seats;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::auth::Permission;
use etcd_blocking::concurrency::{Election, Session};
use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Client, ClientBuilder, KeyRange, Tls};

use self::counters::Counters;
use self::faults::{Fault, Scene};
use self::histories::Watches;
use self::seats::Seat;
use self::tally::Tally;
use crate::support::certs::Authority;
use crate::support::wait::{Raise, eventually};

/// The limit of all waits for conditions.
const PATIENCE: Duration = Duration::from_secs(60);
const SECONDS: &str = "ETCD_BLOCKING_CHAOS_SECONDS";

/// The state that all threads share.
struct Run {
    client: Client,
    tally: Tally,
    counters: Counters,
    /// No new work begins.
    ending: AtomicBool,
    /// The watches are not read any more.
    over: AtomicBool,
    last_seen: AtomicBool,
    /// A resumed leader can revoke leases that were renewed elsewhere while it was stopped.
    leaders_wake: bool,
}

impl Run {
    fn is_running(&self) -> bool {
        !self.ending.load(SeqCst)
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// Another client may hold the keys of this session, so it must be lost. By the clock it detects that
    /// before etcd ends the lease; a revocation by a resumed leader is reported by etcd.
    #[track_caller]
    fn is_lost(&self, session: &Session, why: &str) {
        if self.leaders_wake {
            return eventually(PATIENCE, why, || session.check().err().map(drop));
        }
        assert!(session.check().is_err(), "{why}, but the session lives");
    }

    fn observed_last_leader(&self) {
        self.last_seen.store(true, SeqCst);
    }
}

/// Enables authentication, and returns a client of alice, who may read and write everything below `app/`.
fn with_users(builder: impl Fn() -> ClientBuilder) -> Client {
    let anybody = builder().connect().unwrap();
    anybody.auth().role_add("app").unwrap();
    let permission = Permission::read_write(KeyRange::prefix("app/"));
    anybody
        .auth()
        .role_grant_permission("app", permission)
        .unwrap();
    for (user, role) in [("alice", "app"), ("root", "root")] {
        anybody.auth().user_add(user, "secret").unwrap();
        anybody.auth().user_grant_role(user, role).unwrap();
    }
    anybody.auth().enable().unwrap();
    builder().user("alice", "secret").connect().unwrap()
}

#[test]
fn no_update_event_or_lock_is_lost_or_duplicated_while_leaders_are_killed() {
    run_with_faults(&[Fault::Kill]);
}

#[test]
fn no_update_event_or_lock_is_lost_or_duplicated_while_leaders_pause_and_links_fail() {
    run_with_faults(&[Fault::Freeze, Fault::Cut, Fault::Drop]);
}

fn run_with_faults(faults: &[Fault]) {
    let seconds = std::env::var(SECONDS).map_or(15, |text| text.parse().unwrap());
    let ca = Authority::new("the authority");
    let server = ca.server();
    let cluster = LocalCluster::builder(3)
        .tls(&server.cert, &server.key)
        .arg("--bcrypt-cost=4")
        .start()
        .unwrap();
    let mut scene = Scene::new(cluster);
    let endpoints: Vec<_> = scene
        .proxies
        .iter()
        .map(|proxy| proxy.endpoint().replace("http:", "https:"))
        .collect();
    let tls = || Tls::new().ca_file(ca.ca_file());
    let client = with_users(|| Client::builder(endpoints.clone()).tls(tls()));
    let run = Run {
        client: client.clone(),
        tally: Tally::default(),
        counters: Counters::new(),
        ending: AtomicBool::new(false),
        over: AtomicBool::new(false),
        last_seen: AtomicBool::new(false),
        leaders_wake: faults.iter().any(|t| matches!(t, Fault::Freeze)),
    };
    let watches = Watches::start(&run, seats::OWNERS);
    let locks = ["one", "two"].map(Seat::new);
    let throne = Seat::new("throne");
    let onlooker = Session::builder(&client).start().unwrap();
    let observer = Election::new(&onlooker, contenders::ELECTION)
        .observe()
        .unwrap();

    thread::scope(|scope| {
        let (run, watches, locks, throne) = (&run, &watches, &locks, &throne);
        let everybody = [&run.ending, &run.over, watches.over()];
        let _at_the_end = everybody.map(Raise);
        let followers: [fn(&Watches); 4] = [
            Watches::follow_set,
            Watches::follow_watchers,
            Watches::follow_all,
            Watches::follow_seats,
        ];
        for follow in followers {
            scope.spawn(move || {
                let _ending = Raise(&run.ending);
                follow(watches);
            });
        }
        let observing = scope.spawn(|| contenders::observe(run, &observer));
        let adding: Vec<_> = (0..8)
            .map(|writer| {
                scope.spawn(move || {
                    let _ending = Raise(&run.ending);
                    run.counters.add(run, writer)
                })
            })
            .collect();
        let locking = (0..4).map(|n| {
            scope.spawn(move || {
                let _ending = Raise(&run.ending);
                contenders::lock(run, locks, &format!("locker-{n}"), n);
            })
        });
        let campaigning = (0..3).map(|n| {
            scope.spawn(move || {
                let _ending = Raise(&run.ending);
                contenders::campaign(run, throne, &format!("candidate-{n}"));
            })
        });
        let contending: Vec<_> = locking.chain(campaigning).collect();

        let begun = Instant::now();
        scene.run_faults(run, faults, Duration::from_secs(seconds));
        for seat in locks.iter().chain([throne]) {
            let held = format!("{}: held", seat.name());
            eventually(PATIENCE, &held, || {
                (run.tally.total(&held) > 0 || !run.is_running()).then_some(())
            });
        }
        println!("it lasted {:?}", begun.elapsed());
        run.ending.store(true, SeqCst);
        let attempts: Vec<_> = adding
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        for thread in contending {
            thread.join().unwrap();
        }
        contenders::lead_last(run);
        eventually(PATIENCE, "the observer receives the last leader", || {
            run.last_seen.load(SeqCst).then_some(())
        });
        observing.join().unwrap();

        // Every watch must have delivered the contents of the store.
        let changes = |prefix: &str| -> usize {
            let kvs = client.get_prefix(prefix.to_owned()).unwrap();
            kvs.iter().map(|kv| kv.version() as usize).sum()
        };
        for (histories, prefix) in [
            (&watches.each, counters::PREFIX),
            (&watches.together, counters::PREFIX),
            (&watches.seats, seats::OWNERS),
        ] {
            let expected = changes(prefix);
            eventually(PATIENCE, "watches have seen everything", || {
                (histories.len() >= expected).then_some(())
            });
        }
        for histories in [&watches.each, &watches.together] {
            counters::check(run, &client, &attempts, histories);
        }
        for seat in locks.iter().chain([throne]) {
            seat.check(&client, &watches.seats);
        }
    });
    print!("{}", run.tally);
    let metrics = client.metrics();
    println!(
        "{} retries, {:?}, {:?}",
        metrics.retries, metrics.tokens, metrics.watches
    );
}

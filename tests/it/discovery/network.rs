//! A hundred registrations on a network with many faults: connections are reset, silent in one direction or
//! in both, slow, and delayed; one endpoint is dead, and the resolver never answers for the name of
//! another. While the network works for half of the TTL and the time of a new connection, no registration is lost.
//!
//! A client with a direct connection to etcd watches the keys and decides.
//!
//! `ETCD_BLOCKING_SOAK_SECONDS` sets the duration (15 s), `ETCD_BLOCKING_SEED` the random seed (7).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use etcd_blocking::crossbeam_channel::bounded;
use etcd_blocking::{EventKind, Revision, Watcher};

use crate::support::link_faults::{Link, MAX_LATE, TICK, links, play};

use super::partial_refusal::setting;
use super::*;

const INSTANCES: u16 = 100;
/// The longest time until a silent connection is detected: 5 s until a ping, and 5 s for its answer.
const SILENCE: Duration = Duration::from_secs(12);

/// The states of the registrations and of etcd, sample by sample.
struct Judge {
    direct: Client,
    watcher: Watcher,
    registrations: Vec<Registration>,
    created: BTreeMap<String, Revision>,
    looks: u32,
    suspect: u32,
    /// The last time at which etcd took longer than [`MAX_LATE`] to answer on the direct connection: its disk
    /// stood still, and no network fault was the cause.
    slow: Option<Instant>,
    /// The shortest time that the lease ever had left.
    shortest: Duration,
}

impl Judge {
    fn new(direct: Client, registrations: Vec<Registration>) -> Self {
        let created = created(&direct);
        assert_eq!(created.len(), registrations.len());
        for registration in &registrations {
            registration.states().try_iter().for_each(drop);
        }
        let watcher = direct.watch(KeyRange::prefix("/services/")).unwrap();
        Judge {
            direct,
            watcher,
            registrations,
            created,
            looks: 0,
            suspect: 0,
            slow: None,
            shortest: Duration::MAX,
        }
    }

    /// Checks that all are registered; the error describes the first one that is not.
    fn look(&mut self) -> Result<bool, String> {
        while let Ok(response) = self.watcher.try_recv() {
            for event in response.unwrap().events() {
                if event.kind() != EventKind::Put {
                    return Err(format!("{event:?}"));
                }
            }
        }
        let asked = Instant::now();
        let there = created(&self.direct);
        if asked.elapsed() > MAX_LATE {
            self.slow = Some(Instant::now());
        }
        if there != self.created {
            return Err(format!("{} keys, or others: {there:?}", there.len()));
        }
        let mut suspect = false;
        for registration in &self.registrations {
            let states = registration.states().try_iter();
            for state in states.chain([registration.state()]) {
                match state {
                    State::Registered { valid_until, .. } | State::Suspect { valid_until } => {
                        self.shortest = self.shortest.min(valid_until.remaining());
                        suspect |= matches!(state, State::Suspect { .. });
                    }
                    other => {
                        let why = registration.last_error().map(|error| error.to_string());
                        return Err(format!("{other:?}, {why:?}"));
                    }
                }
            }
        }
        self.looks += 1;
        self.suspect += u32::from(suspect);
        Ok(!suspect)
    }
}

/// The existing keys with their create_revisions.
fn created(client: &Client) -> BTreeMap<String, Revision> {
    let kvs = client.get_prefix("/services/").unwrap().into_iter();
    kvs.map(|kv| (kv.key_lossy().into_owned(), kv.create_revision()))
        .collect()
}

/// Returns `false` when the machine stood still or was overloaded, so that the sample is void.
fn all_stay_registered(count: usize, ttl: Duration) -> bool {
    let etcd = LocalEtcd::start().unwrap();
    let proxies = (0..count).map(|_| Proxy::start(etcd.client_addr()).unwrap());
    let proxies: Vec<Proxy> = proxies.collect();
    let mut endpoints = vec![
        String::from("http://hangs.test:2379"),
        String::from("http://127.0.0.1:1"),
    ];
    endpoints.extend(proxies.iter().map(Proxy::endpoint));
    let (_ends, hangs) = bounded::<()>(0);
    let resolver = move |_: &str| {
        let _ = hangs.recv();
        Err(std::io::Error::other("the test is over"))
    };
    let seed = setting("ETCD_BLOCKING_SEED", 7);
    let lasts = Duration::from_secs(setting("ETCD_BLOCKING_SOAK_SECONDS", 15));
    let ticks = |span: Duration| usize::try_from(span.as_millis() / TICK.as_millis()).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let links = links(count, ticks(ttl), ticks(lasts), &mut random);

    let client = etcd_blocking::local::resolve_with(Client::builder(endpoints), resolver).connect();
    let registrar = Registrar::builder(&client.unwrap())
        .ttl(ttl)
        .start()
        .unwrap();
    let announced = (1..=INSTANCES).map(|n| registrar.announce(web(n)).unwrap());
    let registrations: Vec<Registration> = announced.collect();
    for registration in &registrations {
        registration.wait_registered(SOON).unwrap();
    }
    let mut judge = Judge::new(super::client(&etcd), registrations);
    let (pace, end) = (Pace::start(), Instant::now() + lasts);
    let late = Mutex::new(None);
    let looked = thread::scope(|scope| {
        let (_running, stop) = bounded(0);
        let (links, proxies, late) = (&links, &proxies, &late);
        scope.spawn(move || play(links, proxies, &stop, late));
        let looked = loop {
            thread::sleep(TICK / 2);
            let now = Instant::now();
            match judge.look() {
                Ok(all) if now < end || !all && now < end + SILENCE + pace.delay(end, now) => {}
                Ok(true) => break Ok(()),
                Ok(false) => break Err(String::from("not all are registered again")),
                Err(wrong) => break Err(wrong),
            }
        };
        // A thread that stood still reports it with its next tick.
        thread::sleep(2 * TICK);
        looked
    });
    let late = late.into_inner().unwrap().max(judge.slow);
    let recently = Instant::now().checked_sub(2 * ttl).unwrap();
    let overloaded = pace.delay(recently, Instant::now()) > ttl;
    if looked.is_err() && (overloaded || late.is_some_and(|at| at > recently)) {
        println!("seed {seed}: the machine was overloaded or stood still, and {looked:?}");
        return false;
    }
    let broken = |link: &Link| link.iter().filter(|now| !now.works()).count() * 100 / link.len();
    println!(
        "seed {seed}, {count} links, broken for {:?} %, a time to live of {ttl:?}: {} looks, {} of them \
         suspect, the shortest life was {:.1?}; {:?} connections; all well after {:.1?}",
        links.iter().map(broken).collect::<Vec<_>>(),
        judge.looks,
        judge.suspect,
        judge.shortest,
        proxies.iter().map(Proxy::connections).collect::<Vec<_>>(),
        end.elapsed(),
    );
    looked.unwrap();
    true
}

fn assert_all_stay_registered(links: usize, ttl: u64) {
    let shown = (0..5).any(|_| all_stay_registered(links, Duration::from_secs(ttl)));
    assert!(shown, "the machine is overloaded");
}

// Fault: N1, N2, N3
#[test]
fn no_registration_is_lost_while_the_only_link_works_half_of_the_time() {
    assert_all_stay_registered(1, 6);
}

// Fault: N1, N2, N3
#[test]
fn no_registration_is_lost_while_one_of_two_links_works_half_of_the_time() {
    assert_all_stay_registered(2, 8);
}

//! Mirrors, caches, views and registrations, whose contents and states are read all the time.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::mirror::{Cache, Mirror, Snapshot};
use etcd_blocking::{
    Client, Discovery, Instance, KeyRange, Protection, Registrar, Registration, ServiceView, State,
};

use super::clients::{Operations, PREFIX};
use super::stage::{Stage, recorded};
use crate::history::{Answer, Call, Keys, Kv, Line, Recorder, Sample, Shot, ShotKind, Time, now};

const SERVICE: &str = "/services/a/";
/// The time to live of leases.
pub const TTL: Duration = Duration::from_secs(2);
const INSTANCES: u16 = 4;
const SAMPLES: Duration = Duration::from_millis(20);
/// The time between two readings of all replicas, in samples.
const SHOTS: u32 = 5;

/// Everything that is read.
#[derive(Debug)]
pub struct Replicas {
    mirror: Mirror,
    cache: Cache,
    view: ServiceView,
    registrations: Vec<Registration>,
    _registrar: Registrar,
}

/// The key of an instance.
pub fn service_key(n: u16) -> String {
    format!("{SERVICE}i{n}")
}

impl Replicas {
    pub fn open(client: &Client) -> Self {
        let registrar = Registrar::builder(client).ttl(TTL).start().unwrap();
        let instance = |n| Instance::new("a", format!("10.0.0.{n}:80")).id(format!("i{n}"));
        let registrations = registrar
            .register_all((0..INSTANCES).map(instance))
            .unwrap();
        Replicas {
            mirror: client.mirror(KeyRange::prefix(PREFIX)).unwrap(),
            cache: Cache::open(client, PREFIX).unwrap(),
            view: Discovery::new(client)
                .protection(Protection::off())
                .service("a")
                .unwrap(),
            registrations,
            _registrar: registrar,
        }
    }

    /// Reads everything until the run is over.
    pub fn sample(&self, stage: &Stage) {
        let recorder = stage.file("replicas");
        let samples = stage.file("registrations");
        thread::scope(|scope| {
            scope.spawn(|| self.read_cache(stage));
            for count in 0_u32.. {
                if stage.is_over() {
                    return;
                }
                let begun = Instant::now();
                self.registrations(&samples);
                if count.is_multiple_of(SHOTS) {
                    self.shots(&recorder);
                }
                thread::sleep(SAMPLES.saturating_sub(begun.elapsed()));
            }
        });
    }

    /// Linearizable reads from the memory of the cache.
    fn read_cache(&self, stage: &Stage) {
        let mut operations = Operations::new(stage, 100);
        while stage.works() {
            let call = Call::Range {
                keys: Keys::below(PREFIX),
                serializable: false,
                revision: 0,
            };
            operations.run(call, || {
                let contents = self.cache.linearizable()?;
                Ok(Answer {
                    revision: contents.revision().get(),
                    kvs: kvs(&contents),
                    ..Answer::default()
                })
            });
            thread::sleep(2 * SAMPLES);
        }
    }

    fn registrations(&self, recorder: &Recorder) {
        for (n, registration) in self.registrations.iter().enumerate() {
            let t0 = now();
            let state = registration.state();
            let (lease, revision, until) = match &state {
                State::Registered {
                    lease,
                    revision,
                    valid_until,
                } => {
                    let left = valid_until.remaining().as_nanos() as Time;
                    (lease.get(), revision.get(), now() + left)
                }
                _ => (0, 0, 0),
            };
            let text = format!("{state:?}");
            let word = text.split(|c: char| !c.is_alphanumeric()).next();
            recorder.write(Line::Registration(Sample {
                name: format!("i{n}"),
                key: service_key(n as u16),
                t0,
                t1: now(),
                state: word.unwrap_or_default().to_owned(),
                lease,
                revision,
                until,
            }));
        }
    }

    /// Records the contents of the mirror, the cache and the view.
    pub fn shots(&self, recorder: &Recorder) {
        let stale = [self.mirror.staleness(), self.cache.staleness()];
        let contents: [(&str, &dyn Fn() -> Snapshot); 2] = [
            ("mirror", &|| self.mirror.snapshot()),
            ("cache", &|| self.cache.snapshot()),
        ];
        for ((name, read), stale) in contents.into_iter().zip(stale) {
            let t0 = now();
            let contents = read();
            recorder.write(Line::Shot(Shot {
                name: name.to_owned(),
                kind: ShotKind::Mirror,
                t0,
                t1: now(),
                keys: Keys::below(PREFIX),
                revision: contents.revision().get(),
                kvs: kvs(&contents),
                stale: stale.is_some(),
            }));
        }
        let t0 = now();
        let before = self.view.revision();
        let shown = self.view.snapshot();
        // The revision and the instances are read one after the other.
        if self.view.revision() == before {
            let key = |id: &str| Kv {
                key: format!("{SERVICE}{id}"),
                ..Kv::default()
            };
            recorder.write(Line::Shot(Shot {
                name: "view".to_owned(),
                kind: ShotKind::View,
                t0,
                t1: now(),
                keys: Keys::below(SERVICE),
                revision: before.get(),
                kvs: shown.iter().map(|instance| key(&instance.id)).collect(),
                stale: self.view.staleness().is_some(),
            }));
        }
    }

    /// The registrations that are not registered.
    pub fn missing(&self) -> Vec<String> {
        let states = self.registrations.iter().enumerate();
        let missing = states.filter(|(_, of)| !matches!(of.state(), State::Registered { .. }));
        missing
            .map(|(n, of)| format!("i{n} is {:?}, {:?}", of.state(), of.last_error()))
            .collect()
    }

    /// The replicas that have not reached a revision, or are stale.
    pub fn behind(&self, revision: etcd_blocking::Revision) -> Vec<String> {
        let limit = Duration::from_millis(200);
        let mut behind = Vec::new();
        let mirror = self.mirror.wait_revision(revision, limit);
        behind.extend(mirror.err().map(|error| format!("mirror: {error}")));
        let cache = self.cache.get_at_least(revision, format!("{PREFIX}0"));
        behind.extend(cache.err().map(|error| format!("cache: {error}")));
        if self.cache.revision() < revision || self.cache.staleness().is_some() {
            behind.push(format!("cache at {}", self.cache.revision()));
        }
        let view = self.view.wait_revision(revision, limit);
        behind.extend(view.err().map(|error| format!("view: {error}")));
        for (name, since, why) in [
            ("mirror", self.mirror.staleness(), self.mirror.last_error()),
            ("view", self.view.staleness(), self.view.last_error()),
        ] {
            behind.extend(since.map(|since| format!("{name} is stale since {since:?}: {why:?}")));
        }
        behind
    }
}

fn kvs(contents: &Snapshot) -> Vec<Kv> {
    contents.iter().map(recorded).collect()
}

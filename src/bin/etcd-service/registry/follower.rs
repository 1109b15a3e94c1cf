//! The thread that follows etcd for a registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use etcd_blocking::crossbeam_channel::{Receiver, Select, TryRecvError};
use etcd_blocking::{CatalogChange, Freshness, ServiceCatalog, ServiceView};

use super::newest::Newest;
use super::picture::{BadKey, Picture, ServicePicture};
use super::service_log::ServiceLog;
use super::timeline::{HISTORY, Timeline};

/// The time between two looks at whether the catalog is up to date, for which there is no channel.
const TICK: Duration = Duration::from_millis(250);

/// The shortest time between two pictures.
const PACE: Duration = Duration::from_millis(50);

/// The time between two searches for what is older than an hour.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The largest number of events of all services together, and the most and the fewest of one.
const EVENTS: usize = 60_000;
const EVENTS_OF_SERVICE: (usize, usize) = (50, 2_000);

/// The largest number of keys that are not instances.
const BAD_KEYS: usize = 100;

/// Follows a catalog and a view of each service.
#[derive(Debug)]
pub(super) struct Follower {
    catalog: ServiceCatalog,
    stopped: Receiver<()>,
    newest: Arc<Newest>,
    services: BTreeMap<Arc<str>, Followed>,
    picture: Picture,
    /// Whether the first list of the catalog is being read: what it has was there before.
    is_first_list: bool,
    forgot_at: Instant,
}

#[derive(Debug)]
struct Followed {
    view: ServiceView,
    log: ServiceLog,
    is_changed: bool,
}

impl Follower {
    pub(super) fn new(catalog: ServiceCatalog, stopped: Receiver<()>, newest: Arc<Newest>) -> Self {
        Follower {
            catalog,
            stopped,
            newest,
            services: BTreeMap::new(),
            picture: Picture::unknown(),
            is_first_list: true,
            forgot_at: Instant::now(),
        }
    }

    /// Follows until the registry is dropped or the client is closed.
    pub(super) fn run(mut self) {
        while self.wait() {
            let is_live = self.catalog.freshness() == Freshness::Live;
            let mut is_changed = self.read_names();
            is_changed |= self.read_changes();
            if is_live {
                self.is_first_list = false;
            }
            is_changed |= self.forget();
            is_changed |= self.look_at_catalog();
            if is_changed {
                self.publish();
                thread::sleep(PACE);
            }
            if self.catalog.ended().is_some() {
                return;
            }
        }
    }

    /// Waits until there is something to read. Returns `false` if the registry was dropped.
    fn wait(&self) -> bool {
        let mut select = Select::new();
        select.recv(self.catalog.changes());
        for followed in self.services.values() {
            select.recv(followed.view.changes());
        }
        select.recv(&self.stopped);
        let _ = select.ready_timeout(TICK);
        self.stopped.try_recv() != Err(TryRecvError::Disconnected)
    }

    fn read_names(&mut self) -> bool {
        let mut is_changed = false;
        for change in self.catalog.changes().try_iter() {
            match change {
                CatalogChange::Added(name) if !self.services.contains_key(&name) => {
                    // The name comes from the catalog, so the catalog takes it.
                    let Ok(view) = self.catalog.service(&name) else {
                        continue;
                    };
                    let timeline = Timeline::new(SystemTime::now(), HISTORY, EVENTS);
                    let followed = Followed {
                        view,
                        log: ServiceLog::new(timeline, self.is_first_list),
                        is_changed: true,
                    };
                    self.services.insert(name, followed);
                    is_changed = true;
                }
                CatalogChange::Bad { key, reason } => {
                    let bad = Arc::make_mut(&mut self.picture.bad);
                    if bad.len() >= BAD_KEYS {
                        bad.remove(0);
                    }
                    bad.push(BadKey {
                        at: SystemTime::now(),
                        key: String::from_utf8_lossy(&key).into_owned(),
                        reason,
                    });
                    self.picture.bad_total += 1;
                    is_changed = true;
                }
                // A service without instances stays until its events are an hour old.
                _ => {}
            }
        }
        if is_changed {
            let (fewest, most) = EVENTS_OF_SERVICE;
            let limit = EVENTS / self.services.len().max(1);
            for followed in self.services.values_mut() {
                let timeline = followed.log.timeline_mut();
                timeline.set_limit(limit.clamp(fewest, most));
            }
        }
        is_changed
    }

    fn read_changes(&mut self) -> bool {
        let mut is_changed = false;
        for followed in self.services.values_mut() {
            for change in followed.view.changes().try_iter() {
                followed.log.apply(&change, SystemTime::now());
                followed.is_changed = true;
            }
            is_changed |= followed.is_changed;
        }
        is_changed
    }

    fn forget(&mut self) -> bool {
        if self.forgot_at.elapsed() < FORGET_EVERY {
            return false;
        }
        self.forgot_at = Instant::now();
        let now = SystemTime::now();
        let mut is_changed = false;
        for followed in self.services.values_mut() {
            followed.is_changed |= followed.log.timeline_mut().forget_old(now);
            is_changed |= followed.is_changed;
        }
        let before = (self.services.len(), self.picture.bad.len());
        self.services.retain(|_, followed| !followed.log.is_over());
        let is_old = |bad: &BadKey| now.duration_since(bad.at).is_ok_and(|age| age > HISTORY);
        if self.picture.bad.iter().any(is_old) {
            Arc::make_mut(&mut self.picture.bad).retain(|bad| !is_old(bad));
        }
        is_changed || before != (self.services.len(), self.picture.bad.len())
    }

    fn look_at_catalog(&mut self) -> bool {
        let freshness = self.catalog.freshness();
        let error = self.catalog.last_error().map(|error| error.to_string());
        let is_changed = freshness != self.picture.freshness || error != self.picture.error;
        self.picture.freshness = freshness;
        self.picture.error = error;
        is_changed
    }

    fn publish(&mut self) {
        self.picture.version += 1;
        let version = self.picture.version;
        let services = &mut self.picture.services;
        services.retain(|name, _| self.services.contains_key(name));
        for (name, followed) in &mut self.services {
            if !std::mem::take(&mut followed.is_changed) {
                continue;
            }
            let service = ServicePicture {
                version,
                name: Arc::clone(name),
                instances: followed.log.instances(),
                revision: followed.view.revision(),
                timeline: Arc::clone(followed.log.timeline()),
                counts: followed.log.counts(),
            };
            services.insert(Arc::clone(name), Arc::new(service));
        }
        self.newest.publish(self.picture.clone());
    }
}

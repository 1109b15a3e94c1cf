//! The overrides below a prefix, read once for all views of a discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use super::operator_override::Override;
use super::override_source::OverrideSource;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::rpc::watch::{LatestSet, WatchKey};
use crate::worker::{NextWork, Part, PartHandle, Worker};

/// The overrides of a service, by the ids of the instances.
pub(in crate::discovery) type ServiceOverrides = BTreeMap<String, Override>;

/// Reads the overrides for all views of a discovery. Dropping it ends the reads.
#[derive(Debug)]
pub(in crate::discovery) struct OverrideFeed {
    shared: Arc<Shared>,
    /// Held for its destructor.
    #[expect(dead_code, reason = "its destructor ends the part")]
    part: PartHandle,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Arc<ServiceOverrides>>,
    readers: BTreeMap<u64, ReaderState>,
    last_reader: u64,
}

#[derive(Debug)]
struct ReaderState {
    /// The service that it reads, or `None` for all.
    service: Option<String>,
    /// The services that changed since it read last.
    changed: BTreeSet<String>,
    waker: Option<Waker>,
}

/// The view's end of a feed.
#[derive(Debug)]
pub(in crate::discovery) struct OverrideReader {
    shared: Arc<Shared>,
    number: u64,
}

impl OverrideFeed {
    /// Begins to read the overrides below a prefix.
    pub(in crate::discovery) fn open(client: &Client, prefix: &str) -> Result<Arc<Self>> {
        let worker = Worker::of(client)?;
        let shared = Arc::new(Shared::default());
        let mut source = OverrideSource::new(client, prefix);
        source.start(Instant::now());
        let task = FeedTask {
            client: client.clone(),
            watches: client.latest_set()?,
            generation: 0,
            folder: Override::folder(prefix),
            source,
            shared: Arc::clone(&shared),
        };
        let part = worker.serve(Box::new(task));
        Ok(Arc::new(OverrideFeed { shared, part }))
    }

    /// A reader of the overrides of one service, or of all.
    pub(in crate::discovery) fn reader(&self, service: Option<&str>) -> OverrideReader {
        let mut state = self.shared.0.lock();
        state.last_reader += 1;
        let number = state.last_reader;
        let changed = state.services.keys();
        let changed = changed.filter(|name| service.is_none_or(|service| service == *name));
        let reader = ReaderState {
            service: service.map(str::to_owned),
            changed: changed.cloned().collect(),
            waker: None,
        };
        state.readers.insert(number, reader);
        OverrideReader {
            shared: Arc::clone(&self.shared),
            number,
        }
    }
}

impl OverrideReader {
    /// Takes the services whose overrides changed since the last call, with their overrides.
    pub(in crate::discovery) fn take(&self) -> Vec<(String, Arc<ServiceOverrides>)> {
        let state = &mut *self.shared.0.lock();
        let Some(reader) = state.readers.get_mut(&self.number) else {
            return Vec::new();
        };
        let changed = std::mem::take(&mut reader.changed).into_iter();
        let overrides = |name: &String| state.services.get(name).cloned().unwrap_or_default();
        changed
            .map(|name| {
                let overrides = overrides(&name);
                (name, overrides)
            })
            .collect()
    }

    /// The overrides of a service.
    pub(in crate::discovery) fn of(&self, service: &str) -> Arc<ServiceOverrides> {
        let state = self.shared.0.lock();
        state.services.get(service).cloned().unwrap_or_default()
    }

    /// Wakes the waker once: now, if there are changes, or else when there are some.
    pub(in crate::discovery) fn wake_when_ready(&self, waker: &Waker) {
        let mut state = self.shared.0.lock();
        if let Some(reader) = state.readers.get_mut(&self.number) {
            if !reader.changed.is_empty() {
                drop(state);
                waker.wake_by_ref();
            } else if !reader
                .waker
                .as_ref()
                .is_some_and(|old| old.will_wake(waker))
            {
                reader.waker = Some(waker.clone());
            }
        }
    }
}

impl Drop for OverrideReader {
    fn drop(&mut self) {
        self.shared.0.lock().readers.remove(&self.number);
    }
}

impl Shared {
    /// Replaces the overrides, and wakes the readers of the services that changed.
    fn publish(&self, services: BTreeMap<String, Arc<ServiceOverrides>>) {
        let mut wakers = Vec::new();
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let before = std::mem::replace(&mut state.services, services);
        let names: BTreeSet<&String> = before.keys().chain(state.services.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| before.get(*name) != state.services.get(*name));
        let changed: Vec<String> = changed.cloned().collect();
        for reader in state.readers.values_mut() {
            let of_reader = |name: &&String| reader.service.as_ref().is_none_or(|one| one == *name);
            let concerned: Vec<_> = changed.iter().filter(of_reader).cloned().collect();
            if !concerned.is_empty() {
                reader.changed.extend(concerned);
                wakers.extend(reader.waker.take());
            }
        }
        // A waker takes locks of its own.
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The overrides by service. Malformed ones are left out: the registrar of the instance reports them.
pub(super) fn by_service(
    folder: &str,
    overrides: &BTreeMap<Bytes, Bytes>,
) -> BTreeMap<String, Arc<ServiceOverrides>> {
    let mut services: BTreeMap<String, ServiceOverrides> = BTreeMap::new();
    for (key, value) in overrides {
        let path = std::str::from_utf8(key).ok();
        let path = path.and_then(|key| key.strip_prefix(folder)?.split_once('/'));
        let value = std::str::from_utf8(value).ok();
        let value = value.and_then(|value| value.parse::<Override>().ok());
        if let (Some((service, id)), Some(value)) = (path, value) {
            let of_service = services.entry(service.to_owned()).or_default();
            of_service.insert(id.to_owned(), value);
        }
    }
    services
        .into_iter()
        .map(|(name, all)| (name, Arc::new(all)))
        .collect()
}

/// The worker's side of a feed.
#[derive(Debug)]
struct FeedTask {
    client: Client,
    watches: LatestSet,
    generation: u64,
    folder: String,
    source: OverrideSource,
    shared: Arc<Shared>,
}

impl Part for FeedTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        if self.client.is_closed() {
            return None;
        }
        for (watch, item) in self.watches.take() {
            if watch == WatchKey::SET {
                // The task that served the watches has ended.
                self.watches = self.client.latest_set().ok()?;
                self.source.watch_interrupted(false);
            } else if self.source.is_watched_by(watch) {
                self.source.watch_reported(item.is_err(), now);
            }
        }
        let generation = self.watches.generation();
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.source.watch_interrupted(true);
        }
        if !self.source.work(now, &self.watches).is_empty() {
            self.shared
                .publish(by_service(&self.folder, self.source.all()));
        }
        Some(NextWork(self.source.due(now)))
    }

    fn failed(&mut self, _: &Error) {}

    fn wait(&self, waker: &Waker) {
        self.watches.wake_when_ready(waker);
        self.source.wait(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::status::Status;

    #[test]
    fn overrides_are_sorted_by_service_and_malformed_ones_are_left_out() {
        let raw = |entries: &[(&'static str, &'static str)]| {
            let entries = entries.iter();
            entries
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let all = raw(&[
            ("/s/.ctl/api/a", "draining"),
            ("/s/.ctl/api/b", "weight=3"),
            ("/s/.ctl/api/c", "?"),
            ("/s/.ctl/none", "up"),
            ("/s/.ctl/web/a/b", "up"),
        ]);
        let services = by_service("/s/.ctl/", &all);
        assert_eq!(services.len(), 2);
        let api = &services["api"];
        assert_eq!(api.len(), 2);
        assert_eq!(api["a"], Override::new().status(Status::Draining));
        assert!(services["web"].contains_key("a/b"));
    }

    #[test]
    fn a_reader_is_told_of_its_services_once_for_each_change() {
        let shared = Arc::new(Shared::default());
        let read = |service: Option<&str>| {
            let mut state = shared.0.lock();
            state.last_reader += 1;
            let reader = ReaderState {
                service: service.map(str::to_owned),
                changed: BTreeSet::new(),
                waker: None,
            };
            let number = state.last_reader;
            state.readers.insert(number, reader);
            OverrideReader {
                shared: Arc::clone(&shared),
                number,
            }
        };
        let (api, all) = (read(Some("api")), read(None));
        let names = |reader: &OverrideReader| {
            let taken = reader.take().into_iter();
            taken
                .map(|(name, overrides)| format!("{name} {}", overrides.len()))
                .collect::<Vec<_>>()
        };
        let publish = |keys: &[&'static str]| {
            let keys = keys.iter().map(|key| ((*key).into(), "up".into()));
            shared.publish(by_service("", &keys.collect()));
        };
        publish(&["api/a", "web/a"]);
        assert_eq!(
            (names(&api), names(&all)),
            (vec!["api 1".into()], vec!["api 1".into(), "web 1".into()])
        );
        publish(&["api/a", "web/a"]);
        assert!(
            names(&api).is_empty() && names(&all).is_empty(),
            "nothing changed"
        );
        publish(&["api/a"]);
        assert_eq!(
            (names(&api), names(&all)),
            (vec![], vec!["web 0".to_owned()])
        );
        drop(api);
        assert_eq!(shared.0.lock().readers.len(), 1);
    }
}

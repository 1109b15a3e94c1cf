//! Follows in etcd what a template reads: a view, a catalog or a mirror for each range.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use etcd_blocking::bytes::Bytes;
use etcd_blocking::crossbeam_channel::{Receiver, Select, TryRecvError, bounded};
use etcd_blocking::mirror::Mirror;
use etcd_blocking::{Client, Discovery, Freshness, KeyRange, ServiceCatalog, ServiceView};

use super::contents::{Contents, Instances, Range};
use crate::failure::Failure;
use crate::operator_setting::OperatorSettings;

/// The wait before a range of keys that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

/// The ranges that are followed.
#[derive(Debug)]
pub(super) struct Inputs {
    client: Client,
    discovery: Discovery,
    inputs: BTreeMap<Range, Input>,
}

#[derive(Debug)]
enum Input {
    Services(ServiceCatalog, BTreeMap<String, ServiceView>),
    Service(ServiceView),
    Keys(Mirror),
    /// A mirror that is opened by a thread, because that waits for etcd.
    Opening(Receiver<Result<Mirror, String>>, String),
}

impl Inputs {
    pub(super) fn new(client: Client, discovery: Discovery) -> Self {
        Inputs {
            client,
            discovery: discovery.allow_empty(),
            inputs: BTreeMap::new(),
        }
    }

    /// Follows exactly these ranges.
    pub(super) fn follow(&mut self, ranges: &BTreeSet<Range>) -> Result<(), Failure> {
        self.inputs.retain(|range, _| ranges.contains(range));
        self.add(ranges)
    }

    /// Follows these ranges, too. It does not wait for etcd.
    pub(super) fn add(&mut self, ranges: &BTreeSet<Range>) -> Result<(), Failure> {
        for range in ranges {
            if !self.inputs.contains_key(range) {
                let input = self.open(range)?;
                self.inputs.insert(range.clone(), input);
            }
        }
        Ok(())
    }

    /// Whether all these ranges are followed.
    pub(super) fn has(&self, ranges: &BTreeSet<Range>) -> bool {
        ranges.iter().all(|range| self.inputs.contains_key(range))
    }

    fn open(&self, range: &Range) -> Result<Input, Failure> {
        let keys = match range {
            Range::Services => {
                return Ok(Input::Services(self.discovery.services()?, BTreeMap::new()));
            }
            Range::Service(name) => return Ok(Input::Service(self.discovery.service(name)?)),
            Range::Key(key) => KeyRange::key(key.as_str()),
            Range::Prefix(prefix) => KeyRange::prefix(prefix.as_str()),
        };
        let (sender, receiver) = bounded(1);
        let client = self.client.clone();
        let open = move || loop {
            match client.mirror(keys.clone()) {
                Ok(mirror) => {
                    let _ = sender.send(Ok(mirror));
                    return;
                }
                // Nobody reads: the range is not followed any more.
                Err(error) => match sender.send(Err(error.to_string())) {
                    Ok(()) => thread::sleep(RETRY),
                    Err(_) => return,
                },
            }
        };
        let thread = thread::Builder::new().name("open".into());
        let failed = |error| Failure::failed(format!("start a thread: {error}"));
        thread.spawn(open).map_err(failed)?;
        Ok(Input::Opening(receiver, String::new()))
    }

    /// Adds the channels of the changes to a `Select`.
    pub(super) fn register<'a>(&'a self, select: &mut Select<'a>) {
        for input in self.inputs.values() {
            match input {
                Input::Services(catalog, views) => {
                    select.recv(catalog.changes());
                    for view in views.values() {
                        select.recv(view.changes());
                    }
                }
                Input::Service(view) => {
                    select.recv(view.changes());
                }
                Input::Keys(mirror) => {
                    select.recv(mirror.changes());
                }
                Input::Opening(opening, _) => {
                    select.recv(opening);
                }
            }
        }
    }

    /// Reads all changes. Returns whether there were any.
    pub(super) fn read(&mut self) -> Result<bool, Failure> {
        let mut has_changed = false;
        for input in self.inputs.values_mut() {
            has_changed |= input.read()?;
        }
        Ok(has_changed)
    }

    /// Whether every range is as etcd has it.
    pub(super) fn is_live(&self) -> bool {
        self.inputs.values().all(Input::is_live)
    }

    /// Why a range is not; empty if there is no reason.
    pub(super) fn last_error(&self) -> String {
        let errors = self.inputs.values().map(Input::last_error);
        errors
            .into_iter()
            .find(|error| !error.is_empty())
            .unwrap_or_default()
    }

    /// What is known: the ranges of which etcd answered once. `settings` are those of operators, which a view that was
    /// just opened may not show yet.
    pub(super) fn contents(&mut self, settings: &OperatorSettings) -> Contents {
        let mut contents = Contents::default();
        let of = |view: &ServiceView| -> Instances {
            let instances = view.snapshot();
            instances
                .iter()
                .map(|instance| settings.shown(instance))
                .collect()
        };
        for (range, input) in &mut self.inputs {
            match (range, input) {
                (_, Input::Services(catalog, views)) if catalog.freshness().is_authoritative() => {
                    // After the catalog is known to be complete, so that no service is missing.
                    follow_names(catalog, views);
                    let views = views.iter().map(|(name, view)| (name.clone(), of(view)));
                    let views = views.filter(|(_, all)| !all.is_empty());
                    contents.services = Some(views.collect());
                }
                (Range::Service(name), Input::Service(view))
                    if view.freshness().is_authoritative() =>
                {
                    contents.service.insert(name.clone(), of(view));
                }
                (Range::Key(key), Input::Keys(mirror)) => {
                    let snapshot = mirror.snapshot();
                    let value = snapshot.get(key.as_bytes()).map(|kv| text(kv.value()));
                    contents.key.insert(key.clone(), value);
                }
                (Range::Prefix(prefix), Input::Keys(mirror)) => {
                    let snapshot = mirror.snapshot();
                    let kvs = snapshot.iter();
                    let kvs = kvs.map(|kv| (text(kv.key()), text(kv.value())));
                    contents.prefix.insert(prefix.clone(), kvs.collect());
                }
                _ => {}
            }
        }
        contents
    }
}

/// Opens a view of each service that has instances, and drops the others.
fn follow_names(catalog: &ServiceCatalog, views: &mut BTreeMap<String, ServiceView>) {
    let names: BTreeSet<_> = catalog.names().into_iter().collect();
    views.retain(|name, _| names.contains(name.as_str()));
    for name in names {
        if !views.contains_key(&*name)
            && let Ok(view) = catalog.service(&name)
        {
            views.insert(name.to_string(), view);
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Input {
    fn read(&mut self) -> Result<bool, Failure> {
        match self {
            Input::Services(catalog, views) => {
                let mut has_changed = drained(catalog.changes())?;
                follow_names(catalog, views);
                for view in views.values() {
                    has_changed |= drained(view.changes())?;
                }
                Ok(has_changed)
            }
            Input::Service(view) => drained(view.changes()),
            Input::Keys(mirror) => drained(mirror.changes()),
            Input::Opening(opening, last_error) => {
                match opening.try_recv() {
                    Ok(Ok(mirror)) => *self = Input::Keys(mirror),
                    Ok(Err(error)) => *last_error = error,
                    Err(_) => return Ok(false),
                }
                Ok(true)
            }
        }
    }

    fn is_live(&self) -> bool {
        match self {
            Input::Services(catalog, _) => matches!(catalog.freshness(), Freshness::Live),
            Input::Service(view) => matches!(view.freshness(), Freshness::Live),
            Input::Keys(mirror) => mirror.staleness().is_none(),
            Input::Opening(..) => false,
        }
    }

    fn last_error(&self) -> String {
        let error = match self {
            Input::Services(catalog, _) => catalog.last_error(),
            Input::Service(view) => view.last_error(),
            Input::Keys(mirror) => mirror.last_error(),
            Input::Opening(_, last_error) => return last_error.clone(),
        };
        error.map_or_else(String::new, |error| error.to_string())
    }
}

/// Reads all items of a channel. Returns whether there were any.
fn drained<T>(channel: &Receiver<T>) -> Result<bool, Failure> {
    let mut has_any = false;
    loop {
        match channel.try_recv() {
            Ok(_) => has_any = true,
            Err(TryRecvError::Empty) => return Ok(has_any),
            Err(TryRecvError::Disconnected) => {
                return Err(Failure::failed("the connection to etcd was closed"));
            }
        }
    }
}

//! The addresses of all endpoints, and when each name is looked up. Pure: time and randomness are
//! arguments.
//!
//! An endpoint is a name; dials and failures are recorded for its addresses. An endpoint that is
//! written as an IP address or a socket file has exactly that address. A host name has the
//! addresses of its last successful look-up, and keeps them while later look-ups fail or hang.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address_record::{AddressRecord, SPACING};
use super::connect_error::ConnectError;
use super::endpoint::{Address, Endpoint};
use crate::util::backoff::Backoff;

/// The age after which a name is looked up again before the next dial.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);

/// The waits between failed look-ups; never shorter than `SPACING`.
const LOOK_UP_BACKOFF: Backoff = Backoff::new(SPACING, Duration::from_secs(2));

/// The most addresses kept for one name. DNS names have fewer in practice, and DNS answers are not
/// authenticated.
const MOST_ADDRESSES: usize = 64;

/// The dial rate of one endpoint in an outage, however many addresses it has: one dial in this
/// time, after a burst.
const ENDPOINT_SPACING: Duration = Duration::from_millis(125);
const BURST: u32 = 4;

/// The address that a connection is made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialTarget {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One address of one endpoint.
#[derive(Debug)]
pub(crate) struct AddressEntry {
    /// Its number, which is never reused.
    pub(crate) id: usize,
    /// The number of its endpoint.
    pub(crate) endpoint: usize,
    pub(crate) target: DialTarget,
    pub(crate) record: AddressRecord,
    /// How many connections to it are open.
    connections: usize,
    /// The last look-up did not find it. It is not dialled, and is removed with its last
    /// connection.
    withdrawn: bool,
}

/// One endpoint.
#[derive(Debug)]
struct EndpointEntry {
    number: usize,
    endpoint: Arc<Endpoint>,
    /// The look-up state, if the endpoint is a host name.
    name: Option<NameState>,
    /// When the dial budget of the endpoint is full again.
    full_at: Option<Instant>,
}

/// The look-up state of one host name.
#[derive(Debug)]
struct NameState {
    /// When the running look-up began.
    began: Option<Instant>,
    /// When the next look-up may begin.
    next: Option<Instant>,
    backoff: Backoff,
    /// Why the last look-up failed.
    last_error: Option<ConnectError>,
}

#[derive(Debug)]
pub(crate) struct AddressSet {
    sources: Vec<EndpointEntry>,
    entries: Vec<AddressEntry>,
    next_id: usize,
    /// How long a dial waits for a look-up.
    connect_timeout: Duration,
}

impl EndpointEntry {
    fn new(number: usize, endpoint: Arc<Endpoint>) -> Self {
        let is_name = fixed(&endpoint.address).is_none();
        EndpointEntry {
            number,
            endpoint,
            name: is_name.then_some(NameState {
                began: None,
                next: None,
                backoff: LOOK_UP_BACKOFF,
                last_error: None,
            }),
            full_at: None,
        }
    }
}

/// The address of an endpoint that needs no look-up.
fn fixed(address: &Address) -> Option<DialTarget> {
    match address {
        Address::Unix(path) => Some(DialTarget::Unix(path.clone())),
        Address::Tcp { host, port } => {
            let ip = host.parse::<IpAddr>().ok()?;
            Some(DialTarget::Tcp(SocketAddr::new(ip, *port)))
        }
    }
}

impl AddressSet {
    pub(crate) fn new(endpoints: Vec<(usize, Arc<Endpoint>)>, connect_timeout: Duration) -> Self {
        let mut set = AddressSet {
            sources: Vec::new(),
            entries: Vec::new(),
            next_id: 0,
            connect_timeout,
        };
        set.change(endpoints);
        set
    }

    /// Replaces the endpoints. The records of endpoints that stay are kept.
    pub(crate) fn change(&mut self, endpoints: Vec<(usize, Arc<Endpoint>)>) {
        let mut old = std::mem::take(&mut self.sources);
        for (number, endpoint) in endpoints {
            let known = old.iter().position(|source| source.number == number);
            if let Some(at) = known {
                self.sources.push(old.swap_remove(at));
                continue;
            }
            if let Some(target) = fixed(&endpoint.address) {
                self.add(number, target);
            }
            self.sources.push(EndpointEntry::new(number, endpoint));
        }
        for removed in old {
            self.entries
                .retain(|entry| entry.endpoint != removed.number);
        }
    }

    fn add(&mut self, endpoint: usize, target: DialTarget) {
        let entry = self.new_entry(endpoint, target);
        self.entries.push(entry);
    }

    fn new_entry(&mut self, endpoint: usize, target: DialTarget) -> AddressEntry {
        let id = self.next_id;
        self.next_id += 1;
        AddressEntry {
            id,
            endpoint,
            target,
            record: AddressRecord::new(),
            connections: 0,
            withdrawn: false,
        }
    }

    /// The numbers of the endpoints.
    pub(crate) fn endpoints(&self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        self.sources.iter().map(|source| source.number)
    }

    /// The addresses that may be dialled.
    pub(crate) fn dialable(&self) -> impl Iterator<Item = &AddressEntry> {
        self.entries.iter().filter(|entry| !entry.withdrawn)
    }

    /// The addresses of one endpoint that may be dialled, in the order of the resolver.
    pub(crate) fn of_endpoint(&self, number: usize) -> impl Iterator<Item = &AddressEntry> {
        let is_its = move |entry: &&AddressEntry| entry.endpoint == number;
        self.dialable().filter(is_its)
    }

    pub(crate) fn get(&self, id: usize) -> Option<&AddressEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: usize) -> Option<&mut AddressEntry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// The endpoint number, the endpoint and the target to dial for an address; `None` when the
    /// address or its endpoint was removed.
    pub(crate) fn to_dial(&self, id: usize) -> Option<(usize, Arc<Endpoint>, DialTarget)> {
        let entry = self.get(id).filter(|entry| !entry.withdrawn)?;
        let source = self.source(entry.endpoint)?;
        let target = entry.target.clone();
        Some((entry.endpoint, Arc::clone(&source.endpoint), target))
    }

    /// Records that a dial of an address begins.
    pub(crate) fn dialling(&mut self, id: usize, now: Instant) {
        let Some(entry) = self.get_mut(id) else {
            return;
        };
        entry.record.dialled = Some(now);
        let (endpoint, failing) = (entry.endpoint, entry.record.failing);
        if failing && let Some(source) = self.source_mut(endpoint) {
            let full_at = source.full_at.map_or(now, |at| at.max(now));
            source.full_at = Some(full_at + ENDPOINT_SPACING);
        }
    }

    /// How many failing addresses of an endpoint may be dialled now.
    pub(crate) fn budget(&self, endpoint: usize, now: Instant) -> usize {
        let full_at = self.source(endpoint).and_then(|source| source.full_at);
        let ahead = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let spent = ahead.as_millis().div_ceil(ENDPOINT_SPACING.as_millis());
        (BURST as usize).saturating_sub(usize::try_from(spent).unwrap_or(usize::MAX))
    }

    /// When an endpoint may dial a failing address again.
    pub(crate) fn budget_at(&self, endpoint: usize) -> Option<Instant> {
        let full_at = self.source(endpoint)?.full_at?;
        full_at.checked_sub(ENDPOINT_SPACING * (BURST - 1))
    }

    /// Records that a connection to an address was made.
    pub(crate) fn connected(&mut self, id: usize) {
        if let Some(entry) = self.get_mut(id) {
            entry.connections += 1;
        }
    }

    /// Records that a connection to an address ended.
    pub(crate) fn disconnected(&mut self, id: usize) {
        if let Some(entry) = self.get_mut(id) {
            entry.connections = entry.connections.saturating_sub(1);
        }
        self.entries
            .retain(|entry| !entry.withdrawn || entry.connections > 0);
    }

    /// The endpoints whose names are looked up before a dial at `now`.
    pub(crate) fn due(&self, now: Instant) -> Vec<usize> {
        let is_due =
            |name: &NameState| name.began.is_none() && name.next.is_none_or(|at| at <= now);
        let due = |source: &&EndpointEntry| source.name.as_ref().is_some_and(is_due);
        self.sources
            .iter()
            .filter(due)
            .map(|source| source.number)
            .collect()
    }

    /// When a name without any known address may be looked up.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let unknown = self.sources.iter().filter(|s| !self.has_addresses(s));
        let names = unknown.filter_map(|source| source.name.as_ref());
        let idle = names.filter(|name| name.began.is_none());
        idle.filter_map(|name| name.next).min()
    }

    /// Whether a dial waits for a look-up: one is running, it is not overdue, and every known
    /// address of its name fails.
    pub(crate) fn awaits(&self, now: Instant) -> bool {
        self.sources.iter().any(|source| {
            let began = source.name.as_ref().and_then(|name| name.began);
            let in_time = began.is_some_and(|at| now < at + self.connect_timeout);
            in_time && self.of_endpoint(source.number).all(|e| e.record.failing)
        })
    }

    /// Starts a look-up and returns the host. Returns `None` when one is already running.
    pub(crate) fn begin(&mut self, endpoint: usize, now: Instant) -> Option<String> {
        let source = self.source_mut(endpoint)?;
        let name = source.name.as_mut().filter(|name| name.began.is_none())?;
        name.began = Some(now);
        match &source.endpoint.address {
            Address::Tcp { host, .. } => Some(host.clone()),
            Address::Unix(_) => None,
        }
    }

    /// Whether the name of this address is being looked up.
    pub(crate) fn is_looking_up(&self, id: usize) -> bool {
        let source = self.get(id).and_then(|entry| self.source(entry.endpoint));
        source
            .and_then(|source| source.name.as_ref())
            .is_some_and(|name| name.began.is_some())
    }

    /// Records the result of a look-up. Addresses that are missing from it are removed once they
    /// have no connection. A failed look-up keeps all addresses.
    pub(crate) fn finish(
        &mut self,
        endpoint: usize,
        found: Result<Vec<SocketAddr>, String>,
        now: Instant,
        random: f64,
    ) {
        let Some(source) = self.source_mut(endpoint) else {
            return;
        };
        let port = match &source.endpoint.address {
            Address::Tcp { port, .. } => *port,
            Address::Unix(_) => return,
        };
        let Some(name) = &mut source.name else {
            return;
        };
        name.began = None;
        let found = found.and_then(|found| match found.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok(found),
        });
        match found {
            Ok(found) => {
                name.last_error = None;
                name.backoff.reset();
                name.next = Some(now + LOOK_UP_AGAIN);
                let ported = found.into_iter().map(|mut address| {
                    address.set_port(port);
                    DialTarget::Tcp(address)
                });
                self.set_addresses(endpoint, ported);
            }
            Err(text) => {
                name.last_error = Some(ConnectError::unconnected(format!("name look-up: {text}")));
                name.next = Some(now + name.backoff.next(random).max(SPACING));
            }
        }
    }

    fn set_addresses(&mut self, endpoint: usize, found: impl Iterator<Item = DialTarget>) {
        let entries = std::mem::take(&mut self.entries);
        let is_its = |entry: &AddressEntry| entry.endpoint == endpoint;
        let (mut old, others): (Vec<AddressEntry>, Vec<AddressEntry>) =
            entries.into_iter().partition(is_its);
        let mut new: Vec<AddressEntry> = Vec::new();
        for target in found {
            if new.len() == MOST_ADDRESSES {
                break;
            }
            if new.iter().any(|entry| entry.target == target) {
                continue;
            }
            let known = old.iter().position(|entry| entry.target == target);
            let mut entry = match known {
                Some(at) => old.swap_remove(at),
                None => self.new_entry(endpoint, target),
            };
            entry.withdrawn = false;
            new.push(entry);
        }
        for mut entry in old {
            entry.withdrawn = true;
            if entry.connections > 0 {
                new.push(entry);
            }
        }
        self.entries = others;
        self.entries.append(&mut new);
    }

    /// Records a failure for each look-up that exceeded its time. Its result still counts when it
    /// arrives later.
    pub(crate) fn note_overdue(&mut self, now: Instant) {
        let connect_timeout = self.connect_timeout;
        for name in self.sources.iter_mut().filter_map(|s| s.name.as_mut()) {
            if name.began.is_some_and(|at| at + connect_timeout <= now) {
                let text = format!("name look-up: no answer in {connect_timeout:?}");
                name.last_error = Some(ConnectError::unconnected(text));
            }
        }
    }

    /// The last failure of each address, and of each name without an address.
    pub(crate) fn last_errors(&self) -> Vec<(String, Option<ConnectError>)> {
        let mut errors = Vec::new();
        for source in &self.sources {
            if let (Some(name), false) = (&source.name, self.has_addresses(source)) {
                errors.push((source.endpoint.text.to_string(), name.last_error.clone()));
            }
            for entry in self.of_endpoint(source.number) {
                errors.push((self.label(entry.id), entry.record.last_error.clone()));
            }
        }
        errors
    }

    /// How errors name an address: its endpoint, with the IP address if the endpoint is a host
    /// name.
    pub(crate) fn label(&self, id: usize) -> String {
        let entry = self.get(id);
        let Some((entry, source)) = entry.and_then(|e| Some((e, self.source(e.endpoint)?))) else {
            return String::from("a removed endpoint");
        };
        match (&source.name, &entry.target) {
            (Some(_), DialTarget::Tcp(address)) => {
                format!("{} at {}", source.endpoint.text, address.ip())
            }
            _ => source.endpoint.text.to_string(),
        }
    }

    fn has_addresses(&self, source: &EndpointEntry) -> bool {
        self.of_endpoint(source.number).next().is_some()
    }

    fn source(&self, number: usize) -> Option<&EndpointEntry> {
        self.sources.iter().find(|source| source.number == number)
    }

    fn source_mut(&mut self, number: usize) -> Option<&mut EndpointEntry> {
        let is_it = |source: &&mut EndpointEntry| source.number == number;
        self.sources.iter_mut().find(is_it)
    }
}

#[cfg(test)]
mod tests;

//! The transport: the endpoints of a cluster and the connections to them.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use super::connect::connect_error::ConnectError;
use super::connect::connection::Connection;
use super::connect::connection_role::ConnectionRole;
use super::connect::endpoint::Endpoint;
use super::connect::endpoint_set::EndpointSet;
use super::connect::member_picker::MemberPicker;
use super::connect::pool::{Pool, Pools};
use super::connect::shared_store_identity::SharedStoreIdentity;
use super::settings::TransportSettings;
use crate::error::{Error, ErrorKind};
use crate::observe::Telemetry;
use crate::util::jitter;

/// The endpoints of a cluster and the connections to them.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) endpoints: RwLock<EndpointSet>,
    pub(super) settings: TransportSettings,
    pub(super) picker: Mutex<MemberPicker>,
    /// Reports the end of each name look-up.
    pub(super) looked_up: watch::Sender<()>,
    pub(super) pools: Pools,
    cleanups: Arc<Semaphore>,
    pub(super) store: Arc<SharedStoreIdentity>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// The most clean-ups that run at once. Each one uses memory for as long as the cluster is
/// unreachable.
pub(super) const CLEANUPS: usize = 256;

impl Transport {
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: TransportSettings) -> Arc<Self> {
        Transport::observed(endpoints, settings, Telemetry::new())
    }

    fn observed(
        endpoints: Vec<Endpoint>,
        settings: TransportSettings,
        telemetry: Arc<Telemetry>,
    ) -> Arc<Self> {
        let endpoints = EndpointSet::new(endpoints);
        let connect_timeout = settings.connect_timeout;
        let picker = MemberPicker::new(endpoints.all(), connect_timeout, jitter::fraction());
        Arc::new(Transport {
            endpoints: RwLock::new(endpoints),
            settings,
            picker: Mutex::new(picker),
            looked_up: watch::Sender::new(()),
            pools: Pools::default(),
            cleanups: Arc::new(Semaphore::new(CLEANUPS)),
            store: Arc::default(),
            telemetry,
        })
    }

    /// Creates a transport to one endpoint, with the settings and the telemetry of this one.
    pub(crate) fn aimed_at(&self, endpoint: Endpoint) -> Arc<Self> {
        let telemetry = Arc::clone(&self.telemetry);
        Transport::observed(vec![endpoint], self.settings.clone(), telemetry)
    }

    /// Runs `work`, which undoes a failed call, in the background. Returns `false` and does not run
    /// it when too many are running. A clean-up ends with the runtime at the latest.
    pub(crate) fn clean_up(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = Arc::clone(&self.cleanups).try_acquire_owned() else {
            return false;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        runtime.spawn(async move {
            work.await;
            drop(permit);
        });
        true
    }

    /// Replaces the configured endpoints, and removes the learned ones.
    pub(crate) fn configure(&self, seeds: Vec<Endpoint>) {
        self.change(|endpoints| endpoints.configure(seeds));
    }

    /// Replaces the endpoints that were learned from the cluster. The configured ones stay.
    pub(crate) fn learn(&self, mut found: Vec<Endpoint>) {
        found.retain(|endpoint| self.check(endpoint).is_ok());
        self.change(|endpoints| endpoints.learn(found));
    }

    /// Changes the endpoints. Connections to endpoints that stay are not touched. Connections to
    /// removed endpoints accept no more calls and end after the last answer; their streams move to
    /// another endpoint at once.
    fn change(&self, change: impl FnOnce(&mut EndpointSet)) {
        let mut endpoints = self.endpoints.write();
        change(&mut endpoints);
        let texts = endpoints.texts();
        self.picker.lock().change(endpoints.all());
        drop(endpoints);
        self.keep_only(&texts);
    }

    /// Rejects an endpoint of another scheme, or one that would receive the password or the token
    /// without TLS.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if endpoint.secure != self.is_secure() {
            let scheme = if self.is_secure() { "https" } else { "http" };
            return Err(Error::invalid(format!(
                "the endpoints of this client use {scheme}, and {} does not",
                endpoint.text
            )));
        }
        self.settings.check_plaintext(endpoint)
    }

    /// The number of known addresses; at least one, because a look-up may still be pending.
    pub(crate) fn address_count(&self) -> usize {
        self.picker.lock().address_count().max(1)
    }

    /// Whether a request could use another member than this one.
    pub(super) fn has_others(&self, index: usize) -> bool {
        self.picker.lock().others(index, Instant::now())
    }

    /// The texts of all endpoints.
    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        self.endpoints.read().texts()
    }

    /// Whether the endpoints use TLS: either all do, or none.
    pub(crate) fn is_secure(&self) -> bool {
        self.endpoints.read().is_secure()
    }

    /// The endpoints as one text, for errors that concern all of them.
    pub(crate) fn name(&self) -> Arc<str> {
        let mut texts = self.endpoints();
        match texts.pop() {
            Some(one) if texts.is_empty() => one,
            last => {
                texts.extend(last);
                texts.join(",").into()
            }
        }
    }

    /// The error of a race in which every attempt failed; `last` is its last failure.
    ///
    /// The error is `Tls` only when TLS failed at every address: otherwise an address that is down
    /// may be usable later.
    pub(super) fn round_error(&self, last: Option<ConnectError>) -> ConnectError {
        let errors = self.picker.lock().last_errors();
        let last = last.unwrap_or_else(|| {
            let unknown = "there is no endpoint to connect to";
            ConnectError::unconnected(describe(&errors).unwrap_or_else(|| unknown.into()))
        });
        let is_tls = |(_, error): &(String, Option<ConnectError>)| {
            let kind = error.as_ref().map(|error| error.kind);
            kind == Some(ErrorKind::Tls)
        };
        if !errors.iter().any(is_tls) {
            return last;
        }
        let text = describe(&errors).unwrap_or_default();
        if errors.iter().all(is_tls) {
            return ConnectError::tls(text);
        }
        let kind = match last.kind {
            ErrorKind::Tls => ErrorKind::Unavailable,
            kind => kind,
        };
        ConnectError { kind, text, ..last }
    }

    /// Describes the known failures, for a call that timed out before one of its attempts failed.
    pub(super) fn known_failures(&self) -> Option<String> {
        describe(&self.picker.lock().last_errors())
    }

    /// Stops using the connections to endpoints that are not in this list.
    pub(crate) fn keep_only(&self, texts: &[Arc<str>]) {
        for pool in &self.pools {
            let gone = |connection: &Connection| !texts.contains(&connection.endpoint.text);
            pool.lock().forget(gone);
        }
    }

    pub(crate) fn pool(&self, role: ConnectionRole) -> &Mutex<Pool> {
        let [calls, leases, watches, waits, bulk] = &self.pools;
        match role {
            ConnectionRole::Calls => calls,
            ConnectionRole::Leases => leases,
            ConnectionRole::Watches => watches,
            ConnectionRole::Waits => waits,
            ConnectionRole::Bulk => bulk,
        }
    }

    /// The identity of the store behind the endpoints.
    pub(crate) fn store(&self) -> &Arc<SharedStoreIdentity> {
        &self.store
    }

    /// The telemetry, which counts and traces events.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    pub(crate) fn settings(&self) -> &TransportSettings {
        &self.settings
    }
}

/// Describes the failures of the addresses; without address names when all failures are equal.
fn describe(errors: &[(String, Option<ConnectError>)]) -> Option<String> {
    let text = |error: &Option<ConnectError>| error.as_ref().map(|error| error.text.clone());
    let first = errors.first().and_then(|(_, error)| text(error));
    if first.is_some() && errors.iter().all(|(_, error)| text(error) == first) {
        return first;
    }
    let failed = errors
        .iter()
        .filter_map(|(label, error)| Some((label, text(error)?)));
    let named: Vec<String> = failed
        .map(|(label, text)| format!("{label}: {text}"))
        .collect();
    (!named.is_empty()).then(|| named.join("; "))
}

//! Connections to the members of a cluster, and calls over them.
//!
//! Unary methods go straight over our own connections on `h2`; tonic's generated stubs and codec run
//! over the same for what streams. Connections have roles
//! (`connection_role`), so that a flood of events or of keys delays no call, and nothing delays the
//! renewal of a lease.

mod call;
mod codec;
pub(crate) mod connect;
pub(crate) mod etcd_rs_proto;
mod outline;
mod retry;
mod stream;
mod stubs;
#[cfg(test)]
mod tests;
#[cfg(feature = "__tls")]
pub(crate) mod tls;
mod token;
mod unary;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use crate::error::Error;
pub(crate) use call::{Call, RpcError};
pub(crate) use codec::Codec;
pub(crate) use connect::connect_error::ConnectError;
pub(crate) use connect::connection::{Connection, Limits};
pub(crate) use connect::connection_role::ConnectionRole;
use connect::endpoint::Endpoint;
use connect::endpoint_set::EndpointSet;
use connect::keepalive_task::PingRate;
pub(crate) use connect::member_picker::Demand;
use connect::member_picker::MemberPicker;
use connect::pool::Pools;
pub(crate) use connect::resolver::Resolver;
pub(crate) use connect::store::Store;
pub(crate) use connect::store_identity::{Consistency, Known};
pub(crate) use retry::{Suspicion, suspicion};
pub(crate) use stream::{GrpcStream, Item};
pub(crate) use token::{Identity, Tokens};
pub(crate) use unary::Framed;

use crate::error::ErrorKind;
use crate::observe::Observer;
use crate::util::jitter;

/// The numbers of a transport.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long one connection attempt may take, from the first packet to the server's first answer.
    pub(crate) connect_timeout: Duration,
    /// The head start of each address over the next when they race.
    pub(crate) stagger: Duration,
    pub(crate) resolver: Resolver,
    /// Bytes a server may send on one stream before we read them.
    pub(crate) stream_window: u32,
    /// The same for all streams of a connection.
    pub(crate) connection_window: u32,
    /// The largest reply that is accepted, and the largest request that is sent.
    pub(crate) limits: Limits,
    pub(crate) ping: Arc<PingRate>,
    /// Who the client is; `None` when it is nobody, or whom its certificate names.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// Whether the password or the token may go over connections without TLS.
    pub(crate) plaintext_credentials: bool,
    /// There when the endpoints are under TLS.
    #[cfg(feature = "__tls")]
    pub(crate) tls: Option<Arc<tls::Connector>>,
}

impl Settings {
    pub(crate) fn pings(every: Duration, answer_within: Duration) -> Arc<PingRate> {
        Arc::new(PingRate::new(every, answer_within))
    }

    pub(crate) fn check_plaintext(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let in_the_clear = self.tokens.is_some() && endpoint.is_plaintext();
        if !in_the_clear || self.plaintext_credentials {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "a password or a token would go to {} in the clear; use https, or permit it \
             (ClientBuilder::allow_plaintext_credentials)",
            endpoint.text
        )))
    }
}

/// The way to a cluster.
#[derive(Debug)]
pub(crate) struct Transport {
    endpoints: RwLock<EndpointSet>,
    settings: Settings,
    picker: Mutex<MemberPicker>,
    /// Says that a look-up ended.
    looked_up: watch::Sender<()>,
    pools: Pools,
    cleanups: Arc<Semaphore>,
    store: Arc<Store>,
    observer: Arc<Observer>,
}

/// How many clean-ups run at once: each costs memory for as long as the cluster is out of reach.
const CLEANUPS: usize = 256;

impl Transport {
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: Settings) -> Arc<Self> {
        Transport::observed(endpoints, settings, Observer::new())
    }

    fn observed(
        endpoints: Vec<Endpoint>,
        settings: Settings,
        observer: Arc<Observer>,
    ) -> Arc<Self> {
        let endpoints = EndpointSet::new(endpoints);
        let patience = settings.connect_timeout;
        let picker = MemberPicker::new(endpoints.all(), patience, jitter::fraction());
        Arc::new(Transport {
            endpoints: RwLock::new(endpoints),
            settings,
            picker: Mutex::new(picker),
            looked_up: watch::Sender::new(()),
            pools: Pools::default(),
            cleanups: Arc::new(Semaphore::new(CLEANUPS)),
            store: Arc::default(),
            observer,
        })
    }

    /// A transport to one endpoint, with all else as here.
    pub(crate) fn aimed_at(&self, endpoint: Endpoint) -> Arc<Self> {
        let observer = Arc::clone(&self.observer);
        Transport::observed(vec![endpoint], self.settings.clone(), observer)
    }

    /// Runs what undoes a failed call, in the background. `false` when too many run already; then it
    /// does not run. It ends with the runtime.
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

    /// Replaces the configured endpoints, and forgets those that were learned.
    pub(crate) fn configure(&self, seeds: Vec<Endpoint>) {
        self.change(|endpoints| endpoints.configure(seeds));
    }

    /// Adds what was learned from the cluster to the configured endpoints, in place of what was
    /// learned before.
    pub(crate) fn learn(&self, mut found: Vec<Endpoint>) {
        found.retain(|endpoint| self.check(endpoint).is_ok());
        self.change(|endpoints| endpoints.learn(found));
    }

    /// Connections to endpoints that stay are not touched. Those to endpoints that go take no more
    /// calls and end when the last one is answered; streams leave at once, for another endpoint.
    fn change(&self, change: impl FnOnce(&mut EndpointSet)) {
        let mut endpoints = self.endpoints.write();
        change(&mut endpoints);
        let texts = endpoints.texts();
        self.picker.lock().change(endpoints.all());
        drop(endpoints);
        self.keep_only(&texts);
    }

    /// Refuses an endpoint that must not see what this client sends: one of another scheme, or one to
    /// which the password or the token would go in the clear.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if endpoint.secure != self.is_secure() {
            let scheme = if self.is_secure() { "https" } else { "http" };
            return Err(Error::invalid(format!(
                "the endpoints of this client are {scheme}, and {} is not",
                endpoint.text
            )));
        }
        self.settings.check_plaintext(endpoint)
    }

    /// How many addresses there are to turn to; at least one, for it may not have been found yet.
    pub(crate) fn address_count(&self) -> usize {
        self.picker.lock().address_count().max(1)
    }

    /// Whether a request could go to another member than this one.
    fn has_others(&self, index: usize) -> bool {
        self.picker.lock().others(index, Instant::now())
    }

    /// The texts of all endpoints.
    pub(crate) fn endpoints(&self) -> Vec<Arc<str>> {
        self.endpoints.read().texts()
    }

    /// Whether its endpoints are `https`; they all are, or none is.
    pub(crate) fn is_secure(&self) -> bool {
        self.endpoints.read().is_secure()
    }

    /// The endpoints, for errors that are about all of them.
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

    /// What one round of failed attempts comes to, `last` the last of them.
    ///
    /// Only when TLS fails everywhere is there nothing to wait for: a member that is down may be the
    /// good one.
    fn round(&self, last: Option<ConnectError>) -> ConnectError {
        let faults = self.picker.lock().faults();
        let last = last.unwrap_or_else(|| {
            let unknown = "there is no endpoint to connect to";
            ConnectError::unconnected(describe(&faults).unwrap_or_else(|| unknown.into()))
        });
        let is_tls = |(_, fault): &(String, Option<ConnectError>)| {
            let kind = fault.as_ref().map(|fault| fault.kind);
            kind == Some(ErrorKind::Tls)
        };
        if !faults.iter().any(is_tls) {
            return last;
        }
        let text = describe(&faults).unwrap_or_default();
        if faults.iter().all(is_tls) {
            return ConnectError::tls(text);
        }
        let kind = match last.kind {
            ErrorKind::Tls => ErrorKind::Unavailable,
            kind => kind,
        };
        ConnectError { kind, text, ..last }
    }

    /// What is known to be wrong, for a call that had no time to see it itself.
    fn trouble(&self) -> Option<String> {
        describe(&self.picker.lock().faults())
    }

    /// Which store answers over this transport.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who is told what happens.
    pub(crate) fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// How the addresses failed that did; without their names when all failed in the same way.
fn describe(faults: &[(String, Option<ConnectError>)]) -> Option<String> {
    let text = |fault: &Option<ConnectError>| fault.as_ref().map(|fault| fault.text.clone());
    let first = faults.first().and_then(|(_, fault)| text(fault));
    if first.is_some() && faults.iter().all(|(_, fault)| text(fault) == first) {
        return first;
    }
    let failed = faults
        .iter()
        .filter_map(|(label, fault)| Some((label, text(fault)?)));
    let named: Vec<String> = failed
        .map(|(label, text)| format!("{label}: {text}"))
        .collect();
    (!named.is_empty()).then(|| named.join("; "))
}

/// A message on its way out, with the metadata that every request carries. The token is not among
/// it: the connection adds that itself, so that nothing can be sent without.
pub(crate) fn outgoing<T>(message: T, require_leader: bool) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if require_leader {
        // A member without a leader then refuses at once, instead of holding the request until it
        // times out.
        request.metadata_mut().insert(
            "hasleader",
            tonic::metadata::MetadataValue::from_static("true"),
        );
    }
    request
}

/// The failure behind a status of the generated stubs.
pub(crate) fn classify(status: &tonic::Status) -> call::RpcError {
    let source = std::error::Error::source(status);
    match source.and_then(ConnectError::behind) {
        Some(fault) => call::RpcError::ConnectError(fault.clone()),
        None => call::RpcError::Answer(crate::error::ServerError::read(
            i32::from(status.code()),
            status.message(),
        )),
    }
}

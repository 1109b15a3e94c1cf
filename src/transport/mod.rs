//! Connections to the members of a cluster, and calls over them.
//!
//! Unary methods go straight over our own connections on `h2`; tonic's generated stubs and codec run
//! over the same for what streams. Calls and lease renewals
//! share one connection; watch streams have another, and streams of large ranges a third, so that a
//! flood of events or of keys never delays a call.

mod address_record;
mod address_set;
mod call;
mod codec;
mod connection;
mod dial;
pub(crate) mod endpoint;
mod endpoints;
mod fault;
mod health;
mod mismatch;
mod outline;
mod picker;
mod resolver;
mod retry;
mod single_flight;
pub(crate) mod store;
pub(crate) mod store_identity;
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
pub(crate) use call::{Call, Problem};
pub(crate) use codec::Codec;
pub(crate) use connection::{Connection, Limits};
use endpoint::Endpoint;
use endpoints::Endpoints;
pub(crate) use fault::Fault;
use health::PingRate;
pub(crate) use picker::Demand;
use picker::{Picker, Plan};
pub(crate) use resolver::Resolver;
pub(crate) use retry::{Suspicion, suspicion};
pub(crate) use store::Store;
pub(crate) use store_identity::{Consistency, Known};
pub(crate) use stream::{GrpcStream, Item};
pub(crate) use token::{Identity, Tokens};
pub(crate) use unary::Framed;

use crate::chance;
use crate::error::ErrorKind;
use crate::observe::Observer;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Calls and lease renewals.
    Calls,
    /// Watch streams.
    Watches,
    /// Streams of large ranges.
    Lists,
}

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
    endpoints: RwLock<Endpoints>,
    settings: Settings,
    picker: Mutex<Picker>,
    /// Says that a look-up ended.
    looked_up: watch::Sender<()>,
    calls: Mutex<Current>,
    watches: Mutex<Current>,
    lists: Mutex<Current>,
    cleanups: Arc<Semaphore>,
    store: Arc<Store>,
    observer: Arc<Observer>,
}

/// How many clean-ups run at once: each costs memory for as long as the cluster is out of reach.
const CLEANUPS: usize = 256;

/// The connection of a lane, or the making of one.
#[derive(Debug, Default)]
struct Current {
    connection: Option<Connection>,
    dialling: Option<watch::Receiver<Option<Result<Connection, Fault>>>>,
}

impl Transport {
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: Settings) -> Arc<Self> {
        Transport::observed(endpoints, settings, Observer::new())
    }

    fn observed(
        endpoints: Vec<Endpoint>,
        settings: Settings,
        observer: Arc<Observer>,
    ) -> Arc<Self> {
        let endpoints = Endpoints::new(endpoints);
        let patience = settings.connect_timeout;
        let picker = Picker::new(endpoints.all(), patience, chance::fraction());
        Arc::new(Transport {
            endpoints: RwLock::new(endpoints),
            settings,
            picker: Mutex::new(picker),
            looked_up: watch::Sender::new(()),
            calls: Mutex::default(),
            watches: Mutex::default(),
            lists: Mutex::default(),
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
    fn change(&self, change: impl FnOnce(&mut Endpoints)) {
        let mut endpoints = self.endpoints.write();
        change(&mut endpoints);
        let texts = endpoints.texts();
        self.picker.lock().change(endpoints.all());
        drop(endpoints);
        for lane in [&self.calls, &self.watches, &self.lists] {
            let gone = |connection: &mut Connection| !texts.contains(&connection.endpoint.text);
            lane.lock().connection.take_if(gone);
        }
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

    /// The open connection of a lane, or a new one, for requests that carry the client's token.
    ///
    /// It may wait for as long as no member answers: the caller brings the deadline. An error is
    /// that of one round of attempts; an error that is an answer says that there will be no token,
    /// because name or password are wrong.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        lane: Lane,
        demand: Demand,
    ) -> Result<Connection, Problem> {
        self.identified(demand).await?;
        self.dialled(lane, demand).await.map_err(Problem::Fault)
    }

    /// What [`connection`](Self::connection) would return at once, if it would.
    fn at_hand(&self, lane: Lane) -> Option<Connection> {
        if !self.is_identified() {
            return None;
        }
        let current = self.lane(lane).lock();
        let open = current.connection.as_ref().filter(|c| c.is_open());
        open.cloned()
    }

    /// The same without a token.
    async fn dialled(self: &Arc<Self>, lane: Lane, demand: Demand) -> Result<Connection, Fault> {
        loop {
            let mut outcome = match self.current_or_dial(lane, demand) {
                Ok(connection) => return Ok(connection),
                Err(Next::Outcome(outcome)) => outcome,
                Err(Next::Wait(until)) => {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
            };
            let settled = outcome.wait_for(Option::is_some).await;
            return match settled.ok().and_then(|outcome| outcome.clone()) {
                Some(result) => result,
                None => Err(Fault::unconnected("the connection attempt was dropped")),
            };
        }
    }

    /// A connection that nobody else has, for a stream that goes at its reader's pace: on a shared
    /// one its unread bytes would fill the window of all.
    async fn own_connection(self: &Arc<Self>, demand: Demand) -> Result<Connection, Problem> {
        self.identified(demand).await?;
        loop {
            let plan = self.picker.lock().plan(Instant::now(), demand);
            match plan {
                Plan::Wait(until) => tokio::time::sleep_until(until.into()).await,
                Plan::Dial(start) => {
                    let dialled = dial::race(self, start, demand).await;
                    return dialled.map_err(Problem::Fault);
                }
            }
        }
    }

    fn current_or_dial(self: &Arc<Self>, lane: Lane, demand: Demand) -> Result<Connection, Next> {
        let mut current = self.lane(lane).lock();
        if let Some(connection) = &current.connection {
            if connection.is_open() {
                return Ok(connection.clone());
            }
            // It had worked: its member is suspect, but the first retry is nearly at once.
            let index = connection.index;
            let reason = connection.why_ended();
            self.observer.ejected(&connection.endpoint.text, reason);
            current.connection = None;
            self.picker
                .lock()
                .failed(index, Instant::now(), chance::fraction());
        }
        // A race whose task is gone without a result, because it panicked, is none.
        let dialling = current.dialling.as_ref();
        if let Some(dialling) = dialling.filter(|outcome| outcome.has_changed().is_ok()) {
            return Err(Next::Outcome(dialling.clone()));
        }
        match self.picker.lock().plan(Instant::now(), demand) {
            Plan::Wait(until) => Err(Next::Wait(until)),
            Plan::Dial(start) => {
                let (sender, outcome) = watch::channel(None);
                current.dialling = Some(outcome.clone());
                let transport = Arc::clone(self);
                tokio::spawn(async move {
                    let result = dial::race(&transport, start, demand).await;
                    let mut current = transport.lane(lane).lock();
                    current.dialling = None;
                    current.connection = result.as_ref().ok().cloned();
                    drop(current);
                    sender.send_replace(Some(result));
                });
                Err(Next::Outcome(outcome))
            }
        }
    }

    /// Takes note of what a failure says about the member behind `connection`. The lane lets go of
    /// the connection when there is another member to turn to.
    pub(crate) fn report(&self, lane: Lane, connection: &Connection, suspicion: Suspicion) {
        if self.blame(connection, suspicion) {
            self.observer.ejected(&connection.endpoint.text, suspicion);
            self.let_go(lane, connection);
        }
    }

    /// Takes note of the same, and says whether there is another member to turn to.
    fn blame(&self, connection: &Connection, suspicion: Suspicion) -> bool {
        let (index, now) = (connection.index, Instant::now());
        match suspicion {
            Suspicion::None => false,
            Suspicion::Silent => {
                connection.suspect();
                self.picker.lock().set_aside(index, now)
            }
            Suspicion::Unable => self.picker.lock().set_aside(index, now),
            Suspicion::Learner => self.picker.lock().learner(index, now),
        }
    }

    /// A stream on `connection` was not answered for `waited`: turns to another member, or, when there
    /// is none, to a new connection if nothing at all arrived on this one for that long.
    ///
    /// The second half matters to leases, whose life can be shorter than it takes to ping a server
    /// and be sure: etcd allows a ping only every 5 s.
    pub(crate) fn unanswered(&self, lane: Lane, connection: &Connection, waited: Duration) {
        self.report(lane, connection, Suspicion::Silent);
        if connection.silent_for() >= waited {
            self.let_go(lane, connection);
        }
    }

    /// The open connection that calls go over, if there is one.
    pub(crate) fn calls_connection(&self) -> Option<Connection> {
        self.calls.lock().connection.clone()
    }

    /// The member that calls went to, over `used`, is behind another one: they turn elsewhere, if
    /// there is anybody. Says whether there is one who is known to be there.
    pub(crate) fn behind(&self, used: &Connection) -> bool {
        let current = self.calls_connection();
        if !current.is_some_and(|current| current.is_same(used)) {
            // Calls go elsewhere already, and the answer may have come from there.
            return false;
        }
        if self.picker.lock().behind(used.index, Instant::now()) {
            self.let_go(Lane::Calls, used);
        }
        self.has_others(used.index)
    }

    /// How many addresses there are to turn to; at least one, for it may not have been found yet.
    pub(crate) fn address_count(&self) -> usize {
        self.picker.lock().address_count().max(1)
    }

    /// The next user of the lane gets another connection.
    fn let_go(&self, lane: Lane, connection: &Connection) {
        let mut current = self.lane(lane).lock();
        let is_current = |c: &Connection| c.is_same(connection);
        current.connection.take_if(|current| is_current(current));
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
    fn round(&self, last: Option<Fault>) -> Fault {
        let faults = self.picker.lock().faults();
        let last = last.unwrap_or_else(|| {
            let unknown = "there is no endpoint to connect to";
            Fault::unconnected(describe(&faults).unwrap_or_else(|| unknown.into()))
        });
        let is_tls = |(_, fault): &(String, Option<Fault>)| {
            let kind = fault.as_ref().map(|fault| fault.kind);
            kind == Some(ErrorKind::Tls)
        };
        if !faults.iter().any(is_tls) {
            return last;
        }
        let text = describe(&faults).unwrap_or_default();
        if faults.iter().all(is_tls) {
            return Fault::tls(text);
        }
        let kind = match last.kind {
            ErrorKind::Tls => ErrorKind::Unavailable,
            kind => kind,
        };
        Fault { kind, text, ..last }
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

    fn lane(&self, lane: Lane) -> &Mutex<Current> {
        match lane {
            Lane::Calls => &self.calls,
            Lane::Watches => &self.watches,
            Lane::Lists => &self.lists,
        }
    }
}

/// How the addresses failed that did; without their names when all failed in the same way.
fn describe(faults: &[(String, Option<Fault>)]) -> Option<String> {
    let text = |fault: &Option<Fault>| fault.as_ref().map(|fault| fault.text.clone());
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

/// What to wait for when there is no connection.
enum Next {
    Outcome(watch::Receiver<Option<Result<Connection, Fault>>>),
    Wait(Instant),
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
pub(crate) fn understand(status: &tonic::Status) -> call::Problem {
    let source = std::error::Error::source(status);
    match source.and_then(Fault::behind) {
        Some(fault) => call::Problem::Fault(fault.clone()),
        None => call::Problem::Answer(crate::error::ServerError::read(
            i32::from(status.code()),
            status.message(),
        )),
    }
}

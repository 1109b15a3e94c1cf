//! One health check: what is checked, how often, and how results are counted.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::closure_thread::CheckClosure;
use super::heartbeat::{Heartbeat, Pulse};
use super::plan::{CheckPlan, Source};
use crate::discovery::address;
use crate::error::{Error, Result};
use crate::rpc::probe::{HttpExpectation, Probe, Question};

/// A health check of an instance: what is checked, how often, and how many results in a row count.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `interval` | 10 s | the time between the starts of two probes; varies by 10 % |
/// | `timeout` | 2 s, or the interval if shorter | after this time a probe has failed |
/// | `rise` | 2; heartbeat: 1 | how many successes in a row end a failure |
/// | `fall` | 3; heartbeat: 1 | how many failures in a row begin one |
/// | `start_grace` | 0 s | for how long failures are not counted, until the first success |
/// | `status` | 200 to 299 | the status codes that an HTTP server must send |
/// | `body` | any | a text that the body must contain |
///
/// Until its first success a check is probed every second, or at its interval if that is shorter, and
/// one success suffices. Nothing is checked here; registering a [`Checks`](crate::health::Checks) does.
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::health::Check;
///
/// let ready = Check::http("http://127.0.0.1:8080/ready")
///     .body("\"ready\":true")
///     .interval(Duration::from_secs(5))
///     .fall(2);
/// let port = Check::tcp("127.0.0.1:8080");
/// let disk = Check::run(|| match std::fs::metadata("/var/lib/app") {
///     Ok(_) => Ok(()),
///     Err(error) => Err(error.to_string()),
/// })
/// .name("disk");
/// ```
#[must_use = "it checks nothing until it is registered with an instance"]
pub struct Check {
    name: Option<String>,
    kind: Kind,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    rise: Option<u32>,
    fall: Option<u32>,
    start_grace: Duration,
    status: Option<RangeInclusive<u16>>,
    body: Option<String>,
}

enum Kind {
    Tcp(String),
    Http(String),
    Grpc(String, String),
    Run(Box<CheckClosure>),
    Heartbeat(Duration, Arc<Pulse>),
}

/// Kubernetes' `periodSeconds`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Kubernetes' `timeoutSeconds` is 1 s. TCP sends the first packet of a connection again after 1 s, so
/// that 2 s leave time for one lost packet.
const TIMEOUT: Duration = Duration::from_secs(2);
/// HAProxy's `rise` and `fall`.
const RISE: u32 = 2;
const FALL: u32 = 3;

/// The limits of the settings.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST: u32 = 1000;

impl Check {
    /// Checks that a server accepts connections at `addr`, a `host:port`.
    ///
    /// The connection is closed at once. A server that accepts and does not answer passes; use another
    /// check to notice that.
    pub fn tcp(addr: impl ToString) -> Self {
        Check::of(Kind::Tcp(addr.to_string()))
    }

    /// Checks that an HTTP server answers a GET of `url` with a status of 200 to 299.
    ///
    /// [`status`](Check::status) and [`body`](Check::body) set other conditions. The request is
    /// HTTP/1.1 without TLS. Redirects are not followed. At most 16 KiB of the headers and 64 KiB of the
    /// body are read.
    pub fn http(url: impl Into<String>) -> Self {
        Check::of(Kind::Http(url.into()))
    }

    /// Checks that a gRPC server at `addr` reports that `service` is serving, by the standard service
    /// `grpc.health.v1.Health`. An empty name asks for the server as a whole.
    ///
    /// Each probe has a connection of its own, without TLS.
    pub fn grpc(addr: impl ToString, service: impl Into<String>) -> Self {
        Check::of(Kind::Grpc(addr.to_string(), service.into()))
    }

    /// Checks by a closure: `Ok` is a success, `Err` a failure with its reason.
    ///
    /// The closure runs on a thread of its own, one call at a time. A call that takes longer than the
    /// timeout has failed, and while it hangs, each further probe fails too; other checks do not notice.
    /// A panic is a failure. The thread ends when the registration ends and the last call returns.
    ///
    /// ```
    /// use etcd_blocking::health::Check;
    ///
    /// let check = Check::run(|| {
    ///     let free = 17;
    ///     if free > 10 { Ok(()) } else { Err(format!("{free} connections are free")) }
    /// });
    /// ```
    pub fn run<E: ToString>(
        mut check: impl FnMut() -> std::result::Result<(), E> + Send + 'static,
    ) -> Self {
        let check = move || check().map_err(|error| error.to_string());
        Check::of(Kind::Run(Box::new(check)))
    }

    /// Creates a check that the program reports to be alive: a silence of `within` is a failure.
    ///
    /// It has no interval and no timeout. `rise` and `fall` are 1 if not set: a beat ends a failure, and a
    /// silence begins one.
    pub fn heartbeat(within: Duration) -> (Self, Heartbeat) {
        let pulse = Arc::new(Pulse::default());
        let handle = Heartbeat::new(Arc::clone(&pulse));
        (Check::of(Kind::Heartbeat(within, pulse)), handle)
    }

    fn of(kind: Kind) -> Self {
        Check {
            name: None,
            kind,
            interval: None,
            timeout: None,
            rise: None,
            fall: None,
            start_grace: Duration::ZERO,
            status: None,
            body: None,
        }
    }

    /// Sets the name, which begins the published reason. The default says what is checked, such as
    /// `tcp 127.0.0.1:8080`, or `http` and the URL without its query.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the time between the starts of two probes, from 10 ms to 24 h. Jitter changes it by up to
    /// 10 % in both directions.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the time after which a probe has failed, up to 24 h. A probe that takes longer than the interval
    /// delays the next one: probes of a check never overlap.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how many successes in a row end a failure, from 1 to 1000.
    pub fn rise(mut self, rise: u32) -> Self {
        self.rise = Some(rise);
        self
    }

    /// Sets how many failures in a row begin a failure, from 1 to 1000.
    pub fn fall(mut self, fall: u32) -> Self {
        self.fall = Some(fall);
        self
    }

    /// Sets for how long after the registration failures are not counted. The grace ends at the first
    /// success.
    pub fn start_grace(mut self, grace: Duration) -> Self {
        self.start_grace = grace;
        self
    }

    /// Sets the status codes that an HTTP server must send.
    pub fn status(mut self, status: RangeInclusive<u16>) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets a text that the body of an HTTP reply must contain.
    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    /// The name, or what is checked.
    fn shown_name(&self) -> String {
        match (&self.name, &self.kind) {
            (Some(name), _) => name.clone(),
            (None, Kind::Tcp(addr)) => format!("tcp {addr}"),
            (None, Kind::Http(url)) => format!("http {}", shown_url(url)),
            (None, Kind::Grpc(addr, service)) if service.is_empty() => format!("grpc {addr}"),
            (None, Kind::Grpc(addr, service)) => format!("grpc {addr} {service}"),
            (None, Kind::Run(_)) => "run".into(),
            (None, Kind::Heartbeat(..)) => "heartbeat".into(),
        }
    }

    /// Checks the settings, and fills in the defaults.
    pub(crate) fn plan(self) -> Result<CheckPlan> {
        let name = self.shown_name();
        let refused = |why: String| Error::invalid(format!("the check {name:?}: {why}"));
        let is_http = matches!(self.kind, Kind::Http(_));
        if !is_http && (self.status.is_some() || self.body.is_some()) {
            return Err(refused("only an HTTP check has a status and a body".into()));
        }
        let is_heartbeat = matches!(self.kind, Kind::Heartbeat(..));
        if is_heartbeat && (self.interval.is_some() || self.timeout.is_some()) {
            let why = "a heartbeat has no interval and no timeout; it fails after the silence that \
                       Check::heartbeat sets";
            return Err(refused(why.into()));
        }
        let (rise, fall) = if is_heartbeat { (1, 1) } else { (RISE, FALL) };
        let (rise, fall) = (self.rise.unwrap_or(rise), self.fall.unwrap_or(fall));
        if !(1..=MOST).contains(&rise) || !(1..=MOST).contains(&fall) {
            return Err(refused(format!("rise and fall are from 1 to {MOST}")));
        }
        if self.start_grace > LONGEST {
            return Err(refused(format!("the start grace is at most {LONGEST:?}")));
        }
        let interval = match self.kind {
            Kind::Heartbeat(within, _) => within,
            _ => self.interval.unwrap_or(INTERVAL),
        };
        if !(SHORTEST..=LONGEST).contains(&interval) {
            let what = if is_heartbeat {
                "the silence"
            } else {
                "the interval"
            };
            return Err(refused(format!(
                "{what} is from {SHORTEST:?} to {LONGEST:?}"
            )));
        }
        let timeout = self.timeout.unwrap_or(TIMEOUT.min(interval));
        if timeout.is_zero() || timeout > LONGEST {
            return Err(refused(format!(
                "the timeout is above 0 and at most {LONGEST:?}"
            )));
        }
        let probe = |addr: &str, question| {
            let (host, port) = address::parse(addr)
                .map_err(|why| refused(format!("the address {addr:?} {why}")))?;
            let host = host.to_owned();
            Ok(Source::Probe(Probe {
                host,
                port,
                question,
            }))
        };
        let source = match self.kind {
            Kind::Tcp(addr) => probe(&addr, Question::Connect)?,
            Kind::Grpc(addr, service) => probe(&addr, Question::Serving { service })?,
            Kind::Http(url) => {
                let expected = HttpExpectation {
                    status: self.status.unwrap_or(200..=299),
                    body: self.body,
                };
                let probe = Probe::http(&url, expected);
                let shown = shown_url(&url);
                Source::Probe(probe.map_err(|why| refused(format!("the URL {shown:?} {why}")))?)
            }
            Kind::Run(closure) => Source::Closure(closure),
            Kind::Heartbeat(_, pulse) => Source::Heartbeat(pulse),
        };
        Ok(CheckPlan {
            name,
            source,
            interval,
            timeout,
            rise,
            fall,
            start_grace: self.start_grace,
        })
    }
}

/// A URL without its user and its query, which may hold secrets: the name of a check is published.
fn shown_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_owned();
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}//{host}{path}")
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.shown_name())
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("rise", &self.rise)
            .field("fall", &self.fall)
            .field("start_grace", &self.start_grace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

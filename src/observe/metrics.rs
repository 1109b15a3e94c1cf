//! The metrics of a client as plain numbers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::latencies::Latencies;
use crate::error::ErrorKind;

/// A snapshot of the counters and gauges of a client, from
/// [`Client::metrics`](crate::Client::metrics).
///
/// Counters start at zero when the client is made, include all its clones, and never decrease.
/// Gauges are current values. The numbers are read one after the other while the client works, so
/// they may differ by a call. They contain endpoints, but no keys, values, users or tokens.
///
/// The `Display` output is a few lines for people. For machines, format the numbers as needed, for
/// example for Prometheus:
///
/// ```
/// use std::fmt::Write as _;
/// use std::time::Duration;
/// use etcd_blocking::metrics::Metrics;
///
/// fn prometheus(metrics: &Metrics) -> Result<String, std::fmt::Error> {
///     let mut text = String::new();
///     writeln!(text, "# TYPE etcd_client_calls_total counter")?;
///     for call in &metrics.calls {
///         let verb = call.verb;
///         writeln!(text, "etcd_client_calls_total{{verb=\"{verb}\",outcome=\"ok\"}} {}", call.ok)?;
///         for (kind, count) in &call.errors {
///             writeln!(text, "etcd_client_calls_total{{verb=\"{verb}\",outcome=\"{kind:?}\"}} {count}")?;
///         }
///     }
///     let latency = metrics.latency();
///     writeln!(text, "# TYPE etcd_client_call_seconds histogram")?;
///     for le in [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0] {
///         let below = latency.below(Duration::from_secs_f64(le));
///         writeln!(text, "etcd_client_call_seconds_bucket{{le=\"{le}\"}} {below}")?;
///     }
///     writeln!(text, "etcd_client_call_seconds_bucket{{le=\"+Inf\"}} {}", latency.count())?;
///     writeln!(text, "etcd_client_call_seconds_sum {}", latency.sum().as_secs_f64())?;
///     writeln!(text, "etcd_client_call_seconds_count {}", latency.count())?;
///     writeln!(text, "# TYPE etcd_client_connections gauge")?;
///     for endpoint in &metrics.endpoints {
///         let name = &endpoint.endpoint;
///         writeln!(text, "etcd_client_connections{{endpoint=\"{name}\"}} {}", endpoint.open)?;
///     }
///     writeln!(text, "# TYPE etcd_client_watch_queued_bytes gauge")?;
///     writeln!(text, "etcd_client_watch_queued_bytes {}", metrics.watches.queued_bytes)?;
///     if let Some(slack) = metrics.leases.smallest_slack {
///         writeln!(text, "# TYPE etcd_client_lease_slack_seconds gauge")?;
///         writeln!(text, "etcd_client_lease_slack_seconds {}", slack.as_secs_f64())?;
///     }
///     Ok(text)
/// }
/// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
/// # assert!(prometheus(&client.metrics())?.contains("etcd_client_call_seconds_count 0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// The calls, with one entry for each verb that was used, sorted by verb.
    pub calls: Vec<CallMetrics>,
    /// How many failed attempts were followed by another attempt, in all calls.
    pub retries: u64,
    /// The connections, with one entry for each endpoint that was dialled.
    pub endpoints: Vec<EndpointMetrics>,
    /// The tokens.
    pub tokens: TokenMetrics,
    /// The watches.
    pub watches: WatchMetrics,
    /// The leases that are kept alive.
    pub leases: LeaseMetrics,
    /// The views of services.
    pub views: ViewMetrics,
}

/// The calls of one verb, a part of [`Metrics`].
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// if let Some(put) = client.metrics().call("put") {
///     println!("{} ok, {} failed, p99 {:?}", put.ok, put.failed(), put.latency.quantile(0.99));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallMetrics {
    /// The first word of the errors of these calls, such as `put` for [`Put`](crate::Put) and for
    /// [`Client::put`](crate::Client::put). `range stream` counts the pieces in which
    /// [`pages`](crate::Client::pages) and mirrors stream large ranges.
    pub verb: &'static str,
    /// Calls that returned a response.
    pub ok: u64,
    /// Calls that returned an error, for each kind.
    pub errors: Vec<(ErrorKind, u64)>,
    /// Calls that have started but not ended: a gauge.
    pub in_flight: u64,
    /// The durations of all ended calls, with their retries: until the caller had the result, or
    /// for a submitted request until the result arrived.
    pub latency: Latencies,
}

/// The connections to one endpoint, a part of [`Metrics`].
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for endpoint in client.metrics().endpoints {
///     println!("{}: {} open, {} failed dials", endpoint.endpoint, endpoint.open, endpoint.failed_dials);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointMetrics {
    /// The endpoint, with its scheme.
    pub endpoint: Arc<str>,
    /// Open connections: a gauge. Calls, leases, watches, locks and large ranges have separate
    /// connections.
    pub open: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connection attempts that failed.
    pub failed_dials: u64,
    /// How often the client stopped using the endpoint: its connection broke, it stopped answering,
    /// or it could not serve while another member could.
    pub ejections: u64,
}

/// The tokens of a user, a part of [`Metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenMetrics {
    /// Tokens that were fetched, with the first one.
    pub refreshes: u64,
    /// Attempts to fetch a token that failed.
    pub failures: u64,
}

/// The watches of a client, a part of [`Metrics`]. Each mirror, and each type based on one, has one
/// watch.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let watches = client.metrics().watches;
/// println!("{} open, {} paused, {} bytes queued", watches.open, watches.paused, watches.queued_bytes);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchMetrics {
    /// Open watches: a gauge.
    pub open: u64,
    /// Open watches that are paused on the server because their reader is slow: a gauge.
    pub paused: u64,
    /// Streams that were opened. All watches of a client usually share one.
    pub streams: u64,
    /// How often a watch was resumed after it had lost its server.
    pub resumes: u64,
    /// How often a watch was paused because its reader was slow.
    pub pauses: u64,
    /// Responses that were delivered to readers and to internal tasks.
    pub delivered: u64,
    /// Items that wait for their readers: a gauge.
    pub queued: u64,
    /// The size of those items in bytes: a gauge.
    pub queued_bytes: u64,
}

/// The leases that a client keeps alive, a part of [`Metrics`].
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let leases = client.metrics().leases;
/// println!("{} kept, {} lost, {:?} left at least", leases.kept, leases.lost, leases.smallest_slack);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseMetrics {
    /// Leases that are kept alive: a gauge.
    pub kept: u64,
    /// The time until the first lease expires if no further renewal succeeds: a gauge; `None` when
    /// no lease is kept alive. Normally it is between two thirds of the time to live and all of it.
    pub smallest_slack: Option<Duration>,
    /// Renewals that succeeded.
    pub renewals: u64,
    /// Leases that were lost: they expired, were revoked, or were never confirmed.
    pub lost: u64,
    /// Streams that were opened. All leases of a client usually share one.
    pub streams: u64,
}

/// The views of services, a part of [`Metrics`].
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let views = client.metrics().views;
/// println!("{} of {} audits found a difference", views.repairs, views.audits);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewMetrics {
    /// Audits that compared a view with etcd.
    pub audits: u64,
    /// Audits that found a difference. The view has then listed its service again.
    pub repairs: u64,
    /// Mass expiries, after which a view held instances as suspects.
    pub mass_expiries: u64,
    /// Cache files that were refused, and writes of cache files that failed.
    pub cache_failures: u64,
}

impl Metrics {
    /// Calls of all verbs that ended, with or without an error.
    pub fn finished(&self) -> u64 {
        self.calls.iter().map(|call| call.ok + call.failed()).sum()
    }

    /// Calls of all verbs that returned an error.
    pub fn failed(&self) -> u64 {
        self.calls.iter().map(CallMetrics::failed).sum()
    }

    /// Calls of all verbs that have started but not ended: a gauge.
    pub fn in_flight(&self) -> u64 {
        self.calls.iter().map(|call| call.in_flight).sum()
    }

    /// The durations of the calls of all verbs.
    pub fn latency(&self) -> Latencies {
        let mut all = Latencies::default();
        self.calls.iter().for_each(|call| all.merge(&call.latency));
        all
    }

    /// The calls of one verb, such as `put`; `None` when there was none.
    pub fn call(&self, verb: &str) -> Option<&CallMetrics> {
        self.calls.iter().find(|call| call.verb == verb)
    }

    /// Open connections to all endpoints: a gauge.
    pub fn open_connections(&self) -> u64 {
        self.endpoints.iter().map(|endpoint| endpoint.open).sum()
    }
}

impl CallMetrics {
    /// Calls that returned an error, of any kind.
    pub fn failed(&self) -> u64 {
        self.errors.iter().map(|(_, count)| count).sum()
    }

    /// Calls that returned an error of this kind.
    pub fn failed_with(&self, kind: ErrorKind) -> u64 {
        let of_kind = self.errors.iter().find(|(known, _)| *known == kind);
        of_kind.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in &self.calls {
            write!(f, "{}: {} ok", call.verb, call.ok)?;
            for (kind, count) in &call.errors {
                write!(f, ", {count} {kind:?}")?;
            }
            write!(f, ", {} in flight", call.in_flight)?;
            let quantiles = (call.latency.quantile(0.5), call.latency.quantile(0.99));
            if let (Some(p50), Some(p99)) = quantiles {
                write!(f, ", p50 {p50:?}, p99 {p99:?}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "retries: {}", self.retries)?;
        for at in &self.endpoints {
            writeln!(
                f,
                "{}: {} open, {} opened, {} failed dials, {} ejections",
                at.endpoint, at.open, at.opened, at.failed_dials, at.ejections
            )?;
        }
        let tokens = &self.tokens;
        let (fetched, failed) = (tokens.refreshes, tokens.failures);
        writeln!(f, "tokens: {fetched} fetched, {failed} failures")?;
        let watches = &self.watches;
        writeln!(
            f,
            "watches: {} open, {} paused, {} queued of {} bytes, {} delivered, {} streams, {} resumes, {} pauses",
            watches.open,
            watches.paused,
            watches.queued,
            watches.queued_bytes,
            watches.delivered,
            watches.streams,
            watches.resumes,
            watches.pauses
        )?;
        let leases = &self.leases;
        write!(
            f,
            "leases: {} kept, {} renewals, {} lost, {} streams",
            leases.kept, leases.renewals, leases.lost, leases.streams
        )?;
        if let Some(slack) = leases.smallest_slack {
            write!(f, ", {slack:.1?} left to the first")?;
        }
        let views = &self.views;
        write!(
            f,
            "\nviews: {} audits, {} repairs, {} mass expiries, {} cache failures",
            views.audits, views.repairs, views.mass_expiries, views.cache_failures
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(verb: &'static str, ok: u64, errors: &[(ErrorKind, u64)]) -> CallMetrics {
        CallMetrics {
            verb,
            ok,
            errors: errors.to_vec(),
            in_flight: ok + 1,
            ..CallMetrics::default()
        }
    }

    #[test]
    fn the_sums_are_those_of_all_verbs_and_endpoints() {
        let errors = [(ErrorKind::Timeout, 2), (ErrorKind::Unavailable, 5)];
        let endpoint = |open| EndpointMetrics {
            endpoint: "http://a:1".into(),
            open,
            opened: 9,
            failed_dials: 0,
            ejections: 0,
        };
        let mut metrics = Metrics {
            calls: vec![call("get", 10, &errors), call("put", 20, &[])],
            endpoints: vec![endpoint(3), endpoint(4)],
            ..Metrics::default()
        };
        assert_eq!((metrics.finished(), metrics.failed()), (37, 7));
        assert_eq!((metrics.in_flight(), metrics.open_connections()), (32, 7));
        assert_eq!(metrics.call("put").map(|call| call.ok), Some(20));
        assert!(metrics.call("delete").is_none());
        let get = metrics.call("get").unwrap();
        assert_eq!(get.failed_with(ErrorKind::Unavailable), 5);
        assert_eq!(get.failed_with(ErrorKind::Compacted), 0);
        let text = metrics.to_string();
        assert!(
            text.contains("get: 10 ok, 2 Timeout, 5 Unavailable, 11 in flight\n"),
            "{text}"
        );

        assert_eq!(metrics.latency().count(), 0);
        let buckets = crate::observe::latencies::Buckets::new();
        buckets.count(Duration::from_millis(3));
        for call in &mut metrics.calls {
            call.latency = buckets.snapshot();
        }
        assert_eq!(metrics.latency().count(), 2);
    }
}

//! What a client tells of itself: plain numbers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::latencies::Latencies;
use crate::error::ErrorKind;

/// What a client has done and how it is, as plain numbers at one moment: from
/// [`Client::metrics`](crate::Client::metrics).
///
/// Counters count from when the client was made, for all its clones together, and never go down.
/// Gauges say what is now. The numbers are read one after the other while the client works, so two
/// of them may be a call apart. There is no key, value, user or token in them; endpoints are.
///
/// The `Display` of it is a few lines for people. For machines, write what you need, such as the text
/// that Prometheus reads:
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
    /// Calls, one entry for each verb that was used, in the order of their names.
    pub calls: Vec<CallMetrics>,
    /// Attempts that failed and were followed by another, of all calls.
    pub retries: u64,
    /// Connections, one entry for each endpoint that was dialled.
    pub endpoints: Vec<EndpointMetrics>,
    /// Tokens.
    pub tokens: TokenMetrics,
    /// Watches.
    pub watches: WatchMetrics,
    /// Leases that are kept alive.
    pub leases: LeaseMetrics,
}

/// The calls of one verb, a part of [`Metrics`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallMetrics {
    /// The word that the errors of these calls begin with, such as `put`: of [`Put`](crate::Put), and
    /// of [`Client::put`](crate::Client::put), which makes one. `range stream` counts the pieces that
    /// large ranges were streamed in, by [`pages`](crate::Client::pages) and mirrors.
    pub verb: &'static str,
    /// Calls that got their response.
    pub ok: u64,
    /// Calls that returned an error, by its kind.
    pub errors: Vec<(ErrorKind, u64)>,
    /// Calls that have begun and not ended: a gauge.
    pub in_flight: u64,
    /// How long they took, retries included and however they ended: until the caller had the answer,
    /// or, for a submitted request, until the answer was there.
    pub latency: Latencies,
}

/// The connections to one endpoint, a part of [`Metrics`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointMetrics {
    /// The endpoint, with its scheme.
    pub endpoint: Arc<str>,
    /// Connections that are open: a gauge. Two at most stay: one for calls and leases, and one for
    /// watches.
    pub open: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Attempts to connect that failed.
    pub failed_dials: u64,
    /// How often it was left: its connection broke, it stopped answering, or it could not serve and
    /// there was another.
    pub ejections: u64,
}

/// The tokens of a user, a part of [`Metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenMetrics {
    /// Tokens that were fetched: the first one, and each that replaced one.
    pub refreshes: u64,
    /// Attempts to fetch one that failed.
    pub failures: u64,
}

/// The watches of a client, a part of [`Metrics`]. Mirrors, and what stands on them, have one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchMetrics {
    /// Watches there are: a gauge.
    pub open: u64,
    /// Those of them whose reader is slow, and which pause on the server: a gauge.
    pub paused: u64,
    /// Streams that were opened; all watches of a client share one.
    pub streams: u64,
    /// How often a watch that had lost its server was there again.
    pub resumes: u64,
    /// How often a watch paused because its reader was slow.
    pub pauses: u64,
    /// Responses that were delivered, to readers and to the crate's own tasks.
    pub delivered: u64,
    /// Items that wait for their readers: a gauge.
    pub queued: u64,
    /// The bytes of those: a gauge.
    pub queued_bytes: u64,
}

/// The leases that a client keeps alive, a part of [`Metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseMetrics {
    /// Leases that are kept alive: a gauge.
    pub kept: u64,
    /// The time that is left to the one that ends first if no renewal gets through: a gauge. `None`
    /// when there is none. While all is well it is between two thirds and all of its time to live.
    pub smallest_slack: Option<Duration>,
    /// Renewals that got through.
    pub renewals: u64,
    /// Leases that were lost: they expired, were revoked, or never answered for.
    pub lost: u64,
    /// Streams that were opened; all leases of a client share one.
    pub streams: u64,
}

impl Metrics {
    /// Calls that ended, of all verbs, however they ended.
    pub fn finished(&self) -> u64 {
        self.calls.iter().map(|call| call.ok + call.failed()).sum()
    }

    /// Calls that returned an error, of all verbs.
    pub fn failed(&self) -> u64 {
        self.calls.iter().map(CallMetrics::failed).sum()
    }

    /// Calls that have begun and not ended, of all verbs: a gauge.
    pub fn in_flight(&self) -> u64 {
        self.calls.iter().map(|call| call.in_flight).sum()
    }

    /// How long calls took, of all verbs.
    pub fn latency(&self) -> Latencies {
        let mut all = Latencies::default();
        self.calls.iter().for_each(|call| all.merge(&call.latency));
        all
    }

    /// The calls of one verb, such as `put`; `None` when there was none.
    pub fn call(&self, verb: &str) -> Option<&CallMetrics> {
        self.calls.iter().find(|call| call.verb == verb)
    }

    /// Connections that are open, to all endpoints: a gauge.
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
        match leases.smallest_slack {
            Some(slack) => write!(f, ", {slack:.1?} left to the first"),
            None => Ok(()),
        }
    }
}

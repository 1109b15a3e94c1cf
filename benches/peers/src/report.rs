//! What a peer prints: one line of JSON.

use serde::{Deserialize, Serialize};

/// The figures of one run of one peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The operations in the measured time.
    #[serde(default)]
    pub ops: f64,
    /// The measured time.
    #[serde(default)]
    pub secs: f64,
    /// The median and the 99th percentile of the latency, in microseconds.
    #[serde(default)]
    pub p50: Option<f64>,
    #[serde(default)]
    pub p99: Option<f64>,
    /// CPU time of the process for one operation, in microseconds.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// The highest resident memory of the process, in KiB.
    #[serde(default)]
    pub rss: Option<f64>,
    /// Leases that were lost.
    #[serde(default)]
    pub lost: Option<f64>,
    /// Memory of one more idle client, in KiB.
    #[serde(default)]
    pub per_client: Option<f64>,
    /// Wake-ups of all threads of an idle client in ten seconds.
    #[serde(default)]
    pub wakeups: Option<f64>,
    /// Why there are no figures: the client has no counterpart, or the run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
}

impl Report {
    pub fn none(reason: impl Into<String>) -> Self {
        Self {
            none: Some(reason.into()),
            ..Self::default()
        }
    }

    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }

    pub fn rate(&self) -> Option<f64> {
        (self.none.is_none() && self.secs > 0.0 && self.ops > 0.0).then(|| self.ops / self.secs)
    }
}

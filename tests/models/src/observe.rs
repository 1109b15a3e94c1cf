//! What the modelled files report. Nobody listens.

use crate::error::Error;

pub(crate) trait ReportedQueue: Send + Sync {
    fn waiting(&self) -> Option<(usize, usize)>;
}

#[derive(Debug, Default)]
pub(crate) struct Telemetry;

impl Telemetry {
    pub(crate) fn token_refreshed(&self, _: Option<&Error>) {}
}

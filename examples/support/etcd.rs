//! The etcd that the longer examples use.

use etcd_blocking::config::Config;

use crate::program::Ending;

/// The endpoints in `ETCD_ENDPOINTS`: URLs or `host:port`, separated by commas. `None` when
/// it is not set.
pub(crate) fn endpoints() -> Result<Option<Vec<String>>, Ending> {
    let endpoints = Config::from_env()?.endpoints;
    Ok(Some(endpoints).filter(|endpoints| !endpoints.is_empty()))
}

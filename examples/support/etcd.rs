//! Which etcd the examples talk to.

use crate::program::Ending;

/// The etcd to use, from `ETCD_ENDPOINTS`: URLs or `host:port`, separated by commas. `None` when
/// it is not set.
pub(crate) fn endpoints() -> Result<Option<Vec<String>>, Ending> {
    let Some(list) = std::env::var_os("ETCD_ENDPOINTS").filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let list = list.into_string();
    let list = list.map_err(|_| Ending::Misused("ETCD_ENDPOINTS is not UTF-8".to_owned()))?;
    Ok(Some(list.split(',').map(|e| e.trim().to_owned()).collect()))
}

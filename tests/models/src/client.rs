//! What the worker uses of a client.

use std::sync::Arc;

use crate::error::Result;

/// Has one worker, as its clones do.
#[derive(Debug)]
pub(crate) struct Client;

impl Client {
    pub(crate) fn attached<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        start().map(Arc::new)
    }
}

//! Reading a large range page by page.

use crate::client::Client;
use crate::error::Result;
use crate::kv::{Get, Paging};
use crate::types::{KeyValue, Revision};

/// A large range, read in pages that all show the same revision.
///
/// Each page is one request, made when it is asked for; memory holds one page at a time. When the
/// history it reads from is compacted meanwhile, the next page is an error of the kind
/// [`Compacted`](crate::ErrorKind::Compacted), and the last item.
///
/// ```no_run
/// use etcd_blocking::{Client, Get};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// for page in client.pages(Get::prefix("log/").keys_only(), 10_000)? {
///     for kv in page? {
///         println!("{}", kv.key_lossy());
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing is read until it is iterated"]
pub struct Pages {
    client: Client,
    paging: Paging,
    failed: bool,
}

impl Pages {
    pub(crate) fn new(client: Client, get: Get, size: u32) -> Result<Self> {
        Ok(Pages {
            client,
            paging: Paging::new(get, size)?,
            failed: false,
        })
    }

    /// The revision that all pages show; known after the first.
    pub fn revision(&self) -> Option<Revision> {
        self.paging.revision()
    }
}

impl Iterator for Pages {
    type Item = Result<Vec<KeyValue>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let request = self.paging.next()?;
        match self.client.call(request) {
            Ok(response) => Some(Ok(self.paging.take(response))),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

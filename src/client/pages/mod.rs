//! Large ranges, read in pages at one revision.

mod pump;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Get, Paging, RangeStreamAttempts, RangeStreamEnd, key_too_large};
use crate::types::{KeyValue, Revision};
use pump::PATIENCE;
pub(crate) use pump::{PageRead, Piece, pump};

/// The pages of a large range, all at the same revision.
///
/// The first page is one request, and the only one when it holds all keys. Where the server has range
/// streams (etcd 3.7), the other pages are one stream at the revision of the first page; elsewhere each
/// page is a request at that revision. The pages are the same. A stream costs the server less, because
/// the server counts all remaining keys for every request.
///
/// A page over the [`receive_limit`](crate::ClientBuilder::receive_limit) is requested again with fewer
/// keys; later pages grow again. A single key over the limit is an error of the kind
/// [`TooLarge`](crate::ErrorKind::TooLarge) that names the key.
///
/// A stream is read ahead by one or two pages, and memory holds at most four. For a reader that takes
/// longer than half a second for a page, the client stops reading ahead: each page is then a request,
/// sent when the reader requests it. After a stream breaks, the next one continues after the last key,
/// without an effect on the pages. A stream has a connection of its own, so that it never delays a call.
///
/// When the history of the revision is compacted meanwhile, the last item is an error of the kind
/// [`Compacted`](crate::ErrorKind::Compacted) that names the revision. An error is always the last item.
/// Each page blocks for at most the client's [timeout](Client::timeout).
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
    ahead: Option<mpsc::Receiver<Piece>>,
    range_streams: RangeStreamAttempts,
    /// The time at which the last page was returned.
    handed: Option<Instant>,
}

impl Pages {
    pub(crate) fn new(client: Client, get: Get, size: u32) -> Result<Self> {
        Ok(Pages {
            client,
            paging: Paging::new(get, size)?,
            failed: false,
            ahead: None,
            range_streams: RangeStreamAttempts::default(),
            handed: None,
        })
    }

    /// Returns the revision of all pages, which is known after the first page.
    pub fn revision(&self) -> Option<Revision> {
        self.paging.revision()
    }

    /// Reads the next page of the stream, if one is open.
    fn streamed(&mut self, begun: Instant) -> Option<Vec<KeyValue>> {
        // The first page is a request, and so are all pages of a slow reader.
        let quick = self.handed.is_some_and(|at| begun - at < PATIENCE);
        if self.ahead.is_none() && quick && self.range_streams.may_try() {
            let get = self.paging.stream()?;
            self.ahead = self.client.read_ahead(get, self.paging.size()).ok();
        }
        // The other half of the timeout is for a request, if the stream fails.
        let within = self.client.timeout() / 2;
        let (ahead, piece) = self.client.await_piece(self.ahead.take()?, within).ok()?;
        match piece {
            Some(Some(Piece::Page(page))) => {
                self.ahead = Some(ahead);
                self.range_streams.succeeded();
                self.paging.advance(&page, true);
                Some(page)
            }
            // The last page can be empty: the range ended with a full page.
            Some(Some(Piece::Last(page))) => {
                self.paging.advance(&page, false);
                (!page.is_empty()).then_some(page)
            }
            Some(Some(Piece::Ended(ended))) => {
                self.range_streams.failed(ended);
                None
            }
            // Ended because the reader was slow, which is not a failure of the stream.
            Some(None) => None,
            None => {
                self.range_streams.failed(RangeStreamEnd::Failed);
                None
            }
        }
    }

    /// Reads the next page by a request, within the remaining time.
    fn requested(&mut self, mut request: Get, begun: Instant) -> Result<Vec<KeyValue>> {
        let client = self.client.clone();
        let left = || client.timeout().saturating_sub(begun.elapsed());
        loop {
            match client.with_timeout(left()).call(request) {
                Ok(response) => return Ok(self.paging.take(response)),
                Err(error) => {
                    if self.paging.shrink(&error)
                        && let Some(smaller) = self.paging.next()
                    {
                        // The same page, with fewer keys, within the same timeout.
                        request = smaller;
                        continue;
                    }
                    self.failed = true;
                    return Err(self.explain(error, left()));
                }
            }
        }
    }

    #[cold]
    fn explain(&self, error: Error, left: Duration) -> Error {
        match (error.kind(), self.paging.revision()) {
            (ErrorKind::Compacted, Some(at)) => compacted(error, at),
            (ErrorKind::TooLarge, _) => {
                let name = self.paging.name_of_next();
                let name = name.map(|name| self.client.with_timeout(left).call(name));
                match name {
                    Some(Ok(name)) => key_too_large(error, &name),
                    _ => error,
                }
            }
            _ => error,
        }
    }
}

#[cold]
fn compacted(error: Error, at: Revision) -> Error {
    error.reason(format!(
        "revision {at}, at which all pages are read, is compacted: the remaining pages cannot be read"
    ))
}

impl Iterator for Pages {
    type Item = Result<Vec<KeyValue>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.paging.is_done() {
            return None;
        }
        let begun = Instant::now();
        let page = match self.streamed(begun) {
            Some(page) => Ok(page),
            None => {
                let request = self.paging.next()?;
                self.requested(request, begun)
            }
        };
        self.handed = Some(Instant::now());
        Some(page)
    }
}

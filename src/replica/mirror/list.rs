//! List of a key range at one revision, read in pages.

use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contents::Snapshot;
use super::free::free_later;
use super::key_tree::{KeyTree, Remains};
use crate::error::{Error, ErrorKind, Result};
use crate::grpc::Transport;
use crate::observe::Underway;
use crate::rpc::kv::{
    Get, GetResponse, Paging, RangeStream, RangeStreamAttempts, RangeStreamEnd, key_too_large,
};
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::sealed::Rpc as _;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// Keys per page of the first attempt.
const PAGE: u32 = 1000;

/// Growth of the page size when the revision of a list is compacted before its last page. Compaction cannot
/// interrupt a list of one page, so a list succeeds however often the store is compacted.
const GROWTH: u32 = 4;

/// The number of key values that are added to a list in one step. A step takes less than a millisecond.
const STEP: usize = 1024;

/// Maximum number of restarts because the store was replaced during the list.
const MAX_REPLACED: u32 = 3;

/// All key values of a range at one revision.
#[derive(Debug)]
pub(super) struct List {
    pub(super) contents: Snapshot,
    /// The epoch of the listed store.
    pub(super) epoch: u64,
}

/// Parameters of a list.
#[derive(Clone)]
pub(super) struct Lister {
    pub(super) transport: Arc<Transport>,
    pub(super) range: KeyRange,
    pub(super) namespace: Option<Namespace>,
    /// Timeout of each page.
    pub(super) timeout: Duration,
}

/// The key values of the pages that were read.
#[derive(Default)]
struct Pages {
    keys: KeyTree,
    /// The key value that was modified last.
    newest: Option<KeyValue>,
}

impl Pages {
    /// Adds the key values of a page. Other tasks run in between, because a page can have many thousands.
    async fn extend(&mut self, page: Vec<KeyValue>) {
        for (n, kv) in page.into_iter().enumerate() {
            if n % STEP == STEP - 1 {
                tokio::task::yield_now().await;
            }
            self.add(&kv);
        }
    }

    fn add(&mut self, kv: &KeyValue) {
        // A listed key is a slice of the reply, which it would keep in memory.
        let kv = kv.detached();
        let newest = self.newest.as_ref().map(KeyValue::mod_revision);
        if newest < Some(kv.mod_revision()) {
            self.newest = Some(kv.clone());
        }
        self.keys.insert(kv);
    }
}

impl Drop for Pages {
    /// Of a list that ended early, or whose mirror was dropped.
    fn drop(&mut self) {
        free_later(Remains::new(take(&mut self.keys)));
    }
}

impl Lister {
    /// Lists the range. A list whose revision is compacted before its last page is restarted, until
    /// `give_up` has passed.
    pub(super) async fn list(&self, give_up: Option<Instant>) -> Result<List> {
        let mut page = PAGE;
        let mut replaced = 0;
        loop {
            // Compared after the list: pages of two stores do not make one list.
            let epoch = self.transport.store().epoch();
            match self.list_once(page).await {
                Ok((mut pages, revision)) => {
                    let store = self.transport.store();
                    if store.epoch() == epoch && !store.is_rewind_suspected() {
                        self.record(pages.newest.take(), revision, epoch);
                        let contents = Snapshot::new(take(&mut pages.keys), revision);
                        return Ok(List { contents, epoch });
                    }
                    // The pages may be of two stores.
                    replaced += 1;
                    if replaced > MAX_REPLACED {
                        let reason = "the store was replaced during each of 4 attempts to list it";
                        return Err(Error::new(ErrorKind::Unavailable, reason));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Compacted => {
                    if give_up.is_some_and(|give_up| give_up <= Instant::now()) {
                        return Err(error);
                    }
                    // Larger pages need fewer requests, so the list ends before the next
                    // compaction.
                    page = page.saturating_mul(GROWTH);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records the key that was modified last, by which a replaced store is recognised.
    fn record(&self, newest: Option<KeyValue>, revision: Revision, epoch: u64) {
        let Some(newest) = newest else { return };
        let mut key = newest.key().clone();
        if let Some(namespace) = &self.namespace {
            namespace.enter_name(&mut key);
        }
        let store = self.transport.store();
        store.listed(epoch, &key, newest.mod_revision().get(), revision.get());
    }

    async fn list_once(&self, page: u32) -> Result<(Pages, Revision)> {
        let mut paging = Paging::new(Get::range(self.range.clone()), page)?;
        let mut list = Pages::default();
        let mut attempts = RangeStreamAttempts::default();
        while let Some(get) = paging.next() {
            match self.page(get).await {
                Ok(answer) => list.extend(paging.take(answer)).await,
                // The page is over the receive limit: it is requested again with fewer keys.
                Err(error) if paging.shrink(&error) => continue,
                Err(error) => return Err(self.explain(error, &paging).await),
            }
            if let Some(rest) = paging.stream().filter(|_| attempts.may_try())
                && let Err(ended) = self
                    .stream(rest, &mut paging, &mut list, &mut attempts)
                    .await
            {
                // The next page is a request, whose error has the reason.
                attempts.failed(ended);
            }
        }
        Ok((list, paging.revision().unwrap_or_default()))
    }

    async fn page(&self, get: Get) -> Result<GetResponse> {
        let transport = Arc::clone(&self.transport);
        let call = Underway::begin(transport.telemetry(), get.verb(), || get.operation());
        let namespace = self.namespace.as_ref();
        let running = request::execute(get, namespace, transport, self.timeout);
        request::run(call, Box::pin(running)).await
    }

    /// Adds the name of the key that is too large for a reply to a `TooLarge` error.
    async fn explain(&self, error: Error, paging: &Paging) -> Error {
        match paging.name_of_next() {
            Some(name) if error.kind() == ErrorKind::TooLarge => match self.page(name).await {
                Ok(name) => key_too_large(error, &name),
                Err(_) => error,
            },
            _ => error,
        }
    }

    /// Reads the rest of a list from a stream, until the list or the stream ends.
    async fn stream(
        &self,
        rest: Get,
        paging: &mut Paging,
        list: &mut Pages,
        attempts: &mut RangeStreamAttempts,
    ) -> Result<(), RangeStreamEnd> {
        let (transport, namespace) = (Arc::clone(&self.transport), self.namespace.clone());
        let mut chunks = RangeStream::open(transport, rest, namespace, self.timeout).await?;
        while let Some(chunk) = chunks.next().await? {
            if !chunk.is_empty() {
                attempts.succeeded();
                paging.advance(&chunk, true);
                list.extend(chunk).await;
            }
        }
        // The stream ended regularly: there are no further keys.
        paging.advance(&[], false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    // Fault: W9
    #[test]
    fn pages_do_not_hold_the_reply_buffer() {
        let reply = Bytes::from(vec![b'k'; 1 << 20]);
        let listed = KeyValue {
            key: reply.slice(..1),
            value: reply.slice(1..10),
            mod_revision: 3,
            ..KeyValue::default()
        };
        let older = KeyValue {
            key: reply.slice(..2),
            mod_revision: 2,
            ..KeyValue::default()
        };
        let mut pages = Pages::default();
        pages.add(&listed);
        pages.add(&older);
        drop(older);
        let value = pages.keys.get(b"k").map(KeyValue::value);
        assert_eq!((pages.keys.len(), value), (2, Some(listed.value())));
        assert_eq!(pages.newest.as_ref(), Some(&listed));
        drop(listed);
        assert!(reply.is_unique());
    }
}

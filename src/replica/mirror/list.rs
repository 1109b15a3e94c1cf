//! List of a key range at one revision, read in pages.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Maximum number of restarts because the store was replaced during the list.
const MAX_REPLACED: u32 = 3;

/// All key values of a range at one revision.
#[derive(Debug)]
pub(super) struct List {
    pub(super) kvs: Vec<KeyValue>,
    pub(super) revision: Revision,
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
                Ok((kvs, revision)) => {
                    let store = self.transport.store();
                    if store.epoch() == epoch && !store.is_rewind_suspected() {
                        self.record(&kvs, revision, epoch);
                        return Ok(List {
                            kvs,
                            revision,
                            epoch,
                        });
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
    fn record(&self, kvs: &[KeyValue], revision: Revision, epoch: u64) {
        let Some(newest) = kvs.iter().max_by_key(|kv| kv.mod_revision()) else {
            return;
        };
        let mut key = newest.key().clone();
        if let Some(namespace) = &self.namespace {
            namespace.enter_name(&mut key);
        }
        let store = self.transport.store();
        store.listed(epoch, &key, newest.mod_revision().get(), revision.get());
    }

    async fn list_once(&self, page: u32) -> Result<(Vec<KeyValue>, Revision)> {
        let mut paging = Paging::new(Get::range(self.range.clone()), page)?;
        let mut list = Vec::new();
        let mut attempts = RangeStreamAttempts::default();
        while let Some(get) = paging.next() {
            match self.page(get).await {
                Ok(answer) => list.extend(paging.take(answer)),
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
        list: &mut Vec<KeyValue>,
        attempts: &mut RangeStreamAttempts,
    ) -> Result<(), RangeStreamEnd> {
        let (transport, namespace) = (Arc::clone(&self.transport), self.namespace.clone());
        let mut chunks = RangeStream::open(transport, rest, namespace, self.timeout).await?;
        while let Some(chunk) = chunks.next().await? {
            if !chunk.is_empty() {
                attempts.succeeded();
                paging.advance(&chunk, true);
                list.extend(chunk);
            }
        }
        // The stream ended regularly: there are no further keys.
        paging.advance(&[], false);
        Ok(())
    }
}

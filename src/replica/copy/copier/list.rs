//! List step of a copier: writes the difference between the source and the copy.

use super::{Copier, Halt, RETRY, header_request};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::replica::copy::batch::KeyWrite;
use crate::replica::copy::difference::{Difference, Pair};
use crate::replica::copy::plan::Extraneous;
use crate::replica::copy::writer::Mark;
use crate::rpc::kv::Get;
use crate::types::key_range::Printed;
use crate::types::{KeyValue, Revision};

/// Keys per page of a list.
const PAGE: u32 = 1000;

impl Copier {
    /// Makes the copy equal to one revision of the source.
    pub(super) fn list(&mut self) -> Result<(), Halt> {
        let mut backoff = RETRY;
        loop {
            match self.try_list() {
                Err(Halt::Failed(error)) => self.pause(&mut backoff, error)?,
                settled => return settled,
            }
        }
    }

    fn try_list(&mut self) -> Result<(), Halt> {
        // Before the request: if the store is replaced meanwhile, the watch ends, and this is done again.
        let epoch = self.source.known_store().epoch;
        let at = self
            .source
            .call(header_request(&self.prefix))?
            .header()
            .revision;
        if self.extraneous == Extraneous::Refuse && !self.owned {
            self.refuse_extraneous(at)?;
        }
        // From here on the prefix contains copies: one whose original is deleted before the next list must
        // not count as extraneous.
        self.owned = true;
        let listing = Mark {
            cluster: self.cluster,
            revision: Revision::NONE,
        };
        let mut batcher = self.batcher();
        for change in self.difference(at, false)? {
            let change = change?;
            if self.extraneous == Extraneous::Keep && matches!(change, KeyWrite::Delete(_)) {
                continue;
            }
            for batch in batcher.add(vec![change], None) {
                self.write(&batch, &listing)?;
            }
        }
        let mut last = batcher.flush().unwrap_or_default();
        last.upto = Some(at);
        self.epoch = epoch;
        self.shared.update(|progress| progress.lists += 1);
        self.write(&last, &listing)
    }

    /// Fails when there is a key below the destination's prefix that the source does not have.
    fn refuse_extraneous(&self, at: Revision) -> Result<(), Halt> {
        for change in self.difference(at, true)? {
            if let KeyWrite::Delete(key) = change? {
                let reason = format!(
                    "the destination has a key that the source does not have, {:?}; choose with \
                     extraneous() whether such keys are deleted or kept",
                    Printed(&key)
                );
                return Err(Halt::Failed(Error::new(
                    ErrorKind::FailedPrecondition,
                    reason,
                )));
            }
        }
        Ok(())
    }

    /// The changes that make the present copy equal to the source at revision `at`.
    fn difference(
        &self,
        at: Revision,
        keys_only: bool,
    ) -> Result<impl Iterator<Item = Result<KeyWrite>> + use<>> {
        let wanted = |get: Get| if keys_only { get.keys_only() } else { get };
        let source = wanted(Get::prefix(self.prefix.clone())).revision(at);
        let copy = wanted(Get::prefix(self.dest_prefix.clone()));
        let rename = self.rename();
        let source = pages(&self.source, source)?.map(move |kv| {
            let kv = kv?;
            Ok((rename(kv.key())?, kv.value().clone()))
        });
        let own = self.checkpoint.clone();
        let copy = pages(&self.writer.client, copy)?
            .map(|kv| kv.map(|kv| (kv.key().clone(), kv.value().clone())))
            .filter(move |pair: &Result<Pair>| !matches!(pair, Ok((key, _)) if Some(key) == own.as_ref()));
        Ok(Difference::new(source, copy))
    }
}

/// All keys of a range, page by page.
fn pages(client: &Client, get: Get) -> Result<impl Iterator<Item = Result<KeyValue>> + use<>> {
    let pages = client.pages(get, PAGE)?;
    Ok(pages.flat_map(|page| match page {
        Ok(kvs) => kvs.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    }))
}

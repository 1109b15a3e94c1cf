//! The identity of the store, shared by all connections of a transport.

use parking_lot::Mutex;

use super::store_identity::{
    Consistency, KnownStore, Replacement, SeenKey, StoreIdentity, StorePosition, StoreVerdict,
};
use crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader;

/// The store identity of a transport. It checks the header of every response.
#[derive(Debug, Default)]
pub(crate) struct SharedStoreIdentity(Mutex<StoreIdentity>);

impl SharedStoreIdentity {
    /// The known state when a request is sent or a stream is opened.
    pub(crate) fn known(&self) -> KnownStore {
        self.0.lock().known()
    }

    /// How often the store was replaced. Data that was read in an earlier epoch is no longer valid.
    pub(crate) fn epoch(&self) -> u64 {
        self.known().epoch
    }

    /// Whether the last answer may show a rewound store; the next linearizable answer decides.
    pub(crate) fn is_rewind_suspected(&self) -> bool {
        self.known().is_rewind_suspected()
    }

    /// The last replacement of the store, if there was one.
    pub(crate) fn last_replacement(&self) -> Option<Replacement> {
        self.0.lock().last_replacement()
    }

    /// Checks the header of an answer.
    pub(crate) fn answered(
        &self,
        header: &ResponseHeader,
        consistency: Consistency,
        known_when_sent: KnownStore,
    ) -> StoreVerdict {
        let position = position(header);
        self.0.lock().check(position, consistency, known_when_sent)
    }

    /// The key by which the store is recognised, if one was seen.
    pub(crate) fn seen(&self) -> Option<SeenKey> {
        self.0.lock().seen()
    }

    /// Records a key of a list: see [`StoreIdentity::listed`].
    pub(crate) fn listed(&self, epoch: u64, key: &[u8], modified: i64, at: i64) {
        self.0.lock().listed(epoch, key, modified, at);
    }

    /// Records a key that a watch reported: see [`StoreIdentity::watched`].
    pub(crate) fn watched(&self, epoch: u64, key: &[u8], modified: i64) {
        self.0.lock().watched(epoch, key, modified);
    }

    /// Compares the known key with the present store: see [`StoreIdentity::compare`].
    pub(crate) fn compare(
        &self,
        seen: &SeenKey,
        modified: Option<i64>,
        header: &ResponseHeader,
    ) -> StoreVerdict {
        self.0.lock().compare(seen, modified, position(header))
    }

    /// Compares the known key with a past state of the store: see [`StoreIdentity::compare_past`].
    pub(crate) fn compare_past(
        &self,
        seen: &SeenKey,
        past: Option<Option<i64>>,
        present: Option<i64>,
        header: &ResponseHeader,
    ) -> StoreVerdict {
        let answer = position(header);
        self.0.lock().compare_past(seen, past, present, answer)
    }
}

fn position(header: &ResponseHeader) -> StorePosition {
    StorePosition {
        cluster: header.cluster_id,
        revision: header.revision,
        term: header.raft_term,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, revision: i64, raft_term: u64) -> ResponseHeader {
        ResponseHeader {
            cluster_id,
            revision,
            raft_term,
            ..ResponseHeader::default()
        }
    }

    #[test]
    fn cluster_id_revision_and_raft_term_of_a_header_are_checked() {
        let older = [
            (header(8, 10, 2), StoreVerdict::Another),
            (header(7, 9, 2), StoreVerdict::Rewound),
            (header(7, 10, 1), StoreVerdict::Rewound),
        ];
        for (header_after, verdict) in older {
            let store = SharedStoreIdentity::default();
            let write = |header: &ResponseHeader| {
                store.answered(header, Consistency::Applied, store.known())
            };
            assert_eq!(write(&header(7, 10, 2)), StoreVerdict::Same);
            assert_eq!((store.epoch(), store.last_replacement()), (0, None));
            assert_eq!(write(&header_after), verdict);
            assert_eq!(store.epoch(), 1);
            assert!(store.last_replacement().is_some());
        }
    }

    #[test]
    fn an_older_read_raises_the_suspicion_of_a_rewind() {
        let store = SharedStoreIdentity::default();
        let read = |revision| {
            let (header, known_when_sent) = (header(7, revision, 2), store.known());
            store.answered(&header, Consistency::Linearizable, known_when_sent)
        };
        read(10);
        assert!(!store.is_rewind_suspected());
        assert_eq!(read(9), StoreVerdict::RewindSuspected);
        assert!(store.is_rewind_suspected());
    }
}

//! The identity of the store, shared by all connections of a transport.

use parking_lot::Mutex;

use super::store_identity::{Consistency, Known, Replacement, Sighting, StoreIdentity, Verdict};
use crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader;

/// What a transport knows of the store behind its endpoints. Every header that arrives over it is judged
/// here.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<StoreIdentity>);

impl Store {
    /// What is known when a request is sent, or a stream opened.
    pub(crate) fn known(&self) -> Known {
        self.0.lock().known()
    }

    /// How often the store was replaced. What was read in an earlier epoch is not to be trusted.
    pub(crate) fn epoch(&self) -> u64 {
        self.known().epoch
    }

    /// Whether an answer left open if the store went back; the next linearizable one decides.
    pub(crate) fn is_doubted(&self) -> bool {
        self.known().is_doubted()
    }

    /// How the store was replaced last, if it ever was.
    pub(crate) fn last_replacement(&self) -> Option<Replacement> {
        self.0.lock().last_replacement()
    }

    /// Takes note of the header of an answer.
    pub(crate) fn answered(
        &self,
        header: &ResponseHeader,
        consistency: Consistency,
        asked: Known,
    ) -> Verdict {
        let sighting = Sighting {
            cluster: header.cluster_id,
            revision: header.revision,
            term: header.raft_term,
        };
        self.0.lock().judge(sighting, consistency, asked)
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
    fn all_that_a_header_says_of_the_store_counts() {
        let older = [
            (header(8, 10, 2), Verdict::Another),
            (header(7, 9, 2), Verdict::Rewound),
            (header(7, 10, 1), Verdict::Rewound),
        ];
        for (header_after, verdict) in older {
            let store = Store::default();
            let write = |header: &ResponseHeader| {
                store.answered(header, Consistency::Applied, store.known())
            };
            assert_eq!(write(&header(7, 10, 2)), Verdict::Same);
            assert_eq!((store.epoch(), store.last_replacement()), (0, None));
            assert_eq!(write(&header_after), verdict);
            assert_eq!(store.epoch(), 1);
            assert!(store.last_replacement().is_some());
        }
    }

    #[test]
    fn a_read_that_is_older_leaves_a_doubt() {
        let store = Store::default();
        let read = |revision| {
            let (header, asked) = (header(7, revision, 2), store.known());
            store.answered(&header, Consistency::Linearizable, asked)
        };
        read(10);
        assert!(!store.is_doubted());
        assert_eq!(read(9), Verdict::Doubtful);
        assert!(store.is_doubted());
    }
}

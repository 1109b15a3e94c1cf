//! The identity of the store, shared by all connections of a transport.

use parking_lot::Mutex;

use super::store_identity::{Consistency, Known, Replacement, Sighting, StoreIdentity, Verdict};
use crate::etcd_rs_proto::etcdserverpb::ResponseHeader;

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

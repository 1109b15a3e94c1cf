//! The store of the model.

use fastrand::Rng;

use crate::grpc::etcd_rs_proto::{etcdserverpb as pb, mvccpb};
use crate::types::key_range::KeyRange;

/// One revision: the changed keys, and whether each was deleted.
type Change = Vec<(&'static str, bool)>;

pub(super) const KEYS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Default)]
pub(super) struct Store {
    /// Revision 1 is the empty store; `history[n]` made revision `n + 2`.
    history: Vec<Change>,
    pub(super) compacted: i64,
}

impl Store {
    pub(super) fn revision(&self) -> i64 {
        self.history.len() as i64 + 1
    }

    pub(super) fn change(&mut self, rng: &mut Rng) {
        let mut keys = KEYS.to_vec();
        rng.shuffle(&mut keys);
        let count = rng.usize(1..=3);
        let change = keys.into_iter().take(count).map(|key| (key, rng.bool()));
        self.history.push(change.collect());
    }

    pub(super) fn events(&self, range: &KeyRange, from: i64, to: i64) -> Vec<(i64, &'static str)> {
        (from.max(2)..=to)
            .flat_map(|revision| {
                let change = &self.history[revision as usize - 2];
                change.iter().map(move |(key, _)| (revision, *key))
            })
            .filter(|(_, key)| range.contains(key.as_bytes()))
            .collect()
    }
}

pub(in crate::rpc::watch) fn event(revision: i64, key: &str) -> mvccpb::Event {
    let kv = mvccpb::KeyValue {
        key: key.to_owned().into(),
        mod_revision: revision,
        create_revision: revision,
        ..Default::default()
    };
    mvccpb::Event {
        kv: Some(kv),
        ..Default::default()
    }
}

/// The answer of a server when the token of a stream is invalid.
pub(super) fn refused() -> pb::WatchResponse {
    pb::WatchResponse {
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: "etcdserver: invalid auth token".into(),
        ..Default::default()
    }
}

//! Reading keys.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::convert::{header, key_values, range, strip};
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeRequest, RangeResponse, range_request};
use crate::grpc::{Call, ConnectionRole, Consistency, Framed, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, ResponseHeader, Revision};

/// A read with at most this limit of keys counts as a small response.
const SMALL_LIMIT: i64 = 100;

/// Reads one key or a range of keys (etcd's Range).
///
/// Reads are linearizable unless [`serializable`](Get::serializable) is set: they include every write
/// that was acknowledged before they began.
///
/// ```no_run
/// use etcd_blocking::{Client, Get};
/// use etcd_blocking::kv::{SortOrder, SortTarget};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let newest = client.call(
///     Get::prefix("jobs/").sort(SortTarget::ModRevision, SortOrder::Descend).limit(10),
/// )?;
/// for kv in newest.kvs() {
///     println!("{} at {}", kv.key_lossy(), kv.mod_revision());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Get {
    pub(super) pb: RangeRequest,
}

/// The property that a sorted read sorts by.
///
/// ```no_run
/// use etcd_blocking::Get;
/// use etcd_blocking::kv::{SortOrder, SortTarget};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let newest = Get::prefix("log/").sort(SortTarget::ModRevision, SortOrder::Descend).limit(1);
/// println!("{:?}", client.call(newest)?.first());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortTarget {
    /// The key, which is the order in which etcd stores keys.
    Key,
    /// The number of puts since the key was created.
    Version,
    /// The revision at which the key was created.
    CreateRevision,
    /// The revision of the last change.
    ModRevision,
    /// The value, as bytes.
    Value,
}

/// The direction of a sorted read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortOrder {
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

impl Get {
    /// Reads exactly this key.
    pub fn key(key: impl IntoBytes) -> Self {
        Get::range(KeyRange::key(key))
    }

    /// Reads every key with this prefix. An empty prefix stands for all keys.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        Get::range(KeyRange::prefix(prefix))
    }

    /// Reads a range of keys.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        let pb = RangeRequest {
            key: range.start().clone(),
            range_end: range.range_end().clone(),
            ..RangeRequest::default()
        };
        Get { pb }
    }

    /// Reads the first key with this prefix, in the order of keys.
    pub fn first_by_key(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::Key, SortOrder::Ascend)
    }

    /// Reads the last key with this prefix, in the order of keys.
    pub fn last_by_key(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::Key, SortOrder::Descend)
    }

    /// Reads the key with this prefix that was created first, such as the holder of a lock.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, Get};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let holder = client.call(Get::first_by_create("lock/"))?;
    /// println!("{:?}", holder.first().map(|kv| kv.key_lossy()));
    /// # Ok(()) }
    /// ```
    pub fn first_by_create(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::CreateRevision, SortOrder::Ascend)
    }

    /// Reads the key with this prefix that was created last.
    pub fn last_by_create(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::CreateRevision, SortOrder::Descend)
    }

    /// Reads the key with this prefix that was changed least recently.
    pub fn first_by_mod(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::ModRevision, SortOrder::Ascend)
    }

    /// Reads the key with this prefix that was changed most recently.
    pub fn last_by_mod(prefix: impl IntoBytes) -> Self {
        Get::one_of(prefix, SortTarget::ModRevision, SortOrder::Descend)
    }

    fn one_of(prefix: impl IntoBytes, target: SortTarget, order: SortOrder) -> Self {
        Get::prefix(prefix).sort(target, order).limit(1)
    }

    /// Reads the store as of `revision`.
    ///
    /// The call fails with [`Compacted`](crate::ErrorKind::Compacted) when that revision is compacted,
    /// and with [`FutureRevision`](crate::ErrorKind::FutureRevision) when the store has not reached it.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.pb.revision = revision.get();
        self
    }

    /// Returns at most `limit` keys; 0 is no limit. [`GetResponse::more`] reports whether there are more.
    pub fn limit(mut self, limit: u32) -> Self {
        self.pb.limit = i64::from(limit);
        self
    }

    /// Sorts the result. The server then reads the whole range even with a limit, unless the order is
    /// by key and ascending, in which it stores keys.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Self {
        use range_request::{SortOrder as PbOrder, SortTarget as PbTarget};

        let target = match target {
            SortTarget::Key => PbTarget::Key,
            SortTarget::Version => PbTarget::Version,
            SortTarget::CreateRevision => PbTarget::Create,
            SortTarget::ModRevision => PbTarget::Mod,
            SortTarget::Value => PbTarget::Value,
        };
        let order = match (target, order) {
            // Keys are stored in this order, and the server returns them without sorting.
            (PbTarget::Key, SortOrder::Ascend) => PbOrder::None,
            (_, SortOrder::Ascend) => PbOrder::Ascend,
            (_, SortOrder::Descend) => PbOrder::Descend,
        };
        self.pb.sort_target = target.into();
        self.pb.sort_order = order.into();
        self
    }

    /// Lets the member answer from its own state: faster, and without a quorum, but the result may be
    /// older than acknowledged writes.
    pub fn serializable(mut self) -> Self {
        self.pb.serializable = true;
        self
    }

    /// Returns keys without values.
    pub fn keys_only(mut self) -> Self {
        self.pb.keys_only = true;
        self
    }

    /// Returns only the number of keys, in [`GetResponse::count`].
    pub fn count_only(mut self) -> Self {
        self.pb.count_only = true;
        self
    }

    /// Filters out keys that were last changed before this revision.
    pub fn min_mod_revision(mut self, revision: Revision) -> Self {
        self.pb.min_mod_revision = revision.get();
        self
    }

    /// Filters out keys that were last changed after this revision.
    pub fn max_mod_revision(mut self, revision: Revision) -> Self {
        self.pb.max_mod_revision = revision.get();
        self
    }

    /// Filters out keys that were created before this revision.
    pub fn min_create_revision(mut self, revision: Revision) -> Self {
        self.pb.min_create_revision = revision.get();
        self
    }

    /// Filters out keys that were created after this revision.
    pub fn max_create_revision(mut self, revision: Revision) -> Self {
        self.pb.max_create_revision = revision.get();
        self
    }

    /// The keys it reads.
    pub fn keys(&self) -> KeyRange {
        range(&self.pb.key, &self.pb.range_end)
    }

    pub(super) fn is_serializable(&self) -> bool {
        self.pb.serializable
    }

    pub(crate) fn is_plain_order(&self) -> bool {
        self.pb.sort_order == i32::from(range_request::SortOrder::None)
    }
}

/// The name of the operation in errors and metrics.
const VERB: &str = "get";

impl Rpc for Get {
    type Response = GetResponse;

    fn operation(&self) -> Operation {
        Operation::on(VERB, self.keys())
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn check(&self) -> Result<()> {
        if let Some(problem) = self.keys().problem() {
            return Err(Error::invalid(problem));
        }
        let pb = &self.pb;
        let filters = [
            // In the protocol, 0 is no filter.
            (pb.min_mod_revision, pb.max_mod_revision),
            (pb.min_create_revision, pb.max_create_revision),
        ];
        let revisions = filters.iter().flat_map(|(min, max)| [*min, *max]);
        if revisions.chain([pb.revision]).any(|revision| revision < 0) {
            return Err(Error::invalid(
                "a revision of the read is negative: use a positive one, or Revision::NONE",
            ));
        }
        if filters.iter().any(|(min, max)| *max != 0 && min > max) {
            return Err(Error::invalid(
                "no key can pass the filters: a minimum revision is above the maximum",
            ));
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.pb.encoded_len()
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter(&mut self.pb.key, &mut self.pb.range_end);
        Ok(Namespaced {
            request: self,
            strip: GetResponse::strip,
        })
    }

    fn role(&self) -> ConnectionRole {
        let pb = &self.pb;
        // A large answer would delay the small ones on the same connection.
        let is_large =
            !pb.range_end.is_empty() && !pb.count_only && !(1..=SMALL_LIMIT).contains(&pb.limit);
        match is_large {
            true => ConnectionRole::Bulk,
            false => ConnectionRole::Calls,
        }
    }

    fn again(&self) -> Option<Self> {
        // Only a serializable read is answered by an outdated member, so only that one is copied.
        self.pb.serializable.then(|| self.clone())
    }

    fn shown(response: &GetResponse) -> Revision {
        response.header.revision
    }

    fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<GetResponse>> + Send + 'static {
        let consistency = match self.pb.serializable {
            true => Consistency::Local,
            false => Consistency::Linearizable,
        };
        let request = Framed::new(&self.pb)
            // A serializable read is answered from the member's own data, which needs no leader.
            .needs_leader(!self.pb.serializable)
            .consistency(consistency);
        let call = Call::read(timeout).over(self.role());
        transport.unary(call, move || self.operation(), request)
    }
}

/// The response to a [`Get`].
///
/// ```no_run
/// use etcd_blocking::Get;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let found = client.call(Get::prefix("log/").limit(10))?;
/// println!("{} of {} keys at {:?}", found.kvs().len(), found.count(), found.header().revision);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct GetResponse {
    header: ResponseHeader,
    kvs: Vec<KeyValue>,
    more: bool,
    count: u64,
}

impl GetResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        strip(&mut self.kvs, namespace);
    }

    /// The header of the response. Its revision is that of the store, also when the read was of an older
    /// one.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The keys and values, in the requested order.
    pub fn kvs(&self) -> &[KeyValue] {
        &self.kvs
    }

    /// The keys and values, by value.
    pub fn into_kvs(self) -> Vec<KeyValue> {
        self.kvs
    }

    /// The first key and value, if there is one.
    pub fn first(&self) -> Option<&KeyValue> {
        self.kvs.first()
    }

    /// Whether the range has more keys than the limit allowed.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The number of keys in the range, without regard to the limit and the revision filters.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl From<RangeResponse> for GetResponse {
    fn from(pb: RangeResponse) -> Self {
        GetResponse {
            header: header(pb.header),
            kvs: key_values(pb.kvs),
            more: pb.more,
            count: u64::try_from(pb.count).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Case: KV-32
    #[test]
    fn the_default_sort_order_is_not_sent() {
        use range_request::SortOrder as PbOrder;

        let sorted = |target, order| Get::prefix("a").sort(target, order).limit(10).pb;
        let plain = sorted(SortTarget::Key, SortOrder::Ascend);
        assert_eq!((plain.sort_order(), plain.limit), (PbOrder::None, 10));
        let last = sorted(SortTarget::Key, SortOrder::Descend);
        assert_eq!(last.sort_order(), PbOrder::Descend);
        let oldest = sorted(SortTarget::ModRevision, SortOrder::Ascend);
        assert_eq!(oldest.sort_order(), PbOrder::Ascend);
        assert_eq!(Get::first_by_key("a").pb.sort_order(), PbOrder::None);
    }
}

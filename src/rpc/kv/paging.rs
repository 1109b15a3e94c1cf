//! The cursor of a paged read. All pages are of the same revision.

use super::get::{Get, GetResponse};
use crate::error::{Error, ErrorKind, Result};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// A page that was too large is requested again with its limit divided by this.
const SHRINK_FACTOR: u32 = 4;

/// The limit doubles after this many consecutive pages that fit.
const PAGES_BEFORE_GROWTH: u32 = 4;

/// Adds the name of a key that is too large for a response by itself.
#[cold]
pub(crate) fn key_too_large(error: Error, name: &GetResponse) -> Error {
    let Some(kv) = name.kvs().first() else {
        return error;
    };
    error.reason(format!(
        "the key \"{}\" alone is over the limit of a response: raise ClientBuilder::receive_limit",
        kv.key_lossy()
    ))
}

/// The cursor of a paged read: returns requests, and receives their responses.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    request: Get,
    /// The most keys of a page.
    size: u32,
    /// The limit of the next page: below `size` after a page that was too large for a response.
    limit: u32,
    /// The number of consecutive pages that fit.
    fitting: u32,
    /// The revision of all pages.
    at: Option<Revision>,
    /// The keys that are not read yet.
    rest: Option<KeyRange>,
}

impl Paging {
    /// Pages of `size` keys. Only reads in the order of keys can be paged.
    pub(crate) fn new(request: Get, size: u32) -> Result<Self> {
        if !request.is_plain_order() {
            return Err(Error::invalid(
                "a sorted read cannot be paged, except by key and ascending",
            ));
        }
        if request.pb.count_only {
            return Err(Error::invalid(
                "a count has no pages: call the request without pages, or remove count_only",
            ));
        }
        if size == 0 {
            return Err(Error::invalid("the size of a page is zero: use 1 or more"));
        }
        if request.pb.limit != 0 {
            return Err(Error::invalid(
                "a paged read has no limit: remove it, and stop reading instead",
            ));
        }
        let rest = Some(request.keys());
        // A requested revision applies to all pages; otherwise the first response sets it.
        let at = (request.pb.revision != 0).then(|| Revision::new(request.pb.revision));
        Ok(Paging {
            request,
            size,
            limit: size,
            fitting: 0,
            at,
            rest,
        })
    }

    /// The request for the next page; `None` after the last.
    pub(crate) fn next(&self) -> Option<Get> {
        let rest = self.rest.as_ref()?;
        let mut next = self.request.clone();
        next.pb.key = rest.start().clone();
        next.pb.range_end = rest.range_end().clone();
        next.pb.revision = self.at.map_or(0, Revision::get);
        Some(next.limit(self.limit))
    }

    /// Reduces the limit after a response that was over the client's receive limit. Returns `false` when
    /// it cannot be reduced, and for other errors.
    pub(crate) fn shrink(&mut self, error: &Error) -> bool {
        let can_shrink = error.kind() == ErrorKind::TooLarge && self.limit > 1;
        if can_shrink {
            self.limit = (self.limit / SHRINK_FACTOR).max(1);
            self.fitting = 0;
        }
        can_shrink
    }

    /// The request for the name of the first key of the next page, without its value: to name a key
    /// that is over the limit by itself.
    pub(crate) fn name_of_next(&self) -> Option<Get> {
        // Without its value, the next key fits into every limit.
        Some(self.next()?.limit(1).keys_only())
    }

    /// Counts a page that fits, and raises the limit again after several.
    fn grow(&mut self) {
        self.fitting += 1;
        if self.fitting >= PAGES_BEFORE_GROWTH {
            self.fitting = 0;
            // Doubling after a quartering finds the largest fitting size in a few steps.
            self.limit = self.limit.saturating_mul(2).min(self.size);
        }
    }

    /// The request for a stream of all remaining keys, at the revision of the pages so far. `None` when
    /// that revision is unknown, when nothing remains, and when the read filters by revision: etcd
    /// answers such a stream as if it had no streams.
    pub(crate) fn stream(&self) -> Option<Get> {
        let pb = &self.request.pb;
        let filters = [
            pb.min_mod_revision,
            pb.max_mod_revision,
            pb.min_create_revision,
            pb.max_create_revision,
        ];
        // etcd's RangeStream refuses requests with these filters. The first page fixes the
        // revision.
        if self.at.is_none() || filters.iter().any(|filter| *filter != 0) {
            return None;
        }
        Some(self.next()?.limit(0))
    }

    /// Handles the response to the last request. The first one sets the revision of all pages.
    pub(crate) fn take(&mut self, response: GetResponse) -> Vec<KeyValue> {
        self.at.get_or_insert(response.header().revision);
        let more = response.more();
        self.grow();
        let page = response.into_kvs();
        self.advance(&page, more);
        page
    }

    /// Continues after these keys. Without `more`, they are the last ones.
    pub(crate) fn advance(&mut self, page: &[KeyValue], more: bool) {
        self.rest = match (more, page.last(), self.rest.take()) {
            // A page that is empty although there are more keys would loop forever: it ends the
            // read.
            (true, Some(last), Some(rest)) => Some(rest.after(last.key())),
            _ => None,
        };
    }

    /// Whether all keys were read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// The largest number of keys in a page.
    pub(crate) fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// The revision of all pages. Known after the first page.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use crate::grpc::etcd_rs_proto::mvccpb;
    use crate::rpc::kv::{SortOrder, SortTarget};

    fn answer(keys: &[&'static str], revision: i64, more: bool) -> GetResponse {
        let kv = |key: &&'static str| mvccpb::KeyValue {
            key: (*key).into(),
            ..Default::default()
        };
        let header = Some(ResponseHeader {
            revision,
            ..Default::default()
        });
        RangeResponse {
            header,
            kvs: keys.iter().map(kv).collect(),
            more,
            count: 9,
        }
        .into()
    }

    #[test]
    fn each_page_begins_after_the_last_key_at_the_first_revision() {
        let mut paging = Paging::new(Get::prefix("a"), 2).unwrap();
        assert_eq!(paging.next().unwrap().pb.revision, 0);
        paging.take(answer(&["a1", "a2"], 7, true));
        let second = paging.next().unwrap();
        assert_eq!((second.pb.revision, second.pb.limit), (7, 2));
        assert_eq!(
            (&second.pb.key[..], &second.pb.range_end[..]),
            (&b"a2\0"[..], &b"b"[..])
        );
        paging.take(answer(&["a3"], 9, false));
        assert!(paging.next().is_none());
        assert_eq!(paging.revision(), Some(Revision::new(7)));
    }

    #[test]
    fn the_limit_grows_only_after_several_pages_that_fit() {
        let mut paging = Paging::new(Get::prefix("a"), 64).unwrap();
        assert!(paging.shrink(&Error::new(ErrorKind::TooLarge, "too large")));
        let limits = [(); 8].map(|()| {
            paging.take(answer(&["a1"], 7, true));
            paging.next().unwrap().pb.limit
        });
        assert_eq!(limits, [16, 16, 16, 32, 32, 32, 32, 64]);
    }

    #[test]
    fn a_read_is_done_after_the_last_key_and_can_name_the_next_one_before() {
        let mut paging = Paging::new(Get::prefix("a"), 2).unwrap();
        assert_eq!((paging.size(), paging.is_done()), (2, false));
        paging.take(answer(&["a1", "a2"], 7, true));
        let name = paging.name_of_next().unwrap().pb;
        assert_eq!(
            (&name.key[..], name.limit, name.keys_only),
            (&b"a2\0"[..], 1, true)
        );
        assert!(!paging.is_done());
        paging.take(answer(&["a3"], 9, false));
        assert!(paging.is_done() && paging.name_of_next().is_none());
    }

    #[test]
    fn a_stream_reads_the_remaining_keys_at_the_revision_of_the_first_page() {
        let mut paging = Paging::new(Get::prefix("a").keys_only(), 2).unwrap();
        assert!(paging.stream().is_none(), "the revision is unknown");
        paging.take(answer(&["a1", "a2"], 7, true));
        let stream = paging.stream().unwrap().pb;
        assert_eq!((stream.revision, stream.limit), (7, 0));
        assert_eq!((&stream.key[..], stream.keys_only), (&b"a2\0"[..], true));
        paging.take(answer(&["a3"], 9, false));
        assert!(paging.stream().is_none(), "nothing is left");
    }

    // Case: KV-21
    #[test]
    fn reads_that_etcd_does_not_stream_are_paged() {
        let filters: [fn(Get, Revision) -> Get; 4] = [
            Get::min_mod_revision,
            Get::max_mod_revision,
            Get::min_create_revision,
            Get::max_create_revision,
        ];
        for filter in filters {
            let get = filter(Get::prefix("a"), Revision::new(3));
            let mut paging = Paging::new(get, 2).unwrap();
            paging.take(answer(&["a1", "a2"], 7, true));
            assert!(paging.stream().is_none() && paging.next().is_some());
        }
        let sorted = Get::prefix("a").sort(SortTarget::Value, SortOrder::Ascend);
        assert!(Paging::new(sorted, 2).is_err());
    }

    #[test]
    fn pages_shrink_until_they_fit_and_grow_again() {
        let too_large = Error::new(ErrorKind::TooLarge, "too large");
        let mut paging = Paging::new(Get::prefix("a"), 1000).unwrap();
        let limit = |paging: &Paging| paging.next().unwrap().pb.limit;
        let mut limits = vec![limit(&paging)];
        while paging.shrink(&too_large) {
            limits.push(limit(&paging));
        }
        assert_eq!(limits, [1000, 250, 62, 15, 3, 1]);
        assert!(!paging.shrink(&too_large), "there is no less than one key");
        for _ in 0..100 {
            let before = limit(&paging);
            paging.take(answer(&["a1"], 7, true));
            assert!(limit(&paging) <= 2 * before);
        }
        assert_eq!(limit(&paging), 1000);
        assert!(!paging.shrink(&Error::new(ErrorKind::Timeout, "late")));
        assert_eq!(limit(&paging), 1000);
    }

    #[test]
    fn an_empty_page_that_promises_more_does_not_loop() {
        let mut paging = Paging::new(Get::prefix("a"), 2).unwrap();
        paging.take(answer(&[], 7, true));
        assert!(paging.next().is_none());
    }
}

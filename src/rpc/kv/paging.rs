//! Reading a large range page by page, every page as of the same revision.

use super::{Get, GetResponse};
use crate::error::{Error, ErrorKind, Result};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// A page that was too large is asked for again with so many times fewer keys.
const SHRINK: u32 = 4;

/// After so many pages that fit, twice as many keys are asked for.
const PAGES_THAT_FIT: u32 = 4;

/// Says which key is too large for a reply all by itself, and what to do.
#[cold]
pub(crate) fn key_too_large(error: Error, name: &GetResponse) -> Error {
    let Some(kv) = name.kvs().first() else {
        return error;
    };
    error.reason(format!(
        "the key \"{}\" alone is over the limit of a reply: raise ClientBuilder::receive_limit",
        kv.key_lossy()
    ))
}

/// Where a paged read is: a pure cursor that its owner feeds with answers.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    request: Get,
    /// The most keys of a page.
    size: u32,
    /// The keys that are asked for: fewer after a page that was too large for a reply.
    limit: u32,
    /// The full pages in a row that were not.
    full: u32,
    at: Option<Revision>,
    rest: Option<KeyRange>,
}

impl Paging {
    /// Pages of `size` keys. Only the order that the server keeps can be paged.
    pub(crate) fn new(request: Get, size: u32) -> Result<Self> {
        if !request.is_plain_order() {
            return Err(Error::invalid(
                "a sorted read cannot be paged, but by key and ascending",
            ));
        }
        if request.pb.count_only {
            return Err(Error::invalid(
                "a count has no pages; call the request without pages, or take off count_only",
            ));
        }
        if size == 0 {
            return Err(Error::invalid("a page must have room for one key"));
        }
        if request.pb.limit != 0 {
            return Err(Error::invalid(
                "a paged read has no limit; stop reading instead",
            ));
        }
        let rest = Some(request.keys());
        let at = (request.pb.revision != 0).then(|| Revision::new(request.pb.revision));
        Ok(Paging {
            request,
            size,
            limit: size,
            full: 0,
            at,
            rest,
        })
    }

    /// The next request, until there is none.
    pub(crate) fn next(&self) -> Option<Get> {
        let rest = self.rest.as_ref()?;
        let mut next = self.request.clone();
        next.pb.key = rest.start().clone();
        next.pb.range_end = rest.range_end().clone();
        next.pb.revision = self.at.map_or(0, Revision::get);
        Some(next.limit(self.limit))
    }

    /// Asks for fewer keys after a reply that was over the client's limit; whether there are fewer to
    /// ask for. What else fails is not changed by it.
    pub(crate) fn shrink(&mut self, error: &Error) -> bool {
        let shrinks = error.kind() == ErrorKind::TooLarge && self.limit > 1;
        if shrinks {
            self.limit = (self.limit / SHRINK).max(1);
            self.full = 0;
        }
        shrinks
    }

    /// The request for the name of the key that the next page begins with: one key that is over the
    /// limit by itself can still be named.
    pub(crate) fn name_of_next(&self) -> Option<Get> {
        Some(self.next()?.limit(1).keys_only())
    }

    /// Asks for more keys again when the pages fit.
    fn grow(&mut self) {
        self.full += 1;
        if self.full >= PAGES_THAT_FIT {
            self.full = 0;
            self.limit = self.limit.saturating_mul(2).min(self.size);
        }
    }

    /// The request for all that is left, at the revision of the pages so far; none while that is
    /// unknown, when nothing is left, and when etcd does not stream what is asked for: it refuses
    /// filters by revision, as if it had no streams.
    pub(crate) fn stream(&self) -> Option<Get> {
        let pb = &self.request.pb;
        let filters = [
            pb.min_mod_revision,
            pb.max_mod_revision,
            pb.min_create_revision,
            pb.max_create_revision,
        ];
        if self.at.is_none() || filters.iter().any(|filter| *filter != 0) {
            return None;
        }
        Some(self.next()?.limit(0))
    }

    /// Takes the answer to the last request; the first one fixes the revision.
    pub(crate) fn take(&mut self, response: GetResponse) -> Vec<KeyValue> {
        self.at.get_or_insert(response.header().revision);
        let more = response.more();
        self.grow();
        let page = response.into_kvs();
        self.advance(&page, more);
        page
    }

    /// Goes on after these keys; without `more`, they are the last.
    pub(crate) fn advance(&mut self, page: &[KeyValue], more: bool) {
        self.rest = match (more, page.last(), self.rest.take()) {
            (true, Some(last), Some(rest)) => Some(rest.after(last.key())),
            _ => None,
        };
    }

    /// Whether there is nothing left to ask for.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// The keys of a page.
    pub(crate) fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// The revision that every page shows; known after the first.
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
    fn pages_go_on_after_the_last_key_at_the_first_revision() {
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
    fn a_stream_reads_what_is_left_at_the_revision_of_the_first_page() {
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
    fn what_etcd_does_not_stream_is_not_asked_for() {
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

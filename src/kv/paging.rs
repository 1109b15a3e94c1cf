//! Reading a large range page by page, every page as of the same revision.

use super::{Get, GetResponse};
use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::types::{KeyValue, Revision};

/// Where a paged read is: a pure cursor that its owner feeds with answers.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    request: Get,
    size: u32,
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
        Some(next.limit(self.size))
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
    use crate::etcd_rs_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use crate::etcd_rs_proto::mvccpb;
    use crate::kv::{SortOrder, SortTarget};

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
    fn an_empty_page_that_promises_more_does_not_loop() {
        let mut paging = Paging::new(Get::prefix("a"), 2).unwrap();
        paging.take(answer(&[], 7, true));
        assert!(paging.next().is_none());
    }
}

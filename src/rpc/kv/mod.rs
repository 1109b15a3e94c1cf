//! The key-value service: requests and responses, paged reads, and range streams.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod compact;
mod compare;
mod convert;
mod delete;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod get;
mod paging;
mod put;
mod range_stream;
mod range_stream_attempts;
mod txn;
mod txn_response;

pub use compact::{Compact, CompactResponse};
pub use compare::{Compare, Target, Value};
pub(crate) use convert::header;
pub use delete::{Delete, DeleteResponse};
pub use get::{Get, GetResponse, SortOrder, SortTarget};
pub(crate) use paging::{Paging, key_too_large};
pub use put::{Put, PutResponse};
pub(crate) use range_stream::{RangeStream, RangeStreamEnd};
pub(crate) use range_stream_attempts::RangeStreamAttempts;
pub use txn::{Op, Txn};
pub use txn_response::{OpResponse, TxnResponse};

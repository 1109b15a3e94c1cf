//! The cluster service: listing and changing members, and learning endpoints from the member list.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod endpoint_sync;
mod member;
mod member_change;
mod member_list;
mod peer_url;

pub(crate) use endpoint_sync::{keep_in_sync, sync};
pub use member::Member;
pub use member_change::{MemberAdd, MemberAddResponse, MemberPromote, MemberRemove, MemberUpdate};
pub use member_list::{MemberList, MembersResponse};

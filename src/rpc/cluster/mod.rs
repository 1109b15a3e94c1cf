//! The members of the cluster: who they are, and changing that.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod change;
mod list;
mod member;
mod peer_url;
mod sync;

pub use change::{MemberAdd, MemberAddResponse, MemberPromote, MemberRemove, MemberUpdate};
pub use list::{MemberList, MembersResponse};
pub use member::Member;
pub(crate) use sync::{keep_in_sync, sync};

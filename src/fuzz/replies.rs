//! The fuzz target of the messages in replies.

use prost::Message;

use super::input::Input;
use crate::auth::{RoleGetResponse, RoleListResponse, UserGetResponse, UserListResponse};
use crate::cluster::MembersResponse;
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::lease::{LeasesResponse, TimeToLiveResponse};
use crate::rpc::kv::{
    CompactResponse, DeleteResponse, GetResponse, OpResponse, PutResponse, TxnResponse,
};

/// Decodes a reply of each kind, and converts it into what the user gets. What can be printed of it is.
pub(super) fn replies(data: &[u8]) {
    let mut data = Input::new(data);
    let kind = data.below(12);
    let bytes = data.rest();
    let shown = match kind {
        0 => shown::<pb::RangeResponse, GetResponse>(bytes),
        1 => shown::<pb::PutResponse, PutResponse>(bytes),
        2 => shown::<pb::DeleteRangeResponse, DeleteResponse>(bytes),
        3 => txn(bytes),
        4 => shown::<pb::CompactionResponse, CompactResponse>(bytes),
        5 => shown::<pb::LeaseTimeToLiveResponse, TimeToLiveResponse>(bytes),
        6 => shown::<pb::LeaseLeasesResponse, LeasesResponse>(bytes),
        7 => shown::<pb::AuthUserGetResponse, UserGetResponse>(bytes),
        8 => shown::<pb::AuthUserListResponse, UserListResponse>(bytes),
        9 => shown::<pb::AuthRoleGetResponse, RoleGetResponse>(bytes),
        10 => shown::<pb::AuthRoleListResponse, RoleListResponse>(bytes),
        _ => shown::<pb::MemberRemoveResponse, MembersResponse>(bytes),
    };
    // A message can name the same long field many times, but not make text out of nothing.
    assert!(shown.len() <= 2000 + 400 * bytes.len(), "{}", shown.len());
}

fn shown<M: Message + Default, R: From<M> + std::fmt::Debug>(bytes: &[u8]) -> String {
    match M::decode(bytes) {
        Ok(message) => format!("{:?}", R::from(message)),
        Err(_) => String::new(),
    }
}

fn txn(bytes: &[u8]) -> String {
    let Ok(message) = pb::TxnResponse::decode(bytes) else {
        return String::new();
    };
    let responses = message.responses.len();
    let response = TxnResponse::from(message);
    assert!(response.responses().len() <= responses);
    for one in response.responses() {
        if let OpResponse::Get(get) = one {
            for kv in get.kvs() {
                let _ = (kv.key_lossy(), kv.value_str());
            }
        }
    }
    format!("{response:?}")
}

//! The actions of the watch state machine.

use bytes::Bytes;

use crate::error::{Error, ServerError};
use crate::grpc::MemberCondition;
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::rpc::watch::event::WatchResponse;
use crate::rpc::watch::watch_id::WatchId;

/// An action for the task.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a stream.
    Open,
    /// Use another token for the next stream: the server refused this one.
    RenewToken(ServerError),
    /// Drop the stream, the attempt to open one, and the read. Report the suspicion of its member.
    Close(MemberCondition),
    /// Send a request on the stream.
    Send(pb::WatchRequest),
    /// Read the store's revision with a linearizable read of this key, over the stream's connection.
    Read(Bytes),
    /// The server has created the watch for the first time.
    Created(WatchId),
    /// Deliver a response; with `up`, also report that the watch is up again. If the reader has no
    /// room, the next input is `Full` with `undo`.
    Deliver {
        id: WatchId,
        response: WatchResponse,
        size: usize,
        undo: i64,
        up: bool,
    },
    /// Report that the watch has lost its server.
    Down(WatchId),
    /// Report that the server has the watch again, and that everything it missed was delivered.
    Up(WatchId),
    /// End the watch; the error is its last item.
    Finish(WatchId, Error),
}

//! The inputs of the watch state machine.

use crate::error::ServerError;
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_request::Watch;

/// An input of the state machine.
#[derive(Debug)]
pub(crate) enum Input {
    /// Adds a watch.
    Add(WatchId, Watch),
    /// Removes a watch.
    Remove(WatchId),
    /// The reader had no room for a response: the watch pauses, and resumes at this revision.
    Full(WatchId, i64),
    /// The reader of a paused watch has room again.
    Room(WatchId),
    /// The reader of a watch requests progress.
    Progress(WatchId),
    /// The stream is open for requests.
    Opened,
    /// Whether the server sends the answer to a progress request after the events that it covers.
    Version { orders_progress: bool },
    /// The store was replaced, and has this epoch now. The next read is one of the new store.
    Replaced { epoch: u64, why: String },
    /// The result of the linearizable read that was requested: the revision of the store.
    Read(Result<i64, StreamEnd>),
    /// A message arrived on the stream.
    Message(pb::WatchResponse),
    /// A message arrived that is over the client's limit: the message without its events, the number
    /// of these, and its size.
    TooLarge {
        outline: pb::WatchResponse,
        events: usize,
        bytes: usize,
    },
    /// Bytes arrived on the stream since the last `Tick`.
    Arriving,
    /// The stream ended, or could not be opened.
    Ended(StreamEnd),
    /// The deadline has passed.
    Tick,
}

/// The end of a stream, or of an attempt to open one.
#[derive(Clone, Debug)]
pub(crate) enum StreamEnd {
    /// No connection could be made.
    Unconnected(String),
    /// No connection can be made: TLS fails at every endpoint.
    TlsFailed(String),
    /// The connection broke, or the server violated the protocol.
    Broken(String),
    /// The server did not answer in time.
    Silent(String),
    /// The server ended it with a status.
    Answer(ServerError),
    /// The server ended it without a status.
    Eof,
}

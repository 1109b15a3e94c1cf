//! The read of the store's revision before watches resume, which also shows whether the store was replaced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::state::StreamEnd;
use crate::error::{ErrorKind, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::grpc::{Connection, Consistency, Framed, Received, RpcError, StoreVerdict};

/// The time limit of a read over the stream's connection. Bytes that arrive on the stream restart it,
/// because the answer to the read comes behind them on the same connection.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(5);

/// Reads the revision of the store. A second read follows if the first leaves open whether the store
/// went back. Unless `compared`, the store is compared with the key that was seen.
pub(super) async fn read_revision(
    connection: Connection,
    key: Bytes,
    received: Arc<Received>,
    compared: bool,
) -> Result<i64, StreamEnd> {
    let mut revision = read_once(connection.clone(), key.clone(), &received).await?;
    if connection.store.is_rewind_suspected() {
        revision = read_once(connection.clone(), key, &received).await?;
    }
    if !compared {
        compare(connection, revision, &received).await?;
    }
    Ok(revision)
}

async fn read_once(
    connection: Connection,
    key: Bytes,
    received: &Received,
) -> Result<i64, StreamEnd> {
    let request = RangeRequest {
        key,
        limit: 1,
        // Only the header is needed, so no key value is sent.
        count_only: true,
        ..RangeRequest::default()
    };
    let response = range(connection, request, received).await?;
    let response = response.map_err(StreamEnd::Answer)?;
    let revision = response.header.map(|header| header.revision);
    revision.ok_or(StreamEnd::Broken(
        "the server answered a read without a header".into(),
    ))
}

/// Compares the store with the key that was seen: as it is now, and, if that leaves it open, as it was at its revision.
async fn compare(
    connection: Connection,
    revision: i64,
    received: &Received,
) -> Result<(), StreamEnd> {
    let store = Arc::clone(&connection.store);
    let Some(seen) = store.seen().filter(|seen| seen.at <= revision) else {
        return Ok(());
    };
    let read = |revision| RangeRequest {
        key: Bytes::copy_from_slice(&seen.key),
        revision,
        keys_only: true,
        ..RangeRequest::default()
    };
    let modified = |response: &RangeResponse| response.kvs.first().map(|kv| kv.mod_revision);
    let present = match range(connection.clone(), read(0), received).await? {
        Ok(present) => present,
        Err(answer) => return no_proof(answer),
    };
    let header = present.header.unwrap_or_default();
    let verdict = store.compare(&seen, modified(&present), &header);
    if verdict == StoreVerdict::RewindSuspected {
        let past = match range(connection, read(seen.at), received).await? {
            Ok(past) => Some(modified(&past)),
            Err(answer) => no_proof(answer).map(|()| None)?,
        };
        store.compare_past(&seen, past, modified(&present), &header);
    }
    Ok(())
}

/// Handles an error that the server returns to a comparison.
///
/// A temporary error ends the stream, and the next stream repeats the comparison. Any other error leaves the comparison without
/// a result, because a repetition would fail, too: the revision is compacted, or the user may not read the key.
fn no_proof(answer: ServerError) -> Result<(), StreamEnd> {
    match answer.kind {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::RateLimited
        | ErrorKind::Unauthenticated => Err(StreamEnd::Answer(answer)),
        _ => Ok(()),
    }
}

/// Sends a linearizable read over the connection of the stream. The inner error is the server's answer.
async fn range(
    connection: Connection,
    request: RangeRequest,
    received: &Received,
) -> Result<Result<RangeResponse, ServerError>, StreamEnd> {
    let request = Framed::new(&request).consistency(Consistency::Linearizable);
    let mut answer = std::pin::pin!(connection.unary(request));
    loop {
        let before = received.bytes();
        match tokio::time::timeout(READ_WITHIN, &mut answer).await {
            Ok(Ok(response)) => return Ok(Ok(response)),
            Ok(Err(RpcError::Status(answer))) => return Ok(Err(answer)),
            Ok(Err(RpcError::Connection(error))) => return Err(StreamEnd::Broken(error.text)),
            // Other messages of the connection arrive: the answer is behind them, and the server is
            // not silent.
            Err(_) if received.bytes() != before => {}
            Err(_) => {
                let text = format!("the server did not answer a read in {READ_WITHIN:?}");
                return Err(StreamEnd::Silent(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_error_ends_the_stream_and_a_refusal_does_not() {
        let again = [
            (14, "etcdserver: leader changed"),
            (14, "etcdserver: request timed out"),
            (8, "etcdserver: too many requests"),
            (16, "etcdserver: invalid auth token"),
            (14, "502 Bad Gateway"),
        ];
        for (code, text) in again {
            let end = no_proof(ServerError::read(code, text));
            assert!(matches!(end, Err(StreamEnd::Answer(_))), "{text}");
        }
        let refused = [
            (11, "etcdserver: mvcc: required revision has been compacted"),
            (7, "etcdserver: permission denied"),
            (12, "unknown method"),
            (3, "keys_only is not supported"),
        ];
        for (code, text) in refused {
            assert!(no_proof(ServerError::read(code, text)).is_ok(), "{text}");
        }
    }
}

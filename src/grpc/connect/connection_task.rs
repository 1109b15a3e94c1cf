//! The task that moves the frames of one connection until it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::sleep;

use super::connect_error::{ConnectError, describe};
use super::connection_state::ConnectionState;
use super::endpoint_set::Removal;
use super::keepalive_task::PingRate;
use super::socket::Io;

/// How often a draining connection is checked for open requests.
const DRAINING: Duration = Duration::from_millis(5);

/// How a connection ends.
enum ConnectionEnd {
    Silent,
    Drained,
    Removed,
    Broken(Result<(), h2::Error>),
}

/// Whether the server sent a GOAWAY. h2 reports it only to a handle that is about to send a
/// request.
fn has_received_go_away(send: &Weak<SendRequest<Bytes>>, cx: &mut Context<'_>) -> bool {
    send.upgrade().is_some_and(|send| {
        matches!(
            SendRequest::clone(&send).poll_ready(cx),
            Poll::Ready(Err(_))
        )
    })
}

/// Completes when the endpoint is removed from the set. Does not complete when the set is dropped
/// with its client, because streams can outlive the client handle.
async fn until_removed(removal: &mut Removal) {
    if removal.wait_for(|removed| *removed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Moves the frames of a connection until it ends, and records the reason.
pub(super) async fn run(
    mut connection: h2::client::Connection<Box<dyn Io>, Bytes>,
    send: Weak<SendRequest<Bytes>>,
    state: Arc<ConnectionState>,
    end_error: Arc<parking_lot::Mutex<Option<ConnectError>>>,
    ping: Arc<PingRate>,
    mut removal: Removal,
) {
    let ended = {
        let mut removed = std::pin::pin!(until_removed(&mut removal));
        let mut is_removed = false;
        let mut kill = std::pin::pin!(state.kill.notified());
        let mut check = std::pin::pin!(sleep(Duration::ZERO));
        std::future::poll_fn(|cx| {
            if kill.as_mut().poll(cx).is_ready() {
                return Poll::Ready(ConnectionEnd::Silent);
            }
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ConnectionEnd::Broken(result));
            }
            is_removed = is_removed || removed.as_mut().poll(cx).is_ready();
            if !is_removed && !state.is_draining() && !has_received_go_away(&send, cx) {
                return Poll::Pending;
            }
            state.drain();
            while !state.is_drained() {
                ready!(check.as_mut().poll(cx));
                check.as_mut().reset((Instant::now() + DRAINING).into());
            }
            Poll::Ready(if is_removed {
                ConnectionEnd::Removed
            } else {
                ConnectionEnd::Drained
            })
        })
        .await
    };
    match ended {
        ConnectionEnd::Silent => state.ended("it stopped answering: no reply to a ping"),
        ConnectionEnd::Drained => state.ended("the server is shutting down"),
        ConnectionEnd::Removed => state.ended("the endpoint was removed from the client"),
        ConnectionEnd::Broken(Ok(())) => state.ended("connection closed by the server"),
        ConnectionEnd::Broken(Err(error)) => {
            if error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
                ping.slow_down();
            }
            *end_error.lock() = Some(ConnectError::of_handshake(&error));
            state.ended(&describe(&error));
        }
    }
    // Dropped last, so that streams can read the reason when they end.
    drop(connection);
}

//! Makes one connection to one address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::address_set::DialTarget;
use super::connect_error::ConnectError;
use super::connection::Connection;
use super::connection_state::ConnectionState;
use super::connection_task::run;
use super::endpoint::Endpoint;
use super::endpoint_set::Removal;
use super::socket::{Socket, connect_socket, open};
use super::{keepalive_task, tls_probe};
use crate::grpc::transport::Transport;
use crate::util::jitter;

/// How long a known address waits for a running look-up of its name (RFC 8305, section 3,
/// recommends 50 ms).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Waits briefly for a running look-up, which may show that the address is no longer valid.
async fn wait_for_look_up(transport: &Transport, id: usize) {
    let mut found = transport.looked_up.subscribe();
    let waiting = async {
        while transport.picker.lock().is_looking_up(id) && found.changed().await.is_ok() {}
    };
    // After the delay the address is dialled as it is known.
    let _ = timeout(RESOLUTION_DELAY, waiting).await;
}

pub(super) async fn dial_address(
    transport: &Arc<Transport>,
    id: usize,
) -> Result<Connection, ConnectError> {
    wait_for_look_up(transport, id).await;
    let known = transport.picker.lock().to_dial(id);
    let known = known.and_then(|(number, endpoint, target)| {
        let removal = transport.endpoints.read().removal(number)?;
        Some((endpoint, target, removal))
    });
    let Some((endpoint, target, removal)) = known else {
        return Err(ConnectError::unconnected(
            "the address was removed from the client",
        ));
    };
    let (probe, label) = {
        let mut picker = transport.picker.lock();
        picker.dialling(id, Instant::now());
        (picker.may_probe(id), picker.label(id))
    };
    let limit = transport.settings.connect_timeout;
    let dialled = timeout(limit, async {
        match dial(&endpoint, &target, id, removal, transport).await {
            Err(error) if error.hung_up && probe => Err(explain(&endpoint, &target, error).await),
            dialled => dialled,
        }
    });
    let result = dialled.await.unwrap_or_else(|_| {
        Err(ConnectError::unconnected(format!(
            "no answer to the connection attempt in {limit:?}"
        )))
    });
    if let Err(error) = &result {
        transport.telemetry.dial_failed(&endpoint.text, error);
        let mut picker = transport.picker.lock();
        picker.failed(id, Instant::now(), jitter::fraction());
        picker.failed_with(id, error);
    }
    result.map_err(|error| ConnectError {
        text: format!("{label}: {}", error.text),
        ..error
    })
}

/// Probes whether a server that closed the connection expects TLS, or does not.
async fn explain(endpoint: &Endpoint, target: &DialTarget, error: ConnectError) -> ConnectError {
    let probed = match connect_socket(target).await {
        Ok(Socket::Tcp(io)) => tls_probe::probe(io, endpoint.secure).await,
        #[cfg(unix)]
        Ok(Socket::Unix(io)) => tls_probe::probe(io, endpoint.secure).await,
        Err(_) => None,
    };
    probed.map_or(error, ConnectError::tls)
}

/// Connects to one address. Returns after the server has answered an HTTP/2 ping, so a server that
/// is stopped, or that only accepts connections, does not count as connected.
async fn dial(
    endpoint: &Arc<Endpoint>,
    target: &DialTarget,
    id: usize,
    removal: Removal,
    transport: &Arc<Transport>,
) -> Result<Connection, ConnectError> {
    let (settings, begun) = (&transport.settings, Instant::now());
    let state = ConnectionState::new();
    let opened = open(endpoint, target, settings, &state).await?;
    // A TLS alert of the server explains any other failure of the connection.
    #[cfg(feature = "__tls")]
    let refusal = opened.refusal;
    let with_alert = |error: ConnectError| {
        #[cfg(feature = "__tls")]
        if let Some(why) = refusal.get() {
            return ConnectError::tls(why);
        }
        error
    };
    let (send, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(16 * 1024)
        .handshake(opened.io)
        .await
        .map_err(|error| with_alert(ConnectError::of_handshake(&error)))?;
    let origin = http::Uri::builder()
        .scheme(if endpoint.secure { "https" } else { "http" })
        .authority(authority(endpoint))
        .path_and_query("/")
        .build()
        .map_err(|error| ConnectError::unconnected(error.to_string()))?;
    let Some(mut pings) = connection.ping_pong() else {
        return Err(ConnectError::unconnected(
            "HTTP/2 pings are not available on a new connection",
        ));
    };
    let end_error = Arc::new(parking_lot::Mutex::new(None));
    let send = Arc::new(send);
    tokio::spawn(run(
        connection,
        Arc::downgrade(&send),
        Arc::clone(&state),
        Arc::clone(&end_error),
        Arc::clone(&settings.ping),
        removal,
    ));
    if let Err(error) = pings.ping(h2::Ping::opaque()).await {
        state.until_ended().await;
        let error = end_error
            .lock()
            .take()
            .unwrap_or_else(|| ConnectError::of_handshake(&error));
        return Err(with_alert(error));
    }
    let open = transport
        .telemetry
        .connected(&endpoint.text, begun.elapsed());
    let checking = keepalive_task::check(
        pings,
        Arc::clone(&state),
        Arc::clone(&settings.ping),
        settings.timers.clone(),
    );
    transport.picker.lock().connected(id);
    let weak = Arc::downgrade(transport);
    tokio::spawn(async move {
        checking.await;
        drop(open);
        if let Some(transport) = weak.upgrade() {
            transport.picker.lock().disconnected(id);
        }
    });
    Ok(Connection::new(
        send,
        origin,
        Arc::clone(endpoint),
        id,
        settings,
        Arc::clone(transport.store()),
        state,
    ))
}

/// The HTTP authority of an endpoint; `localhost` for a socket file whose name is not valid in a
/// URI.
fn authority(endpoint: &Endpoint) -> &str {
    match endpoint.authority.parse::<http::uri::Authority>() {
        Ok(_) => &endpoint.authority,
        Err(_) => "localhost",
    }
}

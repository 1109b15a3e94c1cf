//! Races the addresses of a transport for one connection, and runs the name look-ups.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::timeout;

use super::connect_error::ConnectError;
use super::connection::Connection;
use super::dial::dial_address;
use super::member_picker::{DialTargets, PendingDial};
use super::urgency::Urgency;
use crate::grpc::transport::Transport;
use crate::util::jitter;

/// How often a race checks whether another address may be dialled again.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Races addresses in their order, each `settings.stagger` after the one before it, or at once when
/// that one failed. The first connection whose server answered wins; the others are dropped.
///
/// A silent address must not delay an address that works again, and a look-up that hangs must not
/// delay a known address. While the race runs, addresses that may be dialled again and addresses
/// that a look-up finds join it.
pub(crate) async fn race(
    transport: &Arc<Transport>,
    start: DialTargets,
    urgency: Urgency,
) -> Result<Connection, ConnectError> {
    let mut found = transport.looked_up.subscribe();
    look_up(transport, &start.names);
    let mut waiting = VecDeque::from(start.addresses);
    let mut running = JoinSet::new();
    let mut pending: HashMap<task::Id, PendingDial> = HashMap::new();
    let mut last = None;
    loop {
        if let Some(id) = waiting.pop_front() {
            let transport = Arc::clone(transport);
            let dialling = running.spawn(async move { dial_address(&transport, id).await });
            pending.insert(dialling.id(), (id, Instant::now()));
        } else if running.is_empty() && !transport.picker.lock().awaits_look_up(Instant::now()) {
            return Err(transport.round_error(last));
        }
        let head_start = if waiting.is_empty() {
            RECHECK_INTERVAL
        } else {
            transport.settings.stagger
        };
        let event = timeout(head_start, next_event(&mut running, &mut found)).await;
        match event {
            Ok(Event::Dialled(task, result)) => {
                pending.remove(&task);
                match result {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = Some(error),
                }
                continue;
            }
            // The head start of the previous address is over.
            Err(_) if !waiting.is_empty() => continue,
            Ok(Event::Found) | Err(_) => {}
        }
        let dialled: Vec<PendingDial> = pending.values().copied().collect();
        let start = transport
            .picker
            .lock()
            .start(Instant::now(), urgency, &dialled);
        look_up(transport, &start.names);
        waiting = start.addresses.into();
    }
}

/// An event of a race.
enum Event {
    /// A dial ended.
    Dialled(task::Id, Result<Connection, ConnectError>),
    /// A look-up ended.
    Found,
}

async fn next_event(
    running: &mut JoinSet<Result<Connection, ConnectError>>,
    found: &mut watch::Receiver<()>,
) -> Event {
    let mut found = std::pin::pin!(found.changed());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(Some(joined)) = running.poll_join_next_with_id(cx) {
            return Poll::Ready(match joined {
                Ok((task, result)) => Event::Dialled(task, result),
                Err(error) => Event::Dialled(
                    error.id(),
                    Err(ConnectError::unconnected(error.to_string())),
                ),
            });
        }
        // It fails only when the transport is dropped, and this race holds the transport.
        found.as_mut().poll(cx).map(|_| Event::Found)
    })
    .await
}

/// Looks up the names of these endpoints, each in its own task. A task runs until its look-up ends,
/// so a late result is still recorded.
fn look_up(transport: &Arc<Transport>, endpoints: &[usize]) {
    for endpoint in endpoints.iter().copied() {
        let begun = transport
            .picker
            .lock()
            .begin_look_up(endpoint, Instant::now());
        let Some(host) = begun else {
            continue;
        };
        let resolver = transport.settings.resolver.clone();
        let transport = Arc::downgrade(transport);
        tokio::spawn(async move {
            let addresses = resolver.addresses(host).await;
            if let Some(transport) = transport.upgrade() {
                let now = Instant::now();
                let mut picker = transport.picker.lock();
                picker.looked_up(endpoint, addresses, now, jitter::fraction());
                drop(picker);
                transport.looked_up.send_replace(());
            }
        });
    }
}

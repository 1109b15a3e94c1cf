//! Making connections: one to one address, or a race between several.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::{sleep, timeout};

use super::address_set::Target;
use super::connect_error::{ConnectError, describe};
use super::connection::{Connection, Vitals};
use super::endpoint::Endpoint;
use super::endpoint_set::Removal;
use super::keepalive_task;
use super::member_picker::{Demand, Start, UnderWay};
use super::signs_of_life::SignsOfLife;
use super::tls_probe;
use crate::grpc::{Settings, Transport};
use crate::util::jitter;

/// How often to look, while addresses are silent, whether another may be dialled again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a known address waits for the look-up of its name (RFC 8305, section 3, has 50 ms).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How often to look whether a server that shuts down has answered everything.
const DRAINING: Duration = Duration::from_millis(5);

/// What bytes travel on.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection below HTTP/2.
struct Opened {
    io: Box<dyn Io>,
    #[cfg(feature = "__tls")]
    refusal: crate::grpc::tls::Refusal,
}

impl Opened {
    fn clear(io: impl Io + 'static) -> Self {
        Opened {
            io: Box::new(io),
            #[cfg(feature = "__tls")]
            refusal: crate::grpc::tls::Refusal::default(),
        }
    }
}

/// Races addresses in their order, each `settings.stagger` after the one before, or at once when
/// that one failed. The first connection whose server answered wins; the others are dropped.
///
/// An address that is silent must not hold up one that comes back, also not itself, and a look-up that
/// hangs none that is known: while the race goes on, those that may be dialled again, and those that are
/// found, join it.
pub(crate) async fn race(
    transport: &Arc<Transport>,
    start: Start,
    demand: Demand,
) -> Result<Connection, ConnectError> {
    let mut found = transport.looked_up.subscribe();
    look_up(transport, &start.names);
    let mut waiting = VecDeque::from(start.addresses);
    let mut running = JoinSet::new();
    let mut under_way: HashMap<task::Id, UnderWay> = HashMap::new();
    let mut last = None;
    loop {
        if let Some(id) = waiting.pop_front() {
            let transport = Arc::clone(transport);
            let dialling = running.spawn(async move { dial_address(&transport, id).await });
            under_way.insert(dialling.id(), (id, Instant::now()));
        } else if running.is_empty() && !transport.picker.lock().awaits_look_up(Instant::now()) {
            return Err(transport.round(last));
        }
        let head_start = if waiting.is_empty() {
            LOOK_AGAIN
        } else {
            transport.settings.stagger
        };
        let event = timeout(head_start, next_event(&mut running, &mut found)).await;
        match event {
            Ok(Event::Dialled(task, result)) => {
                under_way.remove(&task);
                match result {
                    Ok(connection) => return Ok(connection),
                    Err(fault) => last = Some(fault),
                }
                continue;
            }
            // The next one's turn has come.
            Err(_) if !waiting.is_empty() => continue,
            Ok(Event::Found) | Err(_) => {}
        }
        let dialled: Vec<UnderWay> = under_way.values().copied().collect();
        let start = transport
            .picker
            .lock()
            .start(Instant::now(), demand, &dialled);
        look_up(transport, &start.names);
        waiting = start.addresses.into();
    }
}

/// What happens in a race.
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
        // It fails only when the transport is gone, which this race keeps.
        found.as_mut().poll(cx).map(|_| Event::Found)
    })
    .await
}

/// Looks up the names of these endpoints, each in a task of its own that ends when the look-up does:
/// its result counts also when nobody waits for it any more.
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

/// Waits a moment for a look-up of this address's name: it may say that the address is another's now.
async fn give_look_up_a_moment(transport: &Transport, id: usize) {
    let mut found = transport.looked_up.subscribe();
    let waiting = async {
        while transport.picker.lock().is_looking_up(id) && found.changed().await.is_ok() {}
    };
    // Late is as good as never: the address is dialled as it was known.
    let _ = timeout(RESOLUTION_DELAY, waiting).await;
}

async fn dial_address(transport: &Arc<Transport>, id: usize) -> Result<Connection, ConnectError> {
    give_look_up_a_moment(transport, id).await;
    let known = transport.picker.lock().to_dial(id);
    let known = known.and_then(|(number, endpoint, target)| {
        let removal = transport.endpoints.read().removal(number)?;
        Some((endpoint, target, removal))
    });
    let Some((endpoint, target, removal)) = known else {
        return Err(ConnectError::unconnected(
            "the address was taken out of the list",
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
            Err(fault) if fault.hung_up && probe => Err(explain(&endpoint, &target, fault).await),
            dialled => dialled,
        }
    });
    let result = dialled.await.unwrap_or_else(|_| {
        Err(ConnectError::unconnected(format!(
            "no answer to the connection attempt in {limit:?}"
        )))
    });
    if let Err(fault) = &result {
        transport.observer.dial_failed(&endpoint.text, fault);
        let mut picker = transport.picker.lock();
        picker.failed(id, Instant::now(), jitter::fraction());
        picker.failed_by(id, fault);
    }
    result.map_err(|fault| ConnectError {
        text: format!("{label}: {}", fault.text),
        ..fault
    })
}

/// A server that hangs up may be one that speaks TLS, or one that does not.
async fn explain(endpoint: &Endpoint, target: &Target, fault: ConnectError) -> ConnectError {
    let probed = match raw(target).await {
        Ok(Raw::Tcp(io)) => tls_probe::probe(io, endpoint.secure).await,
        #[cfg(unix)]
        Ok(Raw::Unix(io)) => tls_probe::probe(io, endpoint.secure).await,
        Err(_) => None,
    };
    probed.map_or(fault, ConnectError::tls)
}

/// Connects to one address. It returns when the server has answered an HTTP/2 ping: a server that
/// only accepts connections, or one that is stopped, is not mistaken for a live one.
async fn dial(
    endpoint: &Arc<Endpoint>,
    target: &Target,
    id: usize,
    removal: Removal,
    transport: &Arc<Transport>,
) -> Result<Connection, ConnectError> {
    let (settings, begun) = (&transport.settings, Instant::now());
    let vitals = Vitals::new();
    let opened = open(endpoint, target, settings, &vitals).await?;
    // What the server says about TLS explains whatever else goes wrong.
    #[cfg(feature = "__tls")]
    let refusal = opened.refusal;
    let judge = |fault: ConnectError| {
        #[cfg(feature = "__tls")]
        if let Some(why) = refusal.get() {
            return ConnectError::tls(why);
        }
        fault
    };
    let (send, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(16 * 1024)
        .handshake(opened.io)
        .await
        .map_err(|error| judge(ConnectError::of_handshake(&error)))?;
    let origin = http::Uri::builder()
        .scheme(if endpoint.secure { "https" } else { "http" })
        .authority(authority(endpoint))
        .path_and_query("/")
        .build()
        .map_err(|error| ConnectError::unconnected(error.to_string()))?;
    let Some(mut pings) = connection.ping_pong() else {
        return Err(ConnectError::unconnected("no pings on a new connection"));
    };
    let broke = Arc::new(parking_lot::Mutex::new(None));
    let send = Arc::new(send);
    tokio::spawn(run(
        connection,
        Arc::downgrade(&send),
        Arc::clone(&vitals),
        Arc::clone(&broke),
        Arc::clone(&settings.ping),
        removal,
    ));
    if let Err(error) = pings.ping(h2::Ping::opaque()).await {
        vitals.until_ended().await;
        let fault = broke
            .lock()
            .take()
            .unwrap_or_else(|| ConnectError::of_handshake(&error));
        return Err(judge(fault));
    }
    let open = transport
        .observer
        .connected(&endpoint.text, begun.elapsed());
    let checking = keepalive_task::check(pings, Arc::clone(&vitals), Arc::clone(&settings.ping));
    transport.picker.lock().connected(id);
    let told = Arc::downgrade(transport);
    tokio::spawn(async move {
        checking.await;
        drop(open);
        if let Some(transport) = told.upgrade() {
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
        vitals,
    ))
}

/// The authority of a socket file may hold what a URI cannot; then it is "localhost".
fn authority(endpoint: &Endpoint) -> &str {
    match endpoint.authority.parse::<http::uri::Authority>() {
        Ok(_) => &endpoint.authority,
        Err(_) => "localhost",
    }
}

/// A socket.
enum Raw {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

async fn raw(target: &Target) -> io::Result<Raw> {
    match target {
        #[cfg(unix)]
        Target::Unix(path) => Ok(Raw::Unix(UnixStream::connect(path).await?)),
        // `Endpoint::parse` refuses these here.
        #[cfg(not(unix))]
        Target::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        Target::Tcp(address) => {
            let stream = TcpStream::connect(*address).await?;
            // Requests are small and wait for their answer.
            stream.set_nodelay(true)?;
            Ok(Raw::Tcp(stream))
        }
    }
}

async fn open(
    endpoint: &Endpoint,
    target: &Target,
    settings: &Settings,
    vitals: &Arc<Vitals>,
) -> Result<Opened, ConnectError> {
    let raw = raw(target).await.map_err(|error| ConnectError {
        // Nobody was there to hang up.
        hung_up: false,
        ..ConnectError::of_io(&error)
    })?;
    match raw {
        Raw::Tcp(io) => secure(endpoint, settings, SignsOfLife::new(io, vitals)).await,
        #[cfg(unix)]
        Raw::Unix(io) => secure(endpoint, settings, SignsOfLife::new(io, vitals)).await,
    }
}

#[cfg(feature = "__tls")]
async fn secure(
    endpoint: &Endpoint,
    settings: &Settings,
    io: impl Io + 'static,
) -> Result<Opened, ConnectError> {
    if !endpoint.secure {
        return Ok(Opened::clear(io));
    }
    let Some(tls) = &settings.tls else {
        return Err(ConnectError::tls("there are no settings for TLS"));
    };
    let stream = tls.connect(endpoint, io).await?;
    Ok(Opened {
        refusal: stream.refusal(),
        io: Box::new(stream),
    })
}

#[cfg(not(feature = "__tls"))]
async fn secure(
    endpoint: &Endpoint,
    _: &Settings,
    io: impl Io + 'static,
) -> Result<Opened, ConnectError> {
    if endpoint.secure {
        return Err(ConnectError::tls("this build is without TLS"));
    }
    Ok(Opened::clear(io))
}

/// How a connection ends.
enum End {
    Silent,
    Drained,
    Removed,
    Broken(Result<(), h2::Error>),
}

/// Whether the server said that it takes no more requests. h2 tells that only to who wants to send
/// one.
fn goes_away(send: &Weak<SendRequest<Bytes>>, cx: &mut Context<'_>) -> bool {
    send.upgrade().is_some_and(|send| {
        matches!(
            SendRequest::clone(&send).poll_ready(cx),
            Poll::Ready(Err(_))
        )
    })
}

/// Ends when the endpoint is taken out of the list; not when the list goes away with its client,
/// because streams can outlive that.
async fn until_removed(removal: &mut Removal) {
    if removal.wait_for(|removed| *removed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Moves the frames of a connection until it ends, and keeps the reason.
async fn run(
    mut connection: h2::client::Connection<Box<dyn Io>, Bytes>,
    send: Weak<SendRequest<Bytes>>,
    vitals: Arc<Vitals>,
    broke: Arc<parking_lot::Mutex<Option<ConnectError>>>,
    ping: Arc<keepalive_task::PingRate>,
    mut removal: Removal,
) {
    let ended = {
        let mut removed = std::pin::pin!(until_removed(&mut removal));
        let mut is_removed = false;
        let mut kill = std::pin::pin!(vitals.kill.notified());
        let mut look = std::pin::pin!(sleep(Duration::ZERO));
        std::future::poll_fn(|cx| {
            if kill.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Silent);
            }
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Broken(result));
            }
            is_removed = is_removed || removed.as_mut().poll(cx).is_ready();
            if !is_removed && !vitals.is_draining() && !goes_away(&send, cx) {
                return Poll::Pending;
            }
            vitals.drain();
            while !vitals.is_drained() {
                ready!(look.as_mut().poll(cx));
                look.as_mut().reset((Instant::now() + DRAINING).into());
            }
            Poll::Ready(if is_removed {
                End::Removed
            } else {
                End::Drained
            })
        })
        .await
    };
    match ended {
        End::Silent => vitals.ended("it stopped answering: no reply to a ping"),
        End::Drained => vitals.ended("the server is shutting down"),
        End::Removed => vitals.ended("the endpoint was taken out of the list"),
        End::Broken(Ok(())) => vitals.ended("connection closed by the server"),
        End::Broken(Err(error)) => {
            if error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
                ping.slow_down();
            }
            *broke.lock() = Some(ConnectError::of_handshake(&error));
            vitals.ended(&describe(&error));
        }
    }
    // Streams learn why only after the reason is known: the connection goes last.
    drop(connection);
}

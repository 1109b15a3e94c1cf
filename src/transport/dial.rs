//! Making connections: one to one member, or a race between several.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, Vitals};
use super::endpoint::{Address, Endpoint};
use super::endpoints::Removal;
use super::fault::{Fault, describe};
use super::health;
use super::mismatch;
use super::{Demand, Plan, Settings, Transport};
use crate::chance;

/// How often to look, while members are silent, whether another may be dialled again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often to look whether a server that shuts down has answered everything.
const DRAINING: Duration = Duration::from_millis(5);

/// What bytes travel on.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection below HTTP/2.
struct Opened {
    io: Box<dyn Io>,
    #[cfg(feature = "__tls")]
    refusal: super::tls::Refusal,
}

impl Opened {
    fn clear(io: impl Io + 'static) -> Self {
        Opened {
            io: Box::new(io),
            #[cfg(feature = "__tls")]
            refusal: super::tls::Refusal::default(),
        }
    }
}

/// Races `members` in their order, each `settings.stagger` after the one before, or at once when
/// that one failed. The first connection whose server answered wins; the others are dropped.
///
/// A member that is silent must not hold up one that comes back: while the race goes on, those that
/// may be dialled again join it.
pub(super) async fn race(
    transport: &Arc<Transport>,
    members: Vec<usize>,
    demand: Demand,
) -> Result<Connection, Fault> {
    let mut waiting = VecDeque::from(members);
    let mut running = JoinSet::new();
    let mut under_way = Vec::new();
    let mut last = Fault::unconnected("there is no endpoint to connect to");
    loop {
        match waiting.pop_front() {
            Some(index) => {
                let transport = Arc::clone(transport);
                under_way.push(index);
                running.spawn(async move { (index, dial_member(&transport, index).await) });
            }
            None if running.is_empty() => return Err(transport.round(last)),
            None => {}
        }
        let head_start = if waiting.is_empty() {
            LOOK_AGAIN
        } else {
            transport.settings.stagger
        };
        match timeout(head_start, running.join_next()).await {
            Ok(Some(Ok((_, Ok(connection))))) => return Ok(connection),
            Ok(Some(Ok((index, Err(fault))))) => {
                under_way.retain(|other| *other != index);
                last = fault;
            }
            Ok(Some(Err(panicked))) => last = Fault::unconnected(panicked.to_string()),
            Err(_) if waiting.is_empty() => {
                let plan = transport.picker.lock().plan(Instant::now(), demand);
                if let Plan::Dial(members) = plan {
                    waiting.extend(members.into_iter().filter(|m| !under_way.contains(m)));
                }
            }
            Ok(None) | Err(_) => {}
        }
    }
}

async fn dial_member(transport: &Arc<Transport>, index: usize) -> Result<Connection, Fault> {
    let Some((endpoint, removal)) = transport.endpoints.read().get(index) else {
        return Err(Fault::unconnected("the endpoint was taken out of the list"));
    };
    let probe = {
        let mut picker = transport.picker.lock();
        picker.dialling(index, Instant::now());
        picker.may_probe(index)
    };
    let limit = transport.settings.connect_timeout;
    let dialled = timeout(limit, async {
        match dial(&endpoint, index, removal, transport).await {
            Err(fault) if fault.hung_up && probe => Err(explain(&endpoint, fault).await),
            dialled => dialled,
        }
    });
    let result = dialled.await.unwrap_or_else(|_| {
        Err(Fault::unconnected(format!(
            "no answer to the connection attempt in {limit:?}"
        )))
    });
    if let Err(fault) = &result {
        transport.observer.dial_failed(&endpoint.text, fault);
    }
    let mut picker = transport.picker.lock();
    match &result {
        Ok(_) => picker.connected(index),
        Err(fault) => {
            picker.failed(index, Instant::now(), chance::fraction());
            picker.failed_by(index, fault);
        }
    }
    drop(picker);
    result.map_err(|fault| Fault {
        text: format!("{}: {}", endpoint.text, fault.text),
        ..fault
    })
}

/// A server that hangs up may be one that speaks TLS, or one that does not.
async fn explain(endpoint: &Endpoint, fault: Fault) -> Fault {
    let probed = match raw(endpoint).await {
        Ok(Raw::Tcp(io)) => mismatch::probe(io, endpoint.secure).await,
        Ok(Raw::Unix(io)) => mismatch::probe(io, endpoint.secure).await,
        Err(_) => None,
    };
    probed.map_or(fault, Fault::tls)
}

/// Connects to one endpoint. It returns when the server has answered an HTTP/2 ping: a server that
/// only accepts connections, or one that is stopped, is not mistaken for a live one.
async fn dial(
    endpoint: &Arc<Endpoint>,
    index: usize,
    removal: Removal,
    transport: &Transport,
) -> Result<Connection, Fault> {
    let (settings, begun) = (&transport.settings, Instant::now());
    let opened = open(endpoint, settings).await?;
    // What the server says about TLS explains whatever else goes wrong.
    #[cfg(feature = "__tls")]
    let refusal = opened.refusal;
    let judge = |fault: Fault| {
        #[cfg(feature = "__tls")]
        if let Some(why) = refusal.get() {
            return Fault::tls(why);
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
        .map_err(|error| judge(Fault::of_handshake(&error)))?;
    let origin = http::Uri::builder()
        .scheme(if endpoint.secure { "https" } else { "http" })
        .authority(authority(endpoint))
        .path_and_query("/")
        .build()
        .map_err(|error| Fault::unconnected(error.to_string()))?;
    let Some(mut pings) = connection.ping_pong() else {
        return Err(Fault::unconnected("no pings on a new connection"));
    };
    let vitals = Vitals::new();
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
            .unwrap_or_else(|| Fault::of_handshake(&error));
        return Err(judge(fault));
    }
    let open = transport
        .observer
        .connected(&endpoint.text, begun.elapsed());
    let checking = health::check(pings, Arc::clone(&vitals), Arc::clone(&settings.ping));
    tokio::spawn(async move {
        checking.await;
        drop(open);
    });
    Ok(Connection::new(
        send,
        origin,
        Arc::clone(endpoint),
        index,
        settings.limits,
        settings.tokens.as_ref().map(|tokens| tokens.bearer()),
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
    Unix(UnixStream),
}

async fn raw(endpoint: &Endpoint) -> io::Result<Raw> {
    match &endpoint.address {
        Address::Unix(path) => Ok(Raw::Unix(UnixStream::connect(path).await?)),
        Address::Tcp { host, port } => {
            // An address needs no lookup, and so no lookup thread.
            let stream = match host.parse::<std::net::IpAddr>() {
                Ok(ip) => TcpStream::connect((ip, *port)).await?,
                Err(_) => TcpStream::connect((host.as_str(), *port)).await?,
            };
            // Requests are small and wait for their answer.
            stream.set_nodelay(true)?;
            Ok(Raw::Tcp(stream))
        }
    }
}

async fn open(endpoint: &Endpoint, settings: &Settings) -> Result<Opened, Fault> {
    let raw = raw(endpoint).await.map_err(|error| Fault {
        // Nobody was there to hang up.
        hung_up: false,
        ..Fault::of_io(&error)
    })?;
    match raw {
        Raw::Tcp(io) => secure(endpoint, settings, io).await,
        Raw::Unix(io) => secure(endpoint, settings, io).await,
    }
}

#[cfg(feature = "__tls")]
async fn secure(
    endpoint: &Endpoint,
    settings: &Settings,
    io: impl Io + 'static,
) -> Result<Opened, Fault> {
    if !endpoint.secure {
        return Ok(Opened::clear(io));
    }
    let Some(tls) = &settings.tls else {
        return Err(Fault::tls("there are no settings for TLS"));
    };
    let stream = tls.connect(endpoint, io).await?;
    Ok(Opened {
        refusal: stream.refusal(),
        io: Box::new(stream),
    })
}

#[cfg(not(feature = "__tls"))]
async fn secure(endpoint: &Endpoint, _: &Settings, io: impl Io + 'static) -> Result<Opened, Fault> {
    if endpoint.secure {
        return Err(Fault::tls("this build is without TLS"));
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
    broke: Arc<parking_lot::Mutex<Option<Fault>>>,
    ping: Arc<health::PingRate>,
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
            *broke.lock() = Some(Fault::of_handshake(&error));
            vitals.ended(&describe(&error));
        }
    }
    // Streams learn why only after the reason is known: the connection goes last.
    drop(connection);
}

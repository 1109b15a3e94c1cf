//! Opens the byte stream below HTTP/2: TCP or a Unix socket, with TLS if the endpoint is secure.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::address_set::DialTarget;
use super::batched_writes::BatchedWrites;
use super::connect_error::ConnectError;
use super::connection_state::ConnectionState;
use super::endpoint::Endpoint;
use super::signs_of_life::SignsOfLife;
use crate::grpc::settings::TransportSettings;

/// A bidirectional byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The byte stream below HTTP/2, and the TLS refusal of the server.
pub(super) struct SecuredSocket {
    pub(super) io: Box<dyn Io>,
    #[cfg(feature = "__tls")]
    pub(super) refusal: crate::grpc::tls::TlsRefusal,
}

impl SecuredSocket {
    fn clear(io: impl Io + 'static) -> Self {
        SecuredSocket {
            io: Box::new(BatchedWrites::new(io)),
            #[cfg(feature = "__tls")]
            refusal: crate::grpc::tls::TlsRefusal::default(),
        }
    }
}

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

pub(super) async fn connect_socket(target: &DialTarget) -> io::Result<Socket> {
    match target {
        #[cfg(unix)]
        DialTarget::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        // `Endpoint::parse` rejects socket files on this platform.
        #[cfg(not(unix))]
        DialTarget::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        DialTarget::Tcp(address) => {
            let stream = TcpStream::connect(*address).await?;
            // Requests are small and wait for an answer.
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
    }
}

pub(super) async fn open(
    endpoint: &Endpoint,
    target: &DialTarget,
    settings: &TransportSettings,
    state: &Arc<ConnectionState>,
) -> Result<SecuredSocket, ConnectError> {
    let connect_socket = connect_socket(target).await.map_err(|error| ConnectError {
        // The connection was never established, so the server did not close it.
        hung_up: false,
        ..ConnectError::of_io(&error)
    })?;
    match connect_socket {
        Socket::Tcp(io) => secure(endpoint, settings, SignsOfLife::new(io, state)).await,
        #[cfg(unix)]
        Socket::Unix(io) => secure(endpoint, settings, SignsOfLife::new(io, state)).await,
    }
}

#[cfg(feature = "__tls")]
async fn secure(
    endpoint: &Endpoint,
    settings: &TransportSettings,
    io: impl Io + 'static,
) -> Result<SecuredSocket, ConnectError> {
    if !endpoint.secure {
        return Ok(SecuredSocket::clear(io));
    }
    let Some(tls) = &settings.tls else {
        return Err(ConnectError::tls("the client has no TLS settings"));
    };
    let stream = tls.connect(endpoint, io).await?;
    Ok(SecuredSocket {
        refusal: stream.refusal(),
        io: Box::new(BatchedWrites::new(stream)),
    })
}

#[cfg(not(feature = "__tls"))]
async fn secure(
    endpoint: &Endpoint,
    _: &TransportSettings,
    io: impl Io + 'static,
) -> Result<SecuredSocket, ConnectError> {
    if endpoint.secure {
        return Err(ConnectError::tls(
            "etcd-blocking was built without its feature `tls`",
        ));
    }
    Ok(SecuredSocket::clear(io))
}

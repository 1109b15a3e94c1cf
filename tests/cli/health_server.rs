//! A gRPC server with the health service only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What the server says about its service: the numbers of `grpc.health.v1`.
#[derive(Clone, Copy)]
pub(crate) enum Serving {
    Serving = 1,
    NotServing = 2,
}

/// The server. It ends when it is dropped.
pub(crate) struct HealthServer {
    addr: SocketAddr,
    status: Arc<Mutex<u8>>,
    _end: oneshot::Sender<()>,
}

impl HealthServer {
    /// Serves the health of one service, which is not known to be good at first. Others are unknown.
    pub(crate) fn start(service: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let status = Arc::new(Mutex::new(0));
        let (end, ended) = oneshot::channel::<()>();
        let (name, shared) = (service.to_owned(), Arc::clone(&status));
        thread::spawn(move || {
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, name.clone(), Arc::clone(&shared)));
                }
            });
            let _ = runtime.block_on(ended);
        });
        HealthServer {
            addr,
            status,
            _end: end,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn set(&self, status: Serving) {
        *self.status.lock().unwrap() = status as u8;
    }
}

async fn serve(stream: TcpStream, name: String, status: Arc<Mutex<u8>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let status = *status.lock().unwrap();
        tokio::spawn(answer(request, respond, name.clone(), status));
    }
}

/// Answers one request. A client that has gone is ignored.
async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    name: String,
    status: u8,
) -> Option<()> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        message.extend_from_slice(&data);
    }
    // A flag, four bytes of length, and field 1: its tag, its length, the name. An empty name is left out.
    let asked = message.get(7..).unwrap_or_default();
    let (code, reply) = match asked == name.as_bytes() {
        true => ("0", Some([0, 0, 0, 0, 2, 8, status])),
        false => ("5", None),
    };
    let head = http::Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(head.body(()).ok()?, false).ok()?;
    if let Some(reply) = reply {
        stream
            .send_data(Bytes::copy_from_slice(&reply), false)
            .ok()?;
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static(code));
    if code == "5" {
        trailers.insert(
            "grpc-message",
            http::HeaderValue::from_static("unknown service"),
        );
    }
    stream.send_trailers(trailers).ok()
}

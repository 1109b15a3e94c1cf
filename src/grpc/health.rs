//! Calls the health service of any gRPC server, over a connection of its own.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{Method, Request, StatusCode, Uri};
use prost::Message;
use tokio::net::TcpStream;

use super::etcd_rs_proto::Unary;
use super::etcd_rs_proto::health::health_check_response::ServingStatus;
use super::etcd_rs_proto::health::{HealthCheckRequest, HealthCheckResponse};
use super::grpc_status::{check, malformed, not_grpc};
use super::rpc_error::RpcError;
use super::unary::{Framed, ReplyBuffer};
use crate::error::printable;

/// The largest reply. A reply has two bytes.
const LARGEST_REPLY: usize = 1024;

/// Asks a server whether one of its services serves, or the server as a whole for an empty name.
/// Returns why not. The future has no time limit.
pub(crate) async fn check_health(
    io: TcpStream,
    authority: &str,
    service: &str,
) -> Result<(), String> {
    let broken = |error: h2::Error| format!("the HTTP/2 connection failed: {error}");
    let mut builder = Builder::new();
    builder.max_header_list_size(16 << 10).enable_push(false);
    let (send, connection) = builder.handshake(io).await.map_err(broken)?;
    let mut connection = pin!(connection);
    let mut call = pin!(call(send, authority, service));
    // The connection makes progress only while it is polled.
    let status = poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if let Poll::Ready(result) = call.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err("the server closed the connection".into())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    match status {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("the service is {}", other.as_str_name())),
    }
}

async fn call(
    send: SendRequest<Bytes>,
    authority: &str,
    service: &str,
) -> Result<ServingStatus, String> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(HealthCheckRequest::PATH)
        .build()
        .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .map_err(|error| error.to_string())?;
    let message = Framed::new(&HealthCheckRequest {
        service: service.to_owned(),
    });
    let broken = |error: h2::Error| format!("the server sent no reply: {error}");
    let mut send = send.ready().await.map_err(broken)?;
    let (response, mut body) = send.send_request(request, false).map_err(broken)?;
    // The error is that of the stream; its response reports it.
    let _ = body.send_data(message.bytes, true);
    let (head, mut body) = response.await.map_err(broken)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(refusal(not_grpc(head.status)));
    }
    check(&head.headers).map_err(refusal)?;
    let mut reply = ReplyBuffer::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        let _ = body.flow_control().release_capacity(data.len());
        reply.push(&data, LARGEST_REPLY).map_err(refusal)?;
    }
    match body.trailers().await.map_err(broken)? {
        Some(trailers) if check(&trailers).map_err(refusal)? => {}
        _ => return Err(refusal(malformed("a reply without a gRPC status"))),
    }
    let reply = HealthCheckResponse::decode(reply.message().map_err(refusal)?);
    Ok(reply.map_err(|error| error.to_string())?.status())
}

/// The text of an error status, which may come from any server.
fn refusal(error: RpcError) -> String {
    match error {
        RpcError::Connection(error) => error.to_string(),
        RpcError::Status(answer) if answer.text.is_empty() => "an error without a text".into(),
        RpcError::Status(answer) => printable(&answer.text),
    }
}

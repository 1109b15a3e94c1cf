//! Streams with a real HTTP/2 server whose responses are scripted.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::error::ErrorKind;
use crate::grpc::connect::endpoint::Endpoint;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, SnapshotRequest, SnapshotResponse,
};
use crate::grpc::tests::settings;

/// Longer than any step of these tests.
const SOON: Duration = Duration::from_secs(30);

/// The receive limit of `settings`.
const LIMIT: usize = 1 << 20;

/// A response: its headers, its bytes, and its trailers.
#[derive(Clone, Default)]
struct Script {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// `None`: the response does not end.
    trailers: Option<Vec<(&'static str, &'static str)>>,
}

/// A response with these messages that ends with this status.
fn script(messages: &[Vec<u8>], trailers: &[(&'static str, &'static str)]) -> Script {
    Script {
        status: 200,
        body: messages.concat(),
        trailers: Some(trailers.to_vec()),
        ..Script::default()
    }
}

/// A message with its header.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

fn blob(length: usize) -> SnapshotResponse {
    SnapshotResponse {
        remaining_bytes: length as u64,
        blob: vec![b'b'; length].into(),
        ..SnapshotResponse::default()
    }
}

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = headers.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    pairs.collect()
}

/// A server, and the headers of the requests that it got.
struct Server {
    transport: Arc<Transport>,
    requests: Rc<RefCell<Vec<HeaderMap>>>,
    _task: JoinHandle<()>,
}

impl Server {
    /// Starts a server that answers each request with the next script, and the last one forever.
    async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let endpoint = Endpoint::parse(&address, false).unwrap();
        let requests = Rc::new(RefCell::new(Vec::new()));
        let task = tokio::task::spawn_local(serve(listener, scripts, Rc::clone(&requests)));
        Server {
            transport: Transport::new(vec![endpoint], settings()),
            requests,
            _task: task,
        }
    }

    /// An open snapshot stream.
    async fn snapshot(&self) -> GrpcStream<SnapshotRequest> {
        let role = ConnectionRole::Bulk;
        let mut stream = self.transport.server_stream(role, SnapshotRequest {});
        stream.open(Urgency::Call);
        assert!(matches!(stream.next().await, StreamEvent::Opened));
        stream
    }
}

async fn serve(listener: TcpListener, scripts: Vec<Script>, requests: Rc<RefCell<Vec<HeaderMap>>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (scripts, requests) = (scripts.clone(), Rc::clone(&requests));
        tokio::task::spawn_local(async move {
            let mut server = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, respond))) = server.accept().await {
                requests.borrow_mut().push(request.headers().clone());
                let number = requests.borrow().len().min(scripts.len());
                tokio::task::spawn_local(answer(scripts[number - 1].clone(), respond));
            }
        });
    }
}

async fn answer(script: Script, mut respond: h2::server::SendResponse<Bytes>) {
    let mut response = Response::builder().status(script.status).body(()).unwrap();
    *response.headers_mut() = map(&script.headers);
    let is_empty = script.body.is_empty() && script.trailers.is_none();
    let mut stream = respond.send_response(response, is_empty && !script.headers.is_empty());
    let stream = stream.as_mut().unwrap();
    if !script.body.is_empty() {
        stream.send_data(script.body.into(), false).unwrap();
    }
    match script.trailers {
        Some(trailers) => stream.send_trailers(map(&trailers)).unwrap(),
        None => std::future::pending().await,
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let local = tokio::task::LocalSet::new();
    let test = async { tokio::time::timeout(SOON, local.run_until(test)).await };
    runtime.unwrap().block_on(test).unwrap();
}

/// The failure of a stream that has ended.
fn failure<T: std::fmt::Debug>(event: StreamEvent<T>) -> AttemptFailure {
    match event {
        StreamEvent::Closed(StreamClosed {
            endpoint: Some(_),
            failure: Some(failure),
        }) => failure,
        event => panic!("{event:?}"),
    }
}

fn kind(failure: &AttemptFailure) -> ErrorKind {
    match failure {
        AttemptFailure::Status(answer) => answer.kind,
        failure => panic!("{failure:?}"),
    }
}

#[test]
fn messages_of_all_sizes_arrive_in_order_and_the_stream_ends_with_its_status() {
    run(async {
        let sizes = [0, 10, 200_000, 3, 70_000, 300_000, 64_000, 0];
        let messages: Vec<Vec<u8>> = sizes.iter().map(|n| framed(&blob(*n))).collect();
        let server = Server::start(vec![script(&messages, &[("grpc-status", "0")])]).await;
        let mut stream = server.snapshot().await;
        for size in sizes {
            match stream.next().await {
                StreamEvent::Message(message) => assert_eq!(message, blob(size)),
                event => panic!("{event:?}"),
            }
        }
        let end = stream.next().await;
        assert!(matches!(
            end,
            StreamEvent::Closed(StreamClosed { failure: None, .. })
        ));
        assert!(stream.connection().is_none(), "it is closed");
        let headers = server.requests.borrow()[0].clone();
        assert_eq!(headers["hasleader"], "true");
        assert_eq!(headers["content-type"], "application/grpc");
    });
}

#[test]
fn a_message_over_the_limit_is_an_item_or_the_end_of_the_stream() {
    run(async {
        let messages = [framed(&blob(LIMIT + 1)), framed(&blob(3))];
        let server = Server::start(vec![script(&messages, &[("grpc-status", "0")])]).await;
        let mut stream = server.snapshot().await;
        let item = poll_fn(|cx| stream.poll_item(cx)).await;
        match item {
            StreamEvent::Message(StreamItem::TooLarge { outline, bytes, .. }) => {
                assert_eq!(outline.remaining_bytes, LIMIT as u64 + 1);
                assert!(outline.blob.is_empty() && bytes > LIMIT);
            }
            event => panic!("{event:?}"),
        }
        let next = stream.next().await;
        assert!(matches!(next, StreamEvent::Message(message) if message == blob(3)));
        let mut stream = server.snapshot().await;
        assert_eq!(kind(&failure(stream.next().await)), ErrorKind::TooLarge);
        assert!(stream.connection().is_none(), "it is closed");
    });
}

#[test]
fn a_status_in_headers_or_trailers_is_an_error_of_the_same_kind() {
    let status = [
        ("grpc-status", "14"),
        ("grpc-message", "etcdserver: no leader"),
        ("grpc-status-details-bin", "!not base64!"),
    ];
    run(async {
        let only_headers = Script {
            status: 200,
            headers: status.to_vec(),
            ..Script::default()
        };
        for script in [
            only_headers,
            script(&[], &status),
            script(&[framed(&blob(0))], &status),
        ] {
            let has_message = !script.body.is_empty();
            let server = Server::start(vec![script]).await;
            let mut stream = server.snapshot().await;
            if has_message {
                assert!(matches!(stream.next().await, StreamEvent::Message(_)));
            }
            let failure = failure(stream.next().await);
            assert_eq!(kind(&failure), ErrorKind::Unavailable);
            assert_eq!(failure.member_condition(), MemberCondition::Unable);
        }
    });
}

#[test]
fn a_response_that_is_not_grpc_is_a_protocol_error() {
    let ok = [("grpc-status", "0")];
    let page = Script {
        status: 404,
        trailers: Some(Vec::new()),
        ..Script::default()
    };
    let scripts = [
        page,
        script(&[b"<html>".to_vec()], &ok),
        script(&[vec![1, 0, 0, 0, 0]], &ok),
        script(&[vec![0, 0, 0, 0, 9, 1]], &ok),
        // A field without its length.
        script(&[vec![0, 0, 0, 0, 1, 0x1a]], &ok),
        script(&[], &[("x", "no status")]),
    ];
    run(async {
        for script in scripts {
            let body = script.body.clone();
            let server = Server::start(vec![script]).await;
            let mut stream = server.snapshot().await;
            let failure = failure(stream.next().await);
            assert_eq!(kind(&failure), ErrorKind::Protocol, "{body:?}");
        }
    });
}

#[test]
fn silence_for_the_time_limit_ends_a_stream() {
    run(async {
        let silent = Script {
            status: 200,
            ..Script::default()
        };
        let server = Server::start(vec![silent]).await;
        let mut stream = server.snapshot().await;
        let end = stream.next_within(Duration::from_millis(20)).await;
        assert!(matches!(failure(end), AttemptFailure::Silence));
        assert!(stream.connection().is_none(), "it is closed");
    });
}

#[test]
fn a_duplex_stream_is_opened_again_after_it_was_closed() {
    run(async {
        let answer = LeaseKeepAliveResponse {
            id: 7,
            ttl: 5,
            ..LeaseKeepAliveResponse::default()
        };
        let open = Script {
            status: 200,
            body: framed(&answer),
            ..Script::default()
        };
        let server = Server::start(vec![open]).await;
        let mut stream = server.transport.duplex(ConnectionRole::Leases);
        for opened in 1..=3 {
            stream.open(Urgency::Background);
            stream.hurry();
            assert!(matches!(stream.next().await, StreamEvent::Opened));
            stream.send(LeaseKeepAliveRequest { id: 7 });
            let next = stream.next().await;
            assert!(matches!(next, StreamEvent::Message(message) if message == answer));
            assert!(stream.received().unwrap().bytes() > 5);
            stream.close(MemberCondition::Healthy);
            assert!(stream.received().is_none());
            assert_eq!(server.requests.borrow().len(), opened);
        }
    });
}

#[test]
fn the_first_message_or_the_failure_is_the_result_of_an_attempt() {
    run(async {
        let ok = [("grpc-status", "0")];
        let scripts = vec![
            script(&[framed(&blob(4))], &ok),
            script(&[], &ok),
            script(&[], &[("grpc-status", "16")]),
        ];
        let server = Server::start(scripts).await;
        let role = ConnectionRole::Bulk;
        let mut stream = server.transport.server_stream(role, SnapshotRequest {});
        let mut first = async || {
            let connection = server.transport.connection(role, Urgency::Call).await;
            stream.first(connection.unwrap(), None).await
        };
        assert_eq!(first().await.unwrap(), blob(4));
        for expected in [ErrorKind::Unavailable, ErrorKind::Unauthenticated] {
            let error = first().await.unwrap_err();
            assert!(
                matches!(&error, RpcError::Status(answer) if answer.kind == expected),
                "{error:?}"
            );
        }
    });
}

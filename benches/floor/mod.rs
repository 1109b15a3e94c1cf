//! The floor: cost of the protocol alone, without this crate.
//!
//! One thread drives a current-thread runtime and one `h2` connection. Requests are encoded in advance, and
//! replies are read up to their trailers and discarded.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_blocking::local::LocalEtcd;
use h2::client::SendRequest;
use tokio::net::TcpStream;

use super::{Figure, KEY, Meter, RUN, VALUE, Verb};

pub(crate) fn run(etcd: &LocalEtcd, verb: Verb, flight: usize) -> Figure {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (path, body) = match verb {
        Verb::Get => ("/etcdserverpb.KV/Range", framed(&[(1, KEY.as_bytes())])),
        Verb::Put => (
            "/etcdserverpb.KV/Put",
            framed(&[(1, KEY.as_bytes()), (2, &VALUE)]),
        ),
    };
    let uri: http::Uri = format!("{}{path}", etcd.endpoint()).parse().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let tcp = TcpStream::connect(etcd.client_addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake::<_, Bytes>(tcp)
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        for _ in 0..100 {
            exchange(&send, &uri, &body).await;
        }
        let meter = Meter::start();
        let loops: Vec<_> = (0..flight)
            .map(|_| {
                tokio::task::spawn_local(one_after_the_other(
                    send.clone(),
                    uri.clone(),
                    body.clone(),
                ))
            })
            .collect();
        let mut latencies = Vec::new();
        for task in loops {
            latencies.extend(task.await.unwrap());
        }
        meter.figure(latencies)
    })
}

async fn one_after_the_other(
    send: SendRequest<Bytes>,
    uri: http::Uri,
    body: Bytes,
) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(100_000);
    let begun = Instant::now();
    while begun.elapsed() < RUN {
        let sent = Instant::now();
        exchange(&send, &uri, &body).await;
        latencies.push(sent.elapsed());
    }
    latencies
}

async fn exchange(send: &SendRequest<Bytes>, uri: &http::Uri, body: &Bytes) {
    let request = http::Request::post(uri.clone())
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = send.clone().ready().await.unwrap();
    let (response, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data(body.clone(), true).unwrap();
    let mut reply = response.await.unwrap().into_body();
    while let Some(data) = reply.data().await {
        let _ = reply.flow_control().release_capacity(data.unwrap().len());
    }
    let trailers = reply
        .trailers()
        .await
        .unwrap()
        .expect("a gRPC reply ends with trailers");
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}

/// A gRPC message with these length-delimited protobuf fields.
fn framed(fields: &[(u8, &[u8])]) -> Bytes {
    let mut message = Vec::new();
    for (number, value) in fields {
        message.push(number << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            message.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(value);
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

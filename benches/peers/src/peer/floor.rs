//! The floor: the bytes of a get or a put over `h2` alone, on one thread with as many requests in flight as the
//! others have threads. Requests are encoded in advance, and replies are read up to their trailers and discarded.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::net::TcpStream;

use peers::Failure;
use peers::meter::{Meter, Span};
use peers::report::Report;
use peers::task::{Task, key_of_put, key_of_value, no_counterpart};

pub(super) fn run(task: &Task) -> Result<Report, Failure> {
    let is_get = match task.work.as_str() {
        "get" => true,
        "put" => false,
        "pipeline" => task.params.is("verb", "get"),
        _ => return Ok(no_counterpart()),
    };
    let (size, span) = (task.params.number("size")?, Span::of(&task.params)?);
    let flight = task
        .params
        .number("flight")
        .or_else(|_| task.params.number("threads"))?;
    let (path, message) = if is_get {
        ("Range", fields(&[(1, key_of_value(size).as_bytes())]))
    } else {
        (
            "Put",
            fields(&[(1, key_of_put(0).as_bytes()), (2, &vec![b'v'; size])]),
        )
    };
    let uri: http::Uri = format!("{}/etcdserverpb.KV/{path}", task.endpoint).parse()?;
    let address = task.endpoint.trim_start_matches("http://").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        let (send, connection) = builder.handshake::<_, Bytes>(tcp).await?;
        tokio::spawn(connection);
        let body = framed(&message);
        in_flight(flight, span.warm, span.most, &send, &uri, &body).await?;
        let meter = Meter::start();
        let latencies = in_flight(flight, span.secs, span.most, &send, &uri, &body).await?;
        Ok(meter.with_latencies(latencies))
    })
}

async fn in_flight(
    flight: usize,
    time: Duration,
    most: usize,
    send: &SendRequest<Bytes>,
    uri: &http::Uri,
    body: &Bytes,
) -> Result<Vec<Duration>, Failure> {
    let mut tasks = Vec::new();
    for _ in 0..flight {
        let (send, uri, body) = (send.clone(), uri.clone(), body.clone());
        tasks.push(tokio::spawn(async move {
            let (begun, mut latencies) = (Instant::now(), Vec::with_capacity(10_000));
            while begun.elapsed() < time && latencies.len() < most {
                let sent = Instant::now();
                exchange(&send, &uri, &body).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, Failure>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

async fn exchange(send: &SendRequest<Bytes>, uri: &http::Uri, body: &Bytes) -> Result<(), Failure> {
    let request = http::Request::post(uri.clone())
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())?;
    let mut send = send.clone().ready().await?;
    let (response, mut stream) = send.send_request(request, false)?;
    stream.send_data(body.clone(), true)?;
    let mut reply = response.await?.into_body();
    while let Some(data) = reply.data().await {
        let length = data?.len();
        reply.flow_control().release_capacity(length)?;
    }
    let trailers = reply.trailers().await?.ok_or("a reply without trailers")?;
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        status => Err(format!("the gRPC status {status:?}").into()),
    }
}

/// A protobuf message with these length-delimited fields.
fn fields(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, value) in fields {
        message.push(number << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(value);
    }
    message
}

/// The message as gRPC frames it.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

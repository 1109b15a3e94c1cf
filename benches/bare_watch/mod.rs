//! A bare reader of a watch stream: `h2` on one thread, which counts events and keeps nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_blocking::local::LocalEtcd;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;

/// Reads `count` events of all keys under `prefix`, from this revision on. Returns the time and the CPU
/// time of this thread, from the request on.
pub(crate) fn replay(
    etcd: &LocalEtcd,
    prefix: &[u8],
    revision: i64,
    count: usize,
) -> (Duration, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let uri = format!("{}/etcdserverpb.Watch/Watch", etcd.endpoint());
    runtime.block_on(async {
        let tcp = TcpStream::connect(etcd.client_addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake::<_, Bytes>(tcp)
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(&uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (begun, used) = (Instant::now(), thread_time());
        let mut ready = send.ready().await.unwrap();
        let (response, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(create(prefix, revision), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut events = Events::default();
        while events.count < count {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            events.read(&data);
        }
        (begun.elapsed(), thread_time() - used)
    })
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A framed request that creates a watch of a prefix.
fn create(prefix: &[u8], revision: i64) -> Bytes {
    let mut end = prefix.to_vec();
    *end.last_mut().unwrap() += 1;
    let mut create = Vec::new();
    for (field, bytes) in [(1_u8, prefix), (2, &end)] {
        create.extend([field << 3 | 2, bytes.len() as u8]);
        create.extend(bytes);
    }
    create.push(3 << 3);
    let mut rest = revision as u64;
    while rest >= 0x80 {
        create.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    create.push(rest as u8);
    let mut framed = vec![0, 0, 0, 0, create.len() as u8 + 2];
    framed.extend([1 << 3 | 2, create.len() as u8]);
    framed.extend(create);
    framed.into()
}

/// Counts the events in a stream of framed responses, which arrive in pieces of any size.
#[derive(Default)]
struct Events {
    count: usize,
    buffer: Vec<u8>,
}

impl Events {
    fn read(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        let mut at = 0;
        while let Some(head) = self.buffer.get(at..at + 5) {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(message) = self.buffer.get(at + 5..at + 5 + length) else {
                break;
            };
            self.count += events(message);
            at += 5 + length;
        }
        self.buffer.drain(..at);
    }
}

/// The number of events in a response: its fields with the number 11.
fn events(mut message: &[u8]) -> usize {
    let mut count = 0;
    while !message.is_empty() {
        let (tag, rest) = varint(message);
        let (value, rest) = varint(rest);
        count += usize::from(tag >> 3 == 11);
        // A field is a number, or a length and that many bytes.
        message = match tag & 7 {
            2 => &rest[value as usize..],
            _ => rest,
        };
    }
    count
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, &bytes[at + 1..]);
        }
    }
    panic!("a number that does not end");
}

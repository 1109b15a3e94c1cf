//! HTTP/2 frames for scripted servers that violate the protocol: they answer pings, and send arbitrary bytes as
//! replies.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Encodes a frame without any check (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Encodes a header block of literal fields without indexing (RFC 7541, section 6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            // A length of seven bits is all these tests need, but for long values.
            match text.len() {
                short @ 0..127 => bytes.push(short as u8),
                long => {
                    bytes.push(127);
                    let mut rest = long - 127;
                    while rest >= 128 {
                        bytes.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    bytes.push(rest as u8);
                }
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

pub fn headers(stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(headers))
}

/// Response headers of a gRPC server.
pub fn ok(stream: u32) -> Vec<u8> {
    let ok = [(":status", "200"), ("content-type", "application/grpc")];
    headers(stream, 0, &ok)
}

pub fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

/// Encodes a gRPC message: a flag, a length that may be wrong, and bytes.
pub fn message(flag: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag], &length.to_be_bytes()[..], bytes].concat()
}

pub fn trailers(stream: u32, status: &str, text: &str) -> Vec<u8> {
    headers(
        stream,
        END_STREAM,
        &[("grpc-status", status), ("grpc-message", text)],
    )
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn go_away(last: u32, code: u32, text: &str) -> Vec<u8> {
    let payload = [
        &last.to_be_bytes()[..],
        &code.to_be_bytes(),
        text.as_bytes(),
    ]
    .concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// Sends the connection preface of an HTTP/2 server.
pub fn greet(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))
}

/// Serves a connection: answers settings and pings, and calls `answer` with the stream of each
/// request whose message has arrived. Ends with the connection, or when `answer` fails.
pub fn serve(
    stream: TcpStream,
    mut answer: impl FnMut(&mut TcpStream, u32) -> io::Result<()>,
) -> io::Result<()> {
    serve_messages(stream, |stream, id, _| answer(stream, id))
}

/// [`serve`], and passes the bytes of each frame of data.
pub fn serve_messages(
    mut stream: TcpStream,
    mut answer: impl FnMut(&mut TcpStream, u32, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    greet(&mut stream)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
            }
            (PING, flags) if flags & ACK == 0 => {
                stream.write_all(&frame(PING, ACK, 0, &payload))?
            }
            (DATA, _) => answer(&mut stream, id, &payload)?,
            _ => {}
        }
    }
}

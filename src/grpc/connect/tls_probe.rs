//! Detects that a server expects TLS where the client does not use it, or the reverse.
//!
//! etcd only closes the connection in both cases. A proxy without a backend does the same, so a
//! closed connection is not a proof. The server is therefore probed once with the other protocol,
//! by the fixed first message of a client, and its answer is the proof. A probe never contains data
//! of the user.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The connection preface of HTTP/2, with an empty SETTINGS frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2), which every TLS server answers with a
/// handshake message or an alert.
const CLIENT_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x5d, // a handshake record of 93 bytes
    0x01, 0x00, 0x00, 0x59, // a ClientHello of 89 bytes
    0x03, 0x03, // TLS 1.2
    b'e', b't', b'c', b'd', b'-', b'b', b'l', b'o', b'c', b'k', b'i', b'n', b'g', b':', b' ', b'd',
    b'o', b'e', b's', b' ', b'i', b't', b' ', b's', b'p', b'e', b'a', b'k', b' ', b'T', b'L', b'S',
    0x00, // no session
    0x00, 0x0a, // five cipher suites: ECDHE with AES-GCM, and RSA with AES-GCM
    0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0x00, 0x9c, //
    0x01, 0x00, // no compression
    0x00, 0x26, // 38 bytes of extensions
    0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17, // groups: X25519, P-256
    0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // points: uncompressed
    0x00, 0x0d, 0x00, 0x12, 0x00, 0x10, // eight signature algorithms
    0x04, 0x03, 0x08, 0x04, 0x04, 0x01, 0x05, 0x03, 0x08, 0x05, 0x05, 0x01, 0x08, 0x06, 0x06, 0x01,
];

/// Probes the server behind `io`, and describes the mismatch if there is one.
pub(crate) async fn probe(
    io: impl AsyncRead + AsyncWrite + Unpin,
    secure: bool,
) -> Option<&'static str> {
    let message = if secure { PREFACE } else { CLIENT_HELLO };
    let answer = timeout(PROBE_TIMEOUT, ask(io, message)).await.ok()??;
    match (secure, answer) {
        // The header of a SETTINGS frame on stream 0, which every server sends first.
        (true, [_, _, _, 0x04, _, 0, 0, 0, 0]) => {
            Some("the server runs without TLS: write the endpoint with http, not https")
        }
        // A TLS record: a handshake message or an alert.
        (false, [0x15 | 0x16, 0x03, ..]) => {
            Some("the server runs under TLS: write the endpoint with https, not http")
        }
        _ => None,
    }
}

/// The first bytes of the answer; missing bytes are 0.
async fn ask(mut io: impl AsyncRead + AsyncWrite + Unpin, message: &[u8]) -> Option<[u8; 9]> {
    io.write_all(message).await.ok()?;
    let mut answer = [0; 9];
    let mut filled = 0;
    while let Some(rest) = answer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match io.read(rest).await {
            Ok(count @ 1..) => filled += count,
            Ok(0) | Err(_) => break,
        }
    }
    (filled >= 7).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::CLIENT_HELLO;

    #[test]
    fn the_lengths_in_the_client_hello_are_correct() {
        let length =
            |at: usize| usize::from(CLIENT_HELLO[at]) << 8 | usize::from(CLIENT_HELLO[at + 1]);
        assert_eq!(length(3), CLIENT_HELLO.len() - 5);
        assert_eq!(length(7), CLIENT_HELLO.len() - 9);
        assert_eq!(length(58), CLIENT_HELLO.len() - 60);
    }
}

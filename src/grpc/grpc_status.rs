//! Reads the gRPC status of a response from its headers or trailers.

use http::{HeaderMap, StatusCode};

use super::rpc_error::RpcError;
use crate::error::ServerError;

/// gRPC's code "unavailable".
const UNAVAILABLE: i32 = 14;

/// gRPC's code for a status without a known code.
const UNKNOWN: i32 = 2;

/// Returns whether the gRPC status is present. A status other than OK is an error.
pub(super) fn check(headers: &HeaderMap) -> Result<bool, RpcError> {
    match headers.get("grpc-status") {
        None => Ok(false),
        Some(status) if status == "0" => Ok(true),
        Some(status) => {
            let code = status.to_str().ok().and_then(|code| code.parse().ok());
            let message = headers.get("grpc-message");
            let message = message.map_or(Vec::new(), |text| percent_decode(text.as_bytes()));
            Err(match String::from_utf8(message) {
                Ok(text) => RpcError::Status(ServerError::read(code.unwrap_or(UNKNOWN), &text)),
                Err(_) => malformed("the message of a gRPC status is not UTF-8"),
            })
        }
    }
}

/// Decodes `%41` to `A`. Other bytes, and a `%` without two hexadecimal digits, stay as they are.
fn percent_decode(mut encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some((first, rest)) = encoded.split_first() {
        let escape = rest.split_first_chunk().filter(|_| *first == b'%');
        let escape = escape.and_then(|(digits, rest)| Some((hex_byte(*digits)?, rest)));
        let (byte, rest) = escape.unwrap_or((*first, rest));
        decoded.push(byte);
        encoded = rest;
    }
    decoded
}

fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

/// The error for a reply that is not gRPC: from another server, or from a proxy without a backend.
#[cold]
pub(super) fn not_grpc(status: StatusCode) -> RpcError {
    let text = format!("HTTP {status} without a gRPC status");
    match status.as_u16() {
        429 | 502 | 503 | 504 => RpcError::Status(ServerError::read(UNAVAILABLE, &text)),
        _ => malformed(&text),
    }
}

/// The error for a reply that breaks the protocol.
#[cold]
pub(super) fn malformed(text: &str) -> RpcError {
    RpcError::Status(ServerError::malformed(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn answer(headers: &[(&'static str, &'static [u8])]) -> ServerError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        match check(&map) {
            Err(RpcError::Status(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_status_is_read_from_its_code_and_its_percent_encoded_message() {
        assert!(!check(&HeaderMap::new()).unwrap());
        let ok = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        assert!(check(&ok).unwrap());
        let denied = answer(&[
            ("grpc-status", b"7"),
            ("grpc-message", b"etcdserver: permission%20denied"),
        ]);
        assert_eq!(denied.kind, ErrorKind::PermissionDenied);
        assert_eq!(denied.text, "etcdserver: permission denied");
        assert_eq!(
            answer(&[("grpc-status", b"14")]).kind,
            ErrorKind::Unavailable
        );
        assert_eq!(answer(&[("grpc-status", b"x")]).kind, ErrorKind::Server);
    }

    #[test]
    fn incomplete_escapes_are_kept_and_a_message_that_is_not_utf_8_is_malformed() {
        for (encoded, decoded) in [
            ("%41%c3%A4", "A\u{e4}"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%+1", "%zz%+1"),
        ] {
            assert_eq!(percent_decode(encoded.as_bytes()), decoded.as_bytes());
        }
        let malformed = answer(&[("grpc-status", b"7"), ("grpc-message", b"%ff")]);
        assert_eq!(malformed.kind, ErrorKind::Protocol);
    }

    #[test]
    fn malformed_status_details_are_ignored() {
        let denied = answer(&[
            ("grpc-status", b"7"),
            ("grpc-message", b"no"),
            ("grpc-status-details-bin", b"!not base64!"),
        ]);
        assert_eq!(denied.kind, ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_proxy_without_a_backend_is_unavailable_and_another_server_is_no_etcd() {
        for (status, expected) in [
            (429, ErrorKind::Unavailable),
            (502, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (504, ErrorKind::Unavailable),
            (400, ErrorKind::Protocol),
            (404, ErrorKind::Protocol),
            (500, ErrorKind::Protocol),
        ] {
            let error = not_grpc(StatusCode::from_u16(status).unwrap());
            assert!(
                matches!(&error, RpcError::Status(answer) if answer.kind == expected),
                "{status}: {error:?}"
            );
        }
    }
}

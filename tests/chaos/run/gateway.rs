//! A member's JSON gateway, over TLS or not: the truth is read through it, without the client under test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The time limit of one request, or of one read from a stream.
const LIMIT: Duration = Duration::from_millis(1500);

/// A gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub addr: SocketAddr,
    /// The certificate of the authority, with TLS.
    pub ca: Option<PathBuf>,
    /// The name and password of the user.
    pub user: Option<(&'static str, &'static str)>,
}

/// A connection.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

impl Gateway {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect_timeout(&self.addr, LIMIT)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        let Some(ca) = &self.ca else {
            return Ok(Box::new(tcp));
        };
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, tcp)))
    }

    /// Sends a request, and returns the stream after the headers of the reply.
    fn send(&self, path: &str, token: &str, json: &str) -> io::Result<Box<dyn Stream>> {
        let mut stream = self.connect()?;
        let token = match token {
            "" => String::new(),
            token => format!("Authorization: {token}\r\n"),
        };
        // The reply to HTTP/1.0 has no chunks.
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {}\r\n{token}Content-Length: {}\r\n\r\n{json}",
            self.addr,
            json.len()
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        match head.split(|byte| *byte == b' ').nth(1) {
            Some(b"200") => Ok(stream),
            _ => {
                let mut body = String::new();
                let _ = stream.read_to_string(&mut body);
                let head = String::from_utf8_lossy(&head);
                let status = head.lines().next().unwrap_or_default().to_owned();
                Err(io::Error::other(format!("{path}: {status} {body}")))
            }
        }
    }

    fn token(&self) -> io::Result<String> {
        let Some((name, password)) = self.user else {
            return Ok(String::new());
        };
        let json = format!(r#"{{"name":"{name}","password":"{password}"}}"#);
        let reply = self.read("/v3/auth/authenticate", "", &json)?;
        let token = reply.get("token").and_then(Value::as_str);
        token
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other("no token"))
    }

    fn read(&self, path: &str, token: &str, json: &str) -> io::Result<Value> {
        let mut body = Vec::new();
        match self.send(path, token, json)?.read_to_end(&mut body) {
            Ok(_) => {}
            // A server may end TLS without its notice.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        serde_json::from_slice(&body).map_err(io::Error::other)
    }

    /// Posts JSON, and returns the reply.
    pub fn post(&self, path: &str, json: &str) -> io::Result<Value> {
        self.read(path, &self.token()?, json)
    }

    /// Begins to watch everything from a revision on.
    pub fn watch(&self, from: i64) -> io::Result<Box<dyn Stream>> {
        // "\0" stands for the first key, and as the end for all keys.
        let json = format!(
            r#"{{"create_request":{{"key":"AA==","range_end":"AA==","start_revision":"{from}"}}}}"#
        );
        self.send("/v3/watch", &self.token()?, &json)
    }
}

/// Decodes base64; `None` for text that is not.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("Zm9vYg=="), Some(b"foob".to_vec()));
        assert_eq!(base64("AA=="), Some(vec![0]));
        assert_eq!(base64("/+8="), Some(vec![0xff, 0xef]));
        assert_eq!((base64(""), base64("a b")), (Some(Vec::new()), None));
    }
}

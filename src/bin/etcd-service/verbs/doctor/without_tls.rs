//! What `tls_look` is in a program without TLS.

use std::io;
use std::net::TcpStream;

use super::certificate::Certificate;
use super::identity::Identity;

/// Fails, because this program was built without TLS.
pub(super) fn handshake(
    _stream: TcpStream,
    _host: &str,
    _identity: Option<&Identity>,
    _certificate: &mut Option<Certificate>,
) -> io::Result<TcpStream> {
    Err(io::Error::other("this program was built without TLS"))
}

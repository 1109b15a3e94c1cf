//! Client of etcd's HTTP gateway: a second way to access a server, independent of this crate.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Posts JSON and returns status and body. Keys and values are base64 in that JSON.
pub fn post(
    addr: SocketAddr,
    path: &str,
    json: &str,
    timeout: Duration,
) -> io::Result<(u16, String)> {
    post_with(addr, path, "", json, timeout)
}

/// [`post`] with the token of a user, which `/v3/auth/authenticate` returns.
pub fn post_as(
    addr: SocketAddr,
    path: &str,
    token: &str,
    json: &str,
    timeout: Duration,
) -> io::Result<(u16, String)> {
    let header = format!("Authorization: {token}\r\n");
    post_with(addr, path, &header, json, timeout)
}

fn post_with(
    addr: SocketAddr,
    path: &str,
    headers: &str,
    json: &str,
    timeout: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\n{headers}Content-Length: {}\r\n\r\n{json}",
        json.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let status = reply
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = reply
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Ok((
        status.ok_or(io::ErrorKind::InvalidData)?,
        body.ok_or(io::ErrorKind::InvalidData)?,
    ))
}

/// Puts the value `bar` under the key `foo`; returns whether it succeeded.
pub fn put_foo(addr: SocketAddr, timeout: Duration) -> bool {
    let reply = post(
        addr,
        "/v3/kv/put",
        r#"{"key":"Zm9v","value":"YmFy"}"#,
        timeout,
    );
    reply.is_ok_and(|(status, _)| status == 200)
}

/// Reads the key `foo`, linearizable; returns whether it exists.
pub fn has_foo(addr: SocketAddr, timeout: Duration) -> io::Result<bool> {
    match post(addr, "/v3/kv/range", r#"{"key":"Zm9v"}"#, timeout)? {
        (200, body) => Ok(body.contains(r#""value":"YmFy""#)),
        (status, body) => Err(io::Error::other(format!("HTTP {status} {body}"))),
    }
}

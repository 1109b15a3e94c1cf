//! Sends the question of a probe, and judges the answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::http_reply::{HttpReply, Judgement};
use super::question::{HttpExpectation, Probe, Question};
use super::tcp;
use crate::grpc::{Resolver, check_health};

impl Probe {
    /// Asks the server, and returns why the answer is not the expected one.
    pub(crate) async fn run(self, resolver: Resolver, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        let connecting = tcp::connect(&resolver, &self.host, self.port, deadline);
        let stream = match timeout_at(deadline, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(format!("no connection in {timeout:?}")),
        };
        let authority = self.authority();
        let answer = async {
            match &self.question {
                Question::Connect => Ok(()),
                Question::Get { path, expected } => get(stream, &authority, path, expected).await,
                Question::Serving { service } => check_health(stream, &authority, service).await,
            }
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("connected, and no complete answer in {timeout:?}")),
        }
    }
}

/// Sends a GET, and reads the reply until it is decided whether it is the expected one.
async fn get(
    mut stream: TcpStream,
    authority: &str,
    path: &str,
    expected: &HttpExpectation,
) -> Result<(), String> {
    const AGENT: &str = concat!("etcd-blocking/", env!("CARGO_PKG_VERSION"));
    let broken = |error: std::io::Error| format!("the connection failed: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut reply = HttpReply::new(expected);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await.map_err(broken)?;
        let judgement = match count {
            0 => reply.end(),
            _ => reply.push(chunk.get(..count).unwrap_or_default()),
        };
        match judgement {
            Judgement::Open => {}
            Judgement::Passed => return Ok(()),
            Judgement::Failed(why) => return Err(why),
        }
    }
}

#[cfg(test)]
mod tests;

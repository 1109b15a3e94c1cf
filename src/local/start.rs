//! From flags to a running server, on ports nobody else has.

use std::{io, net::SocketAddr, path::Path};

use super::{
    binary,
    etcd::{LocalEtcd, READY},
    flags::{self, Flags},
    ports,
};

/// Flags for a [`LocalEtcd`] that is yet to start.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct LocalEtcdBuilder {
    name: Option<String>,
    extra: Vec<String>,
}

impl LocalEtcdBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: None,
            extra: Vec::new(),
        }
    }

    /// Gives etcd one more flag, as on its command line: `--quota-backend-bytes=2097152`.
    ///
    /// It wins over a flag this module gives. Listen addresses should be left alone. With a
    /// `--cert-file` the client port speaks TLS.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Serves clients under TLS with this certificate and key (PEM files). They are read again for
    /// every connection, as etcd does.
    ///
    /// The certificate must be for what the endpoints name: 127.0.0.1. Members speak to each other in
    /// the clear all the same.
    pub fn tls(self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg(format!("--cert-file={}", cert.as_ref().display()))
            .arg(format!("--key-file={}", key.as_ref().display()))
    }

    /// Wants a certificate from every client, signed by an authority in this PEM file; only with
    /// [`tls`](Self::tls).
    pub fn client_ca(self, ca: impl AsRef<Path>) -> Self {
        self.arg(format!("--trusted-ca-file={}", ca.as_ref().display()))
            .arg("--client-cert-auth")
    }

    /// Names the member; `local` when not called.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Starts the server and returns when it is ready.
    ///
    /// Blocks a fraction of a second, and never longer than 30 s (unless ports are taken away again
    /// and again).
    ///
    /// # Errors
    ///
    /// When the program cannot be run, ends at once (a flag it does not know), or is not ready in
    /// time; the text holds the end of etcd's log.
    pub fn start(self) -> io::Result<LocalEtcd> {
        let binary = binary::find()?;
        retry_taken_ports(|| {
            let name = self.name.clone().unwrap_or_else(|| "local".to_owned());
            let peer = ports::free()?;
            let flags = Flags {
                client: ports::free()?,
                metrics: metrics_addr(&self.extra)?,
                peer,
                peer_advertised: peer,
                initial_cluster: vec![(name.clone(), peer)],
                joins: false,
                extra: self.extra.clone(),
                name,
            };
            let mut etcd = LocalEtcd::prepare(&binary, flags)?;
            etcd.spawn()?;
            etcd.wait_ready(READY)?;
            Ok(etcd)
        })
    }
}

/// How often a start is tried when another process takes a port first.
const ATTEMPTS: usize = 5;

/// A port for /health in the clear, when the client port is not in the clear.
pub(super) fn metrics_addr(extra: &[String]) -> io::Result<Option<SocketAddr>> {
    flags::is_tls(extra).then(ports::free).transpose()
}

/// Tries a start again, on other ports, when another process was faster to take one.
pub(super) fn retry_taken_ports<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                attempt += 1
            }
            outcome => return outcome,
        }
    }
}

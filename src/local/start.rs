//! Starting a single server: builder, flags, free ports, readiness.

use std::{io, path::Path};

use super::{
    binary,
    etcd::{LocalEtcd, READY},
    flags::Flags,
    ports,
};

/// Builder of a [`LocalEtcd`] with other flags than the defaults.
///
/// ```no_run
/// use etcd_blocking::local::LocalEtcd;
///
/// let etcd = LocalEtcd::builder().name("m0").arg("--auto-compaction-retention=1h").start()?;
/// println!("etcd answers at {}", etcd.endpoint());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct LocalEtcdBuilder {
    name: Option<String>,
    extra: Vec<String>,
}

impl LocalEtcd {
    /// Starts a single server with the default flags and returns when it is ready.
    ///
    /// Blocks for a fraction of a second, and for 30 s at most.
    ///
    /// # Errors
    ///
    /// Fails when the program cannot be run, ends at once, or is not ready in time; the text contains the
    /// last lines of etcd's log.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder, for a server with flags of your own.
    pub fn builder() -> LocalEtcdBuilder {
        LocalEtcdBuilder {
            name: None,
            extra: Vec::new(),
        }
    }
}

impl LocalEtcdBuilder {
    /// Adds a flag, as on etcd's command line: `--quota-backend-bytes=2097152`.
    ///
    /// It overrides a flag that this module sets. Do not set listen addresses: this module chooses them.
    /// `--cert-file` enables TLS on the client port.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Enables TLS on the client port, with this certificate and key (PEM files). etcd reads them again
    /// for every connection.
    ///
    /// The certificate must be valid for 127.0.0.1, the host of the endpoint. Traffic between members
    /// stays unencrypted.
    pub fn tls(self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg(format!("--cert-file={}", cert.as_ref().display()))
            .arg(format!("--key-file={}", key.as_ref().display()))
    }

    /// Requires a client certificate that is signed by an authority in this PEM file; only with
    /// [`tls`](Self::tls).
    pub fn client_ca(self, ca: impl AsRef<Path>) -> Self {
        self.arg(format!("--trusted-ca-file={}", ca.as_ref().display()))
            .arg("--client-cert-auth")
    }

    /// Sets the name of the member; `local` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Starts the server and returns when it is ready.
    ///
    /// Blocks for a fraction of a second, and for 30 s at most; longer only when other processes take
    /// the chosen ports, up to 5 times.
    ///
    /// # Errors
    ///
    /// Fails when the program cannot be run, ends at once (for example, because of an unknown flag), or is not
    /// ready in time; the text contains the last lines of etcd's log.
    pub fn start(self) -> io::Result<LocalEtcd> {
        let binary = binary::find()?;
        ports::retry_taken(|| {
            let name = self.name.clone().unwrap_or_else(|| "local".to_owned());
            let peer = ports::free()?;
            let flags = Flags {
                client: ports::free()?,
                metrics: Flags::metrics_addr(&self.extra)?,
                peer,
                peer_advertised: peer,
                initial_cluster: vec![(name.clone(), peer)],
                joins: false,
                is_alone: true,
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

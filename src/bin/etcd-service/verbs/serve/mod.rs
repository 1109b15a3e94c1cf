//! The verb `serve`: a web page, metrics, targets for Prometheus and JSON.

mod access;
mod changes;
mod differences;
mod event_stream;
mod http;
mod json;
mod metrics_text;
mod routes;
#[cfg(test)]
mod samples;
mod states;
mod targets;
#[cfg(feature = "__tls")]
mod tls;
mod token;

use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use clap::Args;

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::complain;
use crate::registry::Registry;
use crate::signals::signals;
use access::Access;
use changes::Changes;
use http::{Answer, Encryption, serve};
use routes::Routes;
use token::Token;

/// The arguments of `serve`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  etcd-service serve\n  etcd-service serve --listen 127.0.0.1:9180 --allow-changes\n  \
etcd-service serve --listen 0.0.0.0:9180 --token-file /etc/etcd-service/token"
)]
pub(crate) struct Serve {
    /// Address to listen on, as HOST:PORT. Port 0 chooses a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    listen: String,
    /// File with the token that clients must send. Addresses that other machines can reach need this or --tls-client-ca
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serves HTTPS with this certificate, and those of its authorities after it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accepts only clients with a certificate of these authorities
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Name under which clients reach the server, such as that of a proxy in front of it. Can be given several times
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Permits to drain instances and to set weights
    #[arg(long)]
    allow_changes: bool,
    #[command(flatten)]
    formats: FormatArguments,
}

impl Serve {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let wrong = |error| Failure::usage(format!("--listen {}: {error}", self.listen));
        let addresses: Vec<_> = self.listen.to_socket_addrs().map_err(wrong)?.collect();
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        let encryption = self.encryption()?;
        if !is_local && token.is_none() && self.tls_client_ca.is_none() {
            return Err(Failure::usage(format!(
                "--listen {}: other machines can reach this address, so it needs --token-file or --tls-client-ca",
                self.listen
            )));
        }
        let signals = signals()?;
        let client = connection.connect()?;
        let registry = Arc::new(Registry::open(&client, &self.formats)?);
        let listener = TcpListener::bind(addresses.as_slice()).map_err(|error| {
            Failure::failed(format!(
                "listen on {}: {error}; name another address in --listen",
                self.listen
            ))
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::failed(format!("listen on {}: {error}", self.listen)))?;
        let access = Access::new(token, is_local, self.host);
        let changes = self
            .allow_changes
            .then(|| Changes::new(client.clone(), self.formats.first_prefix()));
        let routes = Routes::new(client, Arc::clone(&registry), access, changes);
        let answer: Arc<Answer> =
            Arc::new(move |connection, request| routes.answer(connection, request));
        let scheme = encryption.as_ref().map_or("http", |_| "https");
        let thread = thread::Builder::new().name("listener".into());
        thread
            .spawn(move || serve(&listener, encryption.as_ref(), &answer))
            .map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
        complain(format_args!("listening on {scheme}://{address}"));
        say_states(&registry);
        // Any of the signals ends it; so does a channel that is gone.
        let _ = signals.recv();
        Ok(0)
    }

    /// What the flags of TLS say.
    #[cfg(feature = "__tls")]
    fn encryption(&self) -> Result<Option<Arc<dyn Encryption>>, Failure> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let files = tls::TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.tls_client_ca.clone(),
        };
        Ok(Some(Arc::new(tls::Tls::read(files)?)))
    }

    #[cfg(not(feature = "__tls"))]
    fn encryption(&self) -> Result<Option<Arc<dyn Encryption>>, Failure> {
        match self.tls_cert {
            Some(_) => Err(Failure::usage(
                "--tls-cert: this etcd-service was built without TLS",
            )),
            None => Ok(None),
        }
    }
}

/// Says on stderr when etcd is away and when it is back, on a thread of its own.
fn say_states(registry: &Arc<Registry>) {
    let registry = Arc::clone(registry);
    let say = move || {
        let mut states = states::States::default();
        let mut seen = 0;
        loop {
            let picture = registry.wait(seen, states::WAIT);
            seen = picture.version;
            if let Some(text) = states.on(&picture) {
                complain(text);
            }
        }
    };
    // Without the thread, only these messages are missing.
    let _ = thread::Builder::new().name("states".into()).spawn(say);
}

//! Makes the builder of a client from a [`Config`], and refuses settings that contradict each other.

use std::time::Duration;

use super::ClientBuilder;
use crate::client::config::{Config, SecureConfig};
use crate::error::{Error, Operation, Result};
use crate::grpc::connect::dns_srv::SrvLookup;

impl Config {
    /// The builder of a client with these settings. What is not set is the default.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for settings that this crate refuses or
    /// does not have. Endpoints and numbers are checked by [`connect`](ClientBuilder::connect).
    pub fn builder(self) -> Result<ClientBuilder> {
        let built = self.build();
        built.map_err(|error| error.operation(Operation::new("configure")))
    }

    fn build(mut self) -> Result<ClientBuilder> {
        self.check()?;
        let mut builder = ClientBuilder::new(self.endpoints.clone());
        let spans = [
            (self.dial_timeout, &mut builder.connect_timeout),
            (self.request_timeout, &mut builder.timeout),
            (self.dial_keep_alive_time, &mut builder.ping_interval),
            (self.dial_keep_alive_timeout, &mut builder.ping_timeout),
        ];
        for (span, setting) in spans {
            *setting = span.unwrap_or(*setting);
        }
        let limits = &mut builder.limits;
        let sizes = [
            (self.max_call_send_msg_size, &mut limits.send),
            (self.max_call_recv_msg_size, &mut limits.receive),
            (self.max_txn_ops, &mut limits.txn_ops),
        ];
        for (size, setting) in sizes {
            *setting = size.filter(|size| *size > 0).unwrap_or(*setting);
        }
        let room = &mut builder.watch_room;
        room.items = self.watch_queue_responses.unwrap_or(room.items);
        room.bytes = self.watch_queue_bytes.unwrap_or(room.bytes);
        builder.srv = self.lookup(builder.connect_timeout);
        self.wire(builder)
    }

    /// The DNS lookup of endpoints. If DNS is not trusted, certificates must be for the domain.
    fn lookup(&mut self, timeout: Duration) -> Option<SrvLookup> {
        let domain = self.discovery_srv.take()?;
        let mut lookup = SrvLookup::new(domain.clone()).timeout(timeout);
        if let Some(name) = self.discovery_srv_name.take() {
            lookup = lookup.service_name(name);
        }
        if self.insecure_discovery == Some(false) {
            self.secure.server_name.get_or_insert(domain);
            lookup = lookup.secure_only();
        }
        Some(lookup)
    }

    /// Refuses unsupported and contradicting settings of TLS, users and the cluster.
    fn wire(self, mut builder: ClientBuilder) -> Result<ClientBuilder> {
        if let (Some(name), Some(password)) = (self.username, self.password) {
            builder = builder.user(name, password.reveal());
        }
        if let Some(token) = self.token {
            builder = builder.token(token.reveal());
        }
        if self.allow_plaintext_credentials {
            builder = builder.allow_plaintext_credentials();
        }
        if let Some(every) = self.auto_sync_interval.filter(|every| !every.is_zero()) {
            builder = builder.sync_interval(every);
        }
        builder = builder.reject_old_cluster(self.reject_old_cluster);
        self.secure.wire(builder)
    }

    fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(Error::invalid(why));
        if self.secure.insecure_skip_tls_verify {
            return refused(
                "insecure-skip-tls-verify: certificates are always verified here; name the \
                 authority with cacert instead",
            );
        }
        if self.permit_without_stream {
            return refused(
                "permit-without-stream: etcd closes connections of clients that ping while no request is open",
            );
        }
        if self.discovery_srv.is_some() && !self.endpoints.is_empty() {
            return refused("endpoints and discovery-srv exclude each other: set one of them");
        }
        if self.discovery_srv_name.is_some() && self.discovery_srv.is_none() {
            return refused("discovery-srv-name is set and discovery-srv is not");
        }
        if self.secure.cert.is_some() != self.secure.key.is_some() {
            return refused("a client certificate needs both cert and key");
        }
        match (&self.username, &self.password, &self.token) {
            (Some(_), None, _) => refused("username is set and password is not"),
            (None, Some(_), _) => refused("password is set and username is not"),
            (Some(_), Some(_), Some(_)) => refused("token excludes username and password"),
            _ => Ok(()),
        }
    }
}

impl SecureConfig {
    fn wants_tls(&self) -> bool {
        let files = [&self.cacert, &self.cert, &self.key, &self.server_name];
        files.iter().any(|file| file.is_some()) || self.insecure_transport == Some(false)
    }

    #[cfg(feature = "__tls")]
    fn wire(self, builder: ClientBuilder) -> Result<ClientBuilder> {
        if !self.wants_tls() {
            return Ok(builder);
        }
        let mut tls = crate::grpc::tls::Tls::new();
        if let Some(file) = self.cacert {
            tls = tls.ca_file(file);
        }
        if let (Some(cert), Some(key)) = (self.cert, self.key) {
            tls = tls.client_cert_files(cert, key);
        }
        if let Some(name) = self.server_name {
            tls = tls.server_name(name);
        }
        Ok(builder.tls(tls))
    }

    #[cfg(not(feature = "__tls"))]
    fn wire(self, builder: ClientBuilder) -> Result<ClientBuilder> {
        if self.wants_tls() {
            return Err(Error::invalid(
                "the settings need TLS, and etcd-blocking was built without the feature `tls`",
            ));
        }
        Ok(builder)
    }
}

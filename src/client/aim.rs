//! The endpoints of a client, and views that use a single endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::into_endpoints::IntoEndpoints;
use super::{Client, Core};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::connect::endpoint::{Endpoint, parse_all};
use crate::rpc::lease::LeaseRegistry;
use crate::rpc::watch::WatchRegistry;

/// The views of a client that are aimed at one endpoint, by the text of the endpoint. An entry ends with its
/// last view.
#[derive(Default)]
pub(super) struct Views(Mutex<HashMap<Arc<str>, Weak<Core>>>);

impl Client {
    /// Returns a view of this client that uses one endpoint only, also for its watches and lease renewals.
    ///
    /// The endpoint need not be one of the client's own; it may come from the
    /// [member list](crate::cluster::Cluster::member_list). Without a scheme it has that of the client's endpoints. The
    /// view shares everything else with this client: the runtime's thread, the settings, the deadline.
    /// It is closed with it, and [`close`](Client::close) on either closes both. Connections to the
    /// endpoint are the view's own, are made by its first call, and live as long as a view of that
    /// endpoint: keep it to use it again.
    ///
    /// Does not block.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// for endpoint in client.endpoints() {
    ///     let status = client.at(&endpoint)?.maintenance().status()?;
    ///     println!("{endpoint}: {} bytes, leader {}", status.db_size(), status.is_leader());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an endpoint that cannot be parsed, or
    /// whose scheme is not that of the client.
    pub fn at(&self, endpoint: impl AsRef<str>) -> Result<Client> {
        let wanted = endpoint.as_ref().trim();
        let refused = |e: Error| e.operation(Operation::about("at", wanted));
        let secure = self.core.transport.is_secure();
        let endpoint = Endpoint::parse(wanted, secure).map_err(refused)?;
        self.core.transport.check(&endpoint).map_err(refused)?;
        let mut views = self.core.views.0.lock();
        views.retain(|_, view| view.strong_count() > 0);
        let core = match views.get(&endpoint.text).and_then(Weak::upgrade) {
            Some(core) => core,
            None => {
                let text = Arc::clone(&endpoint.text);
                let core = Arc::new(self.core.aimed_at(endpoint));
                views.insert(text, Arc::downgrade(&core));
                core
            }
        };
        drop(views);
        Ok(Client {
            core,
            ..self.clone()
        })
    }

    /// Returns the endpoints of this client: those that were configured, and those that were read from the
    /// member list. Does not block.
    pub fn endpoints(&self) -> Vec<String> {
        let texts = self.core.transport.endpoints();
        texts.iter().map(ToString::to_string).collect()
    }

    /// Replaces all endpoints of this client and its clones.
    ///
    /// Connections to endpoints that stay are kept. A connection to a removed endpoint accepts no new
    /// calls: calls in progress are answered, watches and leases move to another endpoint. Does not
    /// block.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), and nothing is changed, for an empty list, an
    /// endpoint that cannot be parsed, or one whose scheme is not that of the client;
    /// [`FailedPrecondition`](ErrorKind::FailedPrecondition) on a view that is aimed at one endpoint.
    pub fn set_endpoints(&self, endpoints: impl IntoEndpoints) -> Result<()> {
        let refused = |e: Error| e.operation(Operation::new("set endpoints"));
        self.refuse_if_aimed().map_err(refused)?;
        let texts = endpoints.into_endpoints();
        let parsed = parse_all(&texts, self.core.transport.is_secure()).map_err(refused)?;
        for endpoint in &parsed {
            self.core.transport.check(endpoint).map_err(refused)?;
        }
        self.core.transport.configure(parsed);
        Ok(())
    }

    pub(super) fn refuse_if_aimed(&self) -> Result<()> {
        if !self.core.aimed {
            return Ok(());
        }
        let reason = "this view of the client is aimed at one endpoint; ask the client itself";
        Err(Error::new(ErrorKind::FailedPrecondition, reason))
    }
}

impl Core {
    fn aimed_at(&self, endpoint: Endpoint) -> Core {
        let transport = self.transport.aimed_at(endpoint);
        Core {
            bridge: Arc::clone(&self.bridge),
            watches: Arc::new(WatchRegistry::new(Arc::clone(&transport), self.watch_room)),
            transport,
            leases: LeaseRegistry::default(),
            watch_room: self.watch_room,
            views: Arc::clone(&self.views),
            before_closes: Arc::clone(&self.before_closes),
            aimed: true,
            id: self.id,
        }
    }
}

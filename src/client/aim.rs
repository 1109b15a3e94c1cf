//! Which endpoints a client talks to: all it knows, others, or one of choice.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::into_endpoints::IntoEndpoints;
use super::{Client, Core};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::connect::endpoint::{Endpoint, parse_all};
use crate::rpc::lease::LeaseRegistry;
use crate::rpc::watch::WatchRegistry;

/// The views of a client that are aimed at an endpoint, by its text, for as long as somebody has
/// them.
#[derive(Default)]
pub(super) struct Views(Mutex<HashMap<Arc<str>, Weak<Core>>>);

impl Client {
    /// This client, aimed at one endpoint: everything called on the view goes to that endpoint and
    /// nowhere else, its watches and lease renewals included.
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
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an endpoint that makes no sense, or whose
    /// scheme is not that of the client: what is meant for `https` never goes over `http`.
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

    /// The endpoints of this client: those that were configured, and those that were learned from
    /// the cluster. Does not block.
    pub fn endpoints(&self) -> Vec<String> {
        let texts = self.core.transport.endpoints();
        texts.iter().map(ToString::to_string).collect()
    }

    /// Replaces the endpoints of this client and all its clones, the configured ones and the learned
    /// ones.
    ///
    /// Connections to endpoints that stay are not touched. A connection to one that goes takes no
    /// more calls: calls under way are answered, watches and leases move to another endpoint. Does
    /// not block.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), and nothing is changed, for an empty list, an
    /// endpoint that makes no sense, or one whose scheme is not that of the client;
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

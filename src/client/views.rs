//! Views of a client: a namespace, ordered reads, and a single endpoint.

use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use super::scope::Scope;
use crate::error::{Error, Operation, Result};
use crate::grpc::connect::endpoint::Endpoint;
use crate::rpc::namespace::Namespace;
use crate::types::into_bytes::IntoBytes;

impl Client {
    /// Returns a view of this client whose keys are all under `prefix`: the view adds the prefix to
    /// every key that it sends, and removes it from every key that it receives.
    ///
    /// This applies to reads, writes, transactions, watches, mirrors, pages, the keys of leases, the
    /// server's own locks and elections, and to the types based on them: discovery,
    /// [`concurrency`](crate::concurrency), caches and copies. It does not apply to requests without keys:
    /// leases (their ids are those of the cluster), compaction, members, users and roles. A request about
    /// permissions is refused with [`InvalidArgument`](crate::ErrorKind::InvalidArgument) and not sent,
    /// because its keys would be outside of the namespace.
    ///
    /// Ranges end with the namespace: [`KeyRange::all`](crate::KeyRange::all) is every key in it. The key
    /// that equals `prefix` is not in it, because its name would be empty. A separator is part of the
    /// prefix: write `app/`, not `app`.
    ///
    /// A namespace is cheap to create and to clone, and shares everything with its client. A namespace of a
    /// namespace joins the prefixes. A namespace does not restrict access: for that, grant a role
    /// permission for the prefix.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// let app = client.namespace("app/")?;
    /// app.put("color", "red")?;
    /// assert_eq!(client.get("app/color")?.expect("just put").value(), "red");
    /// assert_eq!(app.get_prefix("")?[0].key(), "color");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty prefix.
    pub fn namespace(&self, prefix: impl IntoBytes) -> Result<Client> {
        let prefix = prefix.into_bytes();
        let mut scope = self.scope.as_deref().cloned().unwrap_or_default();
        let namespace = match &scope.namespace {
            Some(outer) => outer.nested(&prefix),
            None => Namespace::new(prefix),
        };
        let namespace = namespace.map_err(|e| e.operation(Operation::new("namespace")))?;
        scope.namespace = Some(namespace);
        Ok(self.scoped(scope))
    }

    /// Returns a view of this client whose reads never return an older state of the store than the view
    /// has returned before. Its reads include its own writes.
    ///
    /// The view is for [serializable](crate::Get::serializable) reads, which a member answers from its own
    /// data. A member that is behind may return an older revision than another one did. The view drops such
    /// an answer and asks another member, at most five times for each endpoint and within the timeout.
    /// Linearizable reads are always in order, without a further cost.
    ///
    /// The order covers this view, its clones and its views, also those of other namespaces. Two calls of
    /// `ordered` create two independent orders. Two calls that overlap have no order. Watches and mirrors
    /// have an order of their own.
    ///
    /// ```no_run
    /// # use etcd_blocking::Get;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// let ordered = client.ordered();
    /// ordered.put("k", "v")?;
    /// // Any member may answer, and the key is present.
    /// assert!(ordered.call(Get::key("k").serializable())?.first().is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Its reads fail with [`Stale`](crate::ErrorKind::Stale) when every member that answers is
    /// behind, and with [`Rewound`](crate::ErrorKind::Rewound) when a linearizable read shows an older
    /// revision of the whole store.
    pub fn ordered(&self) -> Client {
        let mut scope = self.scope.as_deref().cloned().unwrap_or_default();
        scope.order = Some(Arc::default());
        self.scoped(scope)
    }

    /// Returns a view of this client that uses one endpoint only, also for its watches and lease renewals.
    ///
    /// The endpoint need not be one of the client's own; it may come from the
    /// [member list](crate::cluster::Cluster::member_list). Without a scheme it has that of the client's endpoints. The
    /// view shares everything else with this client: the runtime's thread, the settings, the deadline.
    /// It is closed with it, and [`close`](Client::close) on either closes both. Connections to the
    /// endpoint are the view's own. Its first call opens them, and they close with the last view of that
    /// endpoint: keep the view to use it again.
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
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an endpoint that cannot be parsed, or
    /// whose scheme is not that of the client.
    pub fn at(&self, endpoint: impl AsRef<str>) -> Result<Client> {
        let wanted = endpoint.as_ref().trim();
        let refused = |e: Error| e.operation(Operation::about("at", wanted));
        let secure = self.core.transport.is_secure();
        let endpoint = Endpoint::parse(wanted, secure).map_err(refused)?;
        self.core.transport.check(&endpoint).map_err(refused)?;
        Ok(Client {
            core: self.core.view_of(endpoint),
            ..self.clone()
        })
    }

    fn scoped(&self, scope: Scope) -> Client {
        Client {
            scope: Some(Arc::new(scope)),
            ..self.clone()
        }
    }

    /// The prefix as the server sees it, to compare the prefixes of two views.
    pub(crate) fn absolute(&self, prefix: &Bytes) -> Bytes {
        let mut absolute = prefix.clone();
        if let Some(namespace) = self.namespace_of_view() {
            namespace.enter_name(&mut absolute);
        }
        absolute
    }

    pub(super) fn namespace_of_view(&self) -> Option<&Namespace> {
        self.scope.as_ref()?.namespace.as_ref()
    }
}

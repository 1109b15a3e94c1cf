//! Views of a client: its keys under a prefix, its reads never older than the last.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::order::Order;
use crate::error::{Operation, Result};
use crate::grpc::Transport;
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::Request;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::Printed;

/// What a view does to the requests that go through it.
#[derive(Clone, Default)]
pub(super) struct Scope {
    pub(super) namespace: Option<Namespace>,
    pub(super) order: Option<Arc<Order>>,
}

impl Scope {
    /// Exchanges a request as this view does.
    pub(super) async fn exchange<R: Request>(
        self: Arc<Self>,
        request: R,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<R::Response> {
        let namespace = self.namespace.as_ref();
        match &self.order {
            None => request::exchange(request, namespace, transport, timeout).await,
            Some(order) => order.exchange(request, namespace, transport, timeout).await,
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.namespace.as_ref().map(|n| Printed(n.prefix()));
        f.debug_struct("Scope")
            .field("namespace", &prefix)
            .field("ordered", &self.order.is_some())
            .finish()
    }
}

impl Client {
    /// A view of this client whose keys are all under `prefix`: it goes in front of every key that
    /// is sent, and is taken off every key that comes back.
    ///
    /// That holds for reads, writes, transactions with all that is in them, watches and sets of
    /// them, mirrors, pages, the keys of leases, the server's own locks and elections, and everything
    /// that is built on those: discovery, [`concurrency`](crate::concurrency), caches, copies. What
    /// has no keys is as without a namespace: leases (their ids are the cluster's), compaction, the
    /// revision, members, users and roles. A request with keys that cannot be confined, which is one
    /// about permissions, is refused with [`InvalidArgument`](crate::ErrorKind::InvalidArgument) and
    /// not sent.
    ///
    /// Ranges end with the namespace: [`KeyRange::all`](crate::KeyRange::all) is every key that is in
    /// it. The key that equals `prefix` is not: it would have no name. Separators are part of the
    /// prefix: `app/`, not `app`.
    ///
    /// A namespace is cheap to make and to clone, shares everything with its client, and can be
    /// made of a namespace: the prefixes join. It is no protection: who has it has the client. Give
    /// out rights to a prefix for that.
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
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty prefix, which would be no
    /// namespace at all.
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

    /// A view of this client that never shows an older state of the store than it has shown
    /// before: its own writes are in what it reads, and what it read stays read.
    ///
    /// It is for [serializable](crate::Get::serializable) reads, which a member answers from what it
    /// has; one that is behind may have less than another one had shown. Such an answer is thrown
    /// away, and another member is asked, up to five times as often as there are endpoints and
    /// within the timeout. Linearizable reads are in order by themselves, and cost nothing more.
    ///
    /// What counts is what came through this view and its clones and views (also those of other
    /// namespaces); two calls of `ordered` know nothing of each other. Of two calls that overlap
    /// neither is the earlier one. Watches and mirrors have an order of their own.
    ///
    /// ```no_run
    /// # use etcd_blocking::Get;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// let ordered = client.ordered();
    /// ordered.put("k", "v")?;
    /// // From any member, and it is there.
    /// assert!(ordered.call(Get::key("k").serializable())?.first().is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Its reads fail with [`Stale`](crate::ErrorKind::Stale) when every member that answers is
    /// behind, and with [`Rewound`](crate::ErrorKind::Rewound) when a linearizable read shows that
    /// the whole store is.
    pub fn ordered(&self) -> Client {
        let mut scope = self.scope.as_deref().cloned().unwrap_or_default();
        scope.order = Some(Arc::default());
        self.scoped(scope)
    }

    fn scoped(&self, scope: Scope) -> Client {
        Client {
            scope: Some(Arc::new(scope)),
            ..self.clone()
        }
    }

    /// What a prefix is on the server, for whom it matters whether two views see the same keys.
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

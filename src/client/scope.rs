//! The settings of a view, and how a request is sent with them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::order::Order;
use crate::error::Result;
use crate::grpc::Transport;
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::Request;
use crate::types::key_range::Printed;

/// The settings of a view, which apply to every request sent through it.
#[derive(Clone, Default)]
pub(super) struct Scope {
    pub(super) namespace: Option<Namespace>,
    pub(super) order: Option<Arc<Order>>,
}

impl Scope {
    /// Sends a request with the settings of this view.
    pub(super) async fn execute<R: Request>(
        self: Arc<Self>,
        request: R,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<R::Response> {
        let namespace = self.namespace.as_ref();
        match &self.order {
            None => request::execute(request, namespace, transport, timeout).await,
            Some(order) => order.execute(request, namespace, transport, timeout).await,
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

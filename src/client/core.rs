//! The parts that the clones and views of a client share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::attached::Attached;
use super::before_close::BeforeCloses;
use crate::grpc::Transport;
use crate::grpc::connect::endpoint::Endpoint;
use crate::rpc::lease::LeaseRegistry;
use crate::rpc::watch::WatchRegistry;
use crate::runtime::{Bridge, Capacity};

/// The connections, tasks and registries that the clones of a client share.
pub(super) struct Core {
    // The first field is dropped first: it ends the tasks that use the others. Views that are aimed at an
    // endpoint share it.
    pub(super) bridge: Arc<Bridge>,
    pub(super) watches: Arc<WatchRegistry>,
    pub(super) transport: Arc<Transport>,
    pub(super) leases: LeaseRegistry,
    pub(super) watch_room: Capacity,
    pub(super) views: Arc<AimedViews>,
    pub(super) before_closes: Arc<BeforeCloses>,
    pub(super) attached: Arc<Attached>,
    /// True for a view that uses one endpoint only.
    pub(super) aimed: bool,
    pub(super) id: u64,
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.bridge.is_forked() {
            // Leaks the data that the runtime shares: another thread of the parent may have held one of its
            // locks when the process was forked, and no thread of the child releases it.
            std::mem::forget(Arc::clone(&self.transport));
            std::mem::forget(Arc::clone(&self.watches));
            std::mem::forget(std::mem::take(&mut self.leases));
        }
    }
}

/// The views of a client that are aimed at one endpoint, by the text of the endpoint. An entry ends with its
/// last view.
#[derive(Default)]
pub(super) struct AimedViews(Mutex<HashMap<Arc<str>, Weak<Core>>>);

impl Core {
    /// Returns the core of the views that are aimed at an endpoint, which is made for the first of them.
    pub(super) fn view_of(&self, endpoint: Endpoint) -> Arc<Core> {
        let mut views = self.views.0.lock();
        // The map holds weak references, so a dropped view leaves an entry.
        views.retain(|_, view| view.strong_count() > 0);
        if let Some(core) = views.get(&endpoint.text).and_then(Weak::upgrade) {
            return core;
        }
        let text = Arc::clone(&endpoint.text);
        let core = Arc::new(self.aimed_at(endpoint));
        views.insert(text, Arc::downgrade(&core));
        core
    }

    fn aimed_at(&self, endpoint: Endpoint) -> Core {
        let transport = self.transport.aimed_at(endpoint);
        Core {
            // One runtime for all views: they close together, and start no further thread.
            bridge: Arc::clone(&self.bridge),
            watches: Arc::new(WatchRegistry::new(Arc::clone(&transport), self.watch_room)),
            transport,
            leases: LeaseRegistry::default(),
            watch_room: self.watch_room,
            views: Arc::clone(&self.views),
            before_closes: Arc::clone(&self.before_closes),
            attached: Arc::clone(&self.attached),
            aimed: true,
            id: self.id,
        }
    }
}

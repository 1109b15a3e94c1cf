//! What a catalog and its views share with the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::change_queue::{ChangeChannel, ChangeQueue};
use super::view_state::{SharedPosition, SharedView};
use crate::discovery::balance::balancer::Balancer;
use crate::discovery::overrides::override_feed::OverrideFeed;
use crate::worker::PartHandle;

/// The handle of a catalog's part. The catalog and its views hold it.
#[derive(Debug)]
pub(super) struct CatalogLink {
    state: Arc<CatalogState>,
    part: PartHandle,
    /// Held, so that the overrides are read while there is a catalog or a view of it.
    #[expect(dead_code, reason = "its destructor ends the reads")]
    overrides: Arc<OverrideFeed>,
}

/// Makes the balancer of a service.
pub(super) type MakeBalancer = Box<dyn Fn() -> Balancer + Send + Sync>;

/// The services of a catalog.
pub(super) struct CatalogState {
    make_balancer: MakeBalancer,
    position: Arc<SharedPosition>,
    services: Mutex<Services>,
}

#[derive(Debug, Default)]
struct Services {
    shared: BTreeMap<Arc<str>, Arc<SharedView>>,
    /// The services that have instances.
    names: BTreeSet<Arc<str>>,
    /// The queues of views that the worker does not know yet.
    opened: Vec<(Arc<str>, ChangeQueue)>,
    /// The services whose views began to read their changes.
    woken: BTreeSet<Arc<str>>,
}

impl CatalogLink {
    pub(super) fn new(
        state: Arc<CatalogState>,
        part: PartHandle,
        overrides: Arc<OverrideFeed>,
    ) -> Self {
        CatalogLink {
            state,
            part,
            overrides,
        }
    }

    pub(super) fn state(&self) -> &CatalogState {
        &self.state
    }

    /// Makes the part work on a service soon.
    pub(super) fn wake(&self, service: &str) {
        let mut services = self.state.services.lock();
        services.woken.insert(service.into());
        drop(services);
        self.part.wake();
    }

    /// Makes the part work soon.
    pub(super) fn wake_part(&self) {
        self.part.wake();
    }

    /// Opens a view of a service.
    pub(super) fn open(&self, service: &str) -> (Arc<SharedView>, Arc<ChangeChannel>) {
        let (queue, changes) = ChangeQueue::of_listed();
        let name: Arc<str> = service.into();
        let mut services = self.state.services.lock();
        let shared = self.state.shared(&mut services, &name);
        services.opened.push((name, queue));
        drop(services);
        self.part.wake();
        (shared, changes)
    }
}

impl CatalogState {
    pub(super) fn new(make_balancer: MakeBalancer, position: Arc<SharedPosition>) -> Self {
        CatalogState {
            make_balancer,
            position,
            services: Mutex::default(),
        }
    }

    pub(super) fn position(&self) -> &SharedPosition {
        &self.position
    }

    /// The names of the services that have instances.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.services.lock().names.iter().cloned().collect()
    }

    /// Records whether a service has instances. Returns whether that is new.
    pub(super) fn set_present(&self, name: &Arc<str>, is_present: bool) -> bool {
        let names = &mut self.services.lock().names;
        match is_present {
            true => names.insert(name.clone()),
            false => names.remove(name),
        }
    }

    /// Calls `use_names` with the names of the services that have instances.
    pub(super) fn with_names<T>(&self, use_names: impl FnOnce(&BTreeSet<Arc<str>>) -> T) -> T {
        use_names(&self.services.lock().names)
    }

    /// The state of a service, which is created when it is new.
    pub(super) fn service(&self, name: &Arc<str>) -> Arc<SharedView> {
        self.shared(&mut self.services.lock(), name)
    }

    /// Removes the state of a service, unless a view has it besides the worker.
    pub(super) fn forget(&self, name: &Arc<str>, shared: &Arc<SharedView>) -> bool {
        let mut services = self.services.lock();
        // One here, and one of the worker. Another one is made with the lock only.
        let is_unused = Arc::strong_count(shared) == 2;
        if is_unused {
            services.shared.remove(name);
        }
        is_unused
    }

    /// Takes the queues of the new views.
    pub(super) fn take_opened(&self) -> Vec<(Arc<str>, ChangeQueue)> {
        std::mem::take(&mut self.services.lock().opened)
    }

    /// Takes the services whose views began to read.
    pub(super) fn take_woken(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.services.lock().woken)
    }

    /// All services.
    pub(super) fn all(&self) -> Vec<Arc<SharedView>> {
        self.services.lock().shared.values().cloned().collect()
    }

    fn shared(&self, services: &mut Services, name: &Arc<str>) -> Arc<SharedView> {
        let shared = services.shared.entry(name.clone()).or_insert_with(|| {
            let position = Arc::clone(&self.position);
            Arc::new(SharedView::new((self.make_balancer)(), position))
        });
        Arc::clone(shared)
    }
}

impl std::fmt::Debug for CatalogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogState")
            .field("position", &self.position)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

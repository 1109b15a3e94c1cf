//! The services that `watch` follows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etcd_blocking::crossbeam_channel::Select;
use etcd_blocking::{
    CatalogChange, Change, Discovery, Freshness, Instance, ServiceCatalog, ServiceView,
};

use super::event::Event;
use crate::failure::Failure;

/// The services that are followed: one, or all of a catalog.
#[derive(Debug)]
pub(super) struct Followed {
    catalog: Option<ServiceCatalog>,
    views: Vec<FollowedView>,
}

#[derive(Debug)]
struct FollowedView {
    view: ServiceView,
    /// The instances that were printed, by their ids.
    known: BTreeMap<String, Arc<Instance>>,
    /// The service has left the catalog: the view is closed once the removals of its instances were read.
    is_leaving: bool,
}

/// Which channel is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Catalog,
    View(usize),
}

impl Followed {
    /// Follows one service, or all if it is `None`. It does not wait for etcd.
    pub(super) fn open(discovery: Discovery, service: Option<&str>) -> Result<Self, Failure> {
        let discovery = discovery.allow_empty();
        let mut followed = Followed {
            catalog: None,
            views: Vec::new(),
        };
        match service {
            Some(service) => followed.follow(discovery.service(service)?),
            None => followed.catalog = Some(discovery.services()?),
        }
        Ok(followed)
    }

    fn follow(&mut self, view: ServiceView) {
        self.views.push(FollowedView {
            view,
            known: BTreeMap::new(),
            is_leaving: false,
        });
    }

    /// Whether what was read is up to date.
    pub(super) fn is_live(&self) -> bool {
        let of_catalog = self.catalog.as_ref().map(ServiceCatalog::freshness);
        let of_view = || self.views.first().map(|followed| followed.view.freshness());
        matches!(of_catalog.or_else(of_view), Some(Freshness::Live))
    }

    /// Why it is not up to date; empty if there is no reason.
    pub(super) fn last_error(&self) -> String {
        let of_catalog = self.catalog.as_ref().map(ServiceCatalog::last_error);
        let of_view = || {
            self.views
                .first()
                .map(|followed| followed.view.last_error())
        };
        let error = of_catalog.or_else(of_view).flatten();
        error.map_or_else(String::new, |error| error.to_string())
    }

    /// Adds the channels to a `Select`.
    pub(super) fn register<'a>(&'a self, select: &mut Select<'a>) -> Vec<(usize, Source)> {
        let catalog = self
            .catalog
            .as_ref()
            .map(|catalog| select.recv(catalog.changes()));
        let catalog = catalog.map(|index| (index, Source::Catalog));
        let views = self.views.iter().enumerate();
        let views = views.map(|(n, one)| (select.recv(one.view.changes()), Source::View(n)));
        catalog.into_iter().chain(views).collect()
    }

    /// Reads one change of a channel that is ready.
    pub(super) fn read(&mut self, source: Source, to: &mut VecDeque<Event>) -> Result<(), Failure> {
        match source {
            Source::Catalog => self.read_catalog(to),
            Source::View(n) => self.read_view(n, to),
        }
    }

    fn read_catalog(&mut self, to: &mut VecDeque<Event>) -> Result<(), Failure> {
        let Some(catalog) = &self.catalog else {
            return Ok(());
        };
        match catalog.changes().try_recv() {
            Ok(CatalogChange::Added(name)) => {
                match self
                    .views
                    .iter_mut()
                    .find(|one| one.view.service() == &*name)
                {
                    Some(known) => known.is_leaving = false,
                    None => match catalog.service(&name) {
                        Ok(view) => self.follow(view),
                        Err(error) => to.push_back(Event::Bad {
                            key: name.to_string(),
                            reason: error.to_string(),
                        }),
                    },
                }
            }
            Ok(CatalogChange::Removed(name)) => {
                for one in &mut self.views {
                    one.is_leaving |= one.view.service() == &*name;
                }
                self.close_empty();
            }
            Ok(CatalogChange::Bad { key, reason }) => to.push_back(Event::Bad {
                key: String::from_utf8_lossy(&key).into_owned(),
                reason,
            }),
            // More kinds may come with later versions of the library.
            Ok(_) => {}
            Err(error) if error.is_disconnected() => return Err(ended(catalog.ended())),
            Err(_) => {}
        }
        Ok(())
    }

    fn read_view(&mut self, n: usize, to: &mut VecDeque<Event>) -> Result<(), Failure> {
        let Some(one) = self.views.get_mut(n) else {
            return Ok(());
        };
        let change = match one.view.changes().try_recv() {
            Ok(change) => change,
            Err(error) if error.is_disconnected() => return Err(ended(one.view.ended())),
            Err(_) => return Ok(()),
        };
        to.extend(one.apply(&change));
        self.close_empty();
        Ok(())
    }

    fn close_empty(&mut self) {
        self.views
            .retain(|one| !one.is_leaving || !one.known.is_empty());
    }
}

impl FollowedView {
    fn apply(&mut self, change: &Change) -> Vec<Event> {
        let events = Event::of(change, |instance| self.known.get(&instance.id).cloned());
        for gone in change.gone() {
            self.known.remove(&gone.id);
        }
        for present in change.present() {
            self.known.insert(present.id.clone(), Arc::clone(present));
        }
        events
    }
}

fn ended(why: Option<etcd_blocking::Error>) -> Failure {
    why.map_or_else(|| Failure::failed("the view has ended"), Failure::from)
}

//! Pictures for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_blocking::{Freshness, Instance, Revision};

use crate::registry::{Counts, Picture, ServicePicture, Shown, Timeline};

pub(super) fn shown(id: &str) -> Shown {
    of(Instance::new("api", "10.0.0.5:80").id(id))
}

pub(super) fn of(instance: Instance) -> Shown {
    Shown {
        instance: Arc::new(instance),
        status_since: None,
    }
}

/// A picture of services: the name, the version and the instances of each.
pub(super) fn picture(version: u64, services: &[(&str, u64, &[&Shown])]) -> Picture {
    let mut picture = Picture::unknown();
    picture.version = version;
    picture.freshness = Freshness::Live;
    for (name, version, instances) in services {
        let name: Arc<str> = (*name).into();
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let service = ServicePicture {
            version: *version,
            name: Arc::clone(&name),
            instances: instances.iter().map(|shown| (*shown).clone()).collect(),
            revision: Revision::new(7),
            timeline: Arc::new(Timeline::new(begun, Duration::from_secs(3600), 10)),
            counts: Counts::default(),
        };
        picture.services.insert(name, Arc::new(service));
    }
    picture
}

//! What a template reads: services and keys, and a record of which of them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_blocking::Instance;

/// Something that a template reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Range {
    /// The names and the instances of all services.
    Services,
    /// The instances of one service.
    Service(String),
    /// The value of one key.
    Key(String),
    /// The values of all keys with a prefix.
    Prefix(String),
}

/// The contents of the ranges that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) services: Option<BTreeMap<String, Instances>>,
    pub(super) service: BTreeMap<String, Instances>,
    pub(super) key: BTreeMap<String, Option<String>>,
    pub(super) prefix: BTreeMap<String, BTreeMap<String, String>>,
}

/// The instances of a service, sorted by id.
pub(super) type Instances = Vec<Arc<Instance>>;

/// The contents for one rendering, with a record of what was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    contents: Contents,
    record: Mutex<Record>,
}

/// What a rendering read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The ranges that were read.
    pub(super) read: BTreeSet<Range>,
    /// Some of them are not known yet, so the result is worthless.
    pub(super) is_incomplete: bool,
    /// What was left out, and why.
    pub(super) omitted: BTreeSet<String>,
}

impl Reading {
    pub(super) fn new(contents: Contents) -> Self {
        Reading {
            contents,
            record: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read so far.
    pub(super) fn record(&self) -> Record {
        self.lock().clone()
    }

    /// Records that something was left out.
    pub(super) fn omit(&self, what: String) {
        self.lock().omitted.insert(what);
    }

    fn read<T: Default>(&self, range: Range, known: Option<T>) -> T {
        let mut record = self.lock();
        record.is_incomplete |= known.is_none();
        record.read.insert(range);
        known.unwrap_or_default()
    }

    /// The names of all services.
    pub(super) fn names(&self) -> Vec<String> {
        let services = self.contents.services.as_ref();
        let names = services.map(|services| services.keys().cloned().collect());
        self.read(Range::Services, names)
    }

    /// The instances of a service.
    pub(super) fn service(&self, name: &str) -> Instances {
        // All services include it.
        if self.lock().read.contains(&Range::Services) {
            let services = self.contents.services.as_ref();
            return services
                .and_then(|services| services.get(name))
                .cloned()
                .unwrap_or_default();
        }
        // The name may be the value of a key, which anybody can have written.
        if let Err(error) = Instance::new(name, "127.0.0.1:1").check() {
            self.omit(error.to_string());
            return Instances::new();
        }
        let known = self.contents.service.get(name).cloned();
        self.read(Range::Service(name.to_owned()), known)
    }

    /// The value of a key.
    pub(super) fn key(&self, key: &str) -> Option<String> {
        self.read(
            Range::Key(key.to_owned()),
            self.contents.key.get(key).cloned(),
        )
    }

    /// The values of the keys with a prefix.
    pub(super) fn prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        let known = self.contents.prefix.get(prefix).cloned();
        self.read(Range::Prefix(prefix.to_owned()), known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_recorded_and_what_is_missing_makes_it_incomplete() {
        let mut contents = Contents::default();
        contents.key.insert("a".into(), Some("1".into()));
        contents.key.insert("b".into(), None);
        let reading = Reading::new(contents.clone());
        assert_eq!(
            (reading.key("a"), reading.key("b")),
            (Some("1".into()), None)
        );
        let record = reading.record();
        assert!(!record.is_incomplete);
        let keys = ["a", "b"].map(|key| Range::Key(key.into()));
        assert_eq!(record.read, keys.into());

        let reading = Reading::new(contents);
        assert!(reading.service("web").is_empty());
        assert!(reading.prefix("c/").is_empty());
        let record = reading.record();
        assert!(record.is_incomplete);
        let ranges = [Range::Service("web".into()), Range::Prefix("c/".into())];
        assert_eq!(record.read, ranges.into());
    }

    #[test]
    fn a_name_that_no_service_can_have_has_no_instances() {
        let reading = Reading::default();
        assert!(reading.service("a/b").is_empty());
        let record = reading.record();
        assert!(record.read.is_empty() && !record.is_incomplete);
        assert_eq!(record.omitted.len(), 1, "{record:?}");
    }

    #[test]
    fn a_template_that_reads_all_services_needs_no_single_one() {
        let web = vec![Arc::new(Instance::new("web", "a:1"))];
        let contents = Contents {
            services: Some(BTreeMap::from([("web".to_owned(), web.clone())])),
            ..Contents::default()
        };
        let reading = Reading::new(contents);
        assert_eq!(reading.names(), ["web"]);
        assert_eq!(reading.service("web"), web);
        assert!(reading.service("db").is_empty());
        let record = reading.record();
        assert_eq!(
            (record.read, record.is_incomplete),
            ([Range::Services].into(), false)
        );
    }
}

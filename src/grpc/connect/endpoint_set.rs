//! The endpoints of a transport: a set that can change while connections are open.
//!
//! Each endpoint has a number that is never reused, so records and connections that refer to it
//! stay valid when other endpoints are added or removed.

use std::sync::Arc;

use tokio::sync::watch;

use super::endpoint::Endpoint;

/// Reports when an endpoint was removed from the set.
pub(crate) type Removal = watch::Receiver<bool>;

#[derive(Debug)]
pub(crate) struct EndpointSet {
    /// The configured endpoints. Endpoints learned from the cluster are added to them.
    seeds: Vec<Endpoint>,
    entries: Vec<Entry>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    index: usize,
    endpoint: Arc<Endpoint>,
    removed: watch::Sender<bool>,
}

impl EndpointSet {
    /// Creates the set, numbered from 0 in the given order.
    pub(crate) fn new(seeds: Vec<Endpoint>) -> Self {
        let mut endpoints = EndpointSet {
            seeds: Vec::new(),
            entries: Vec::new(),
            next: 0,
        };
        endpoints.configure(seeds);
        endpoints
    }

    /// Replaces all endpoints. Endpoints that stay keep their numbers.
    pub(crate) fn configure(&mut self, seeds: Vec<Endpoint>) {
        self.seeds = seeds;
        self.learn(Vec::new());
    }

    /// Sets the learned endpoints beside the configured ones.
    pub(crate) fn learn(&mut self, found: Vec<Endpoint>) {
        let mut old = std::mem::take(&mut self.entries);
        for endpoint in self.seeds.iter().cloned().chain(found) {
            let is_it = |entry: &Entry| entry.endpoint.text == endpoint.text;
            if self.entries.iter().any(is_it) {
                continue;
            }
            let kept = old.iter().position(is_it).map(|at| old.swap_remove(at));
            let entry = kept.unwrap_or_else(|| {
                let index = self.next;
                self.next += 1;
                Entry {
                    index,
                    endpoint: Arc::new(endpoint),
                    removed: watch::Sender::new(false),
                }
            });
            self.entries.push(entry);
        }
        for entry in old {
            entry.removed.send_replace(true);
        }
    }

    /// A receiver that reports the removal of this endpoint; `None` when it was already removed.
    pub(crate) fn removal(&self, index: usize) -> Option<Removal> {
        let entry = self.entries.iter().find(|entry| entry.index == index)?;
        Some(entry.removed.subscribe())
    }

    /// All endpoints with their numbers.
    pub(crate) fn all(&self) -> Vec<(usize, Arc<Endpoint>)> {
        let numbered = |entry: &Entry| (entry.index, Arc::clone(&entry.endpoint));
        self.entries.iter().map(numbered).collect()
    }

    pub(crate) fn texts(&self) -> Vec<Arc<str>> {
        let text = |entry: &Entry| Arc::clone(&entry.endpoint.text);
        self.entries.iter().map(text).collect()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.seeds.iter().any(|endpoint| endpoint.secure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts
            .iter()
            .map(|t| Endpoint::parse(t, false).unwrap())
            .collect()
    }

    fn texts(set: &EndpointSet) -> Vec<String> {
        set.texts().iter().map(ToString::to_string).collect()
    }

    fn numbers(set: &EndpointSet) -> Vec<usize> {
        set.all().into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn endpoints_that_stay_keep_their_numbers_and_numbers_are_not_reused() {
        let mut set = EndpointSet::new(endpoints(&["a:1", "b:1"]));
        assert_eq!(numbers(&set), [0, 1]);
        let removal_of_a = set.removal(0).unwrap();
        let removal_of_b = set.removal(1).unwrap();
        set.configure(endpoints(&["c:1", "b:1"]));
        assert_eq!(texts(&set), ["http://c:1", "http://b:1"]);
        assert_eq!(numbers(&set), [2, 1]);
        assert!(set.removal(0).is_none());
        assert!(*removal_of_a.borrow() && !*removal_of_b.borrow());
        set.configure(endpoints(&["a:1"]));
        assert_eq!(numbers(&set), [3]);
    }

    #[test]
    fn learned_endpoints_are_added_to_the_seeds_and_removed_again() {
        let mut set = EndpointSet::new(endpoints(&["a:1"]));
        set.learn(endpoints(&["b:1", "a:1", "b:1"]));
        assert_eq!(texts(&set), ["http://a:1", "http://b:1"]);
        set.learn(endpoints(&["c:1"]));
        assert_eq!(texts(&set), ["http://a:1", "http://c:1"]);
    }
}

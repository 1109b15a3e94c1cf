//! Views of services when the registry is wrong, away or slow.

mod audit;
mod catalog;
mod cold_start;
mod formats;
mod mass_expiry;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Cause, Change, Client, Instance, LeaseId, Put, ServiceView};

const SOON: Duration = Duration::from_secs(30);

fn client(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

/// Registers the instance `id` of `web` in the native format, without a registrar.
fn put(client: &Client, id: &str, addr: &str, weight: u32, lease: Option<LeaseId>) {
    let value = format!(r#"{{"addr":"{addr}","weight":{weight}}}"#);
    let mut put = Put::new(format!("/services/web/{id}"), value);
    if let Some(lease) = lease {
        put = put.lease(lease);
    }
    client.call(put).unwrap();
}

fn delete(client: &Client, id: &str) {
    client.delete(format!("/services/web/{id}")).unwrap();
}

fn ids<'a>(instances: impl IntoIterator<Item = &'a std::sync::Arc<Instance>>) -> Vec<String> {
    let ids = instances.into_iter().map(|one| one.id.clone());
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

/// A reader of the changes of a view.
#[derive(Default)]
struct Reader {
    known: BTreeMap<String, std::sync::Arc<Instance>>,
    gone: Vec<(String, Cause)>,
    changes: Vec<Change>,
}

impl Reader {
    /// Reads changes until `done`.
    #[track_caller]
    fn until(&mut self, view: &ServiceView, what: &str, done: impl Fn(&Reader) -> bool) {
        let deadline = Instant::now() + SOON;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(change) = view.changes().recv_timeout(left) else {
                panic!("{what}: {:?}, gone {:?}", self.known, self.gone);
            };
            for (instance, cause) in change.causes() {
                self.known.remove(&instance.id);
                self.gone.push((instance.id.clone(), cause));
            }
            for instance in change.present() {
                self.known.insert(instance.id.clone(), instance.clone());
            }
            self.changes.push(change);
        }
    }

    fn gone_by(&self, cause: Cause) -> Vec<String> {
        let gone = self.gone.iter().filter(|(_, why)| *why == cause);
        let mut gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        gone.sort();
        gone
    }
}

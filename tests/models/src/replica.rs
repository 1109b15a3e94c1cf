//! The handle of a mirror, and the requests that it sends to its task.

/// The contents: here only how new they are.
pub(crate) mod contents {
    use crate::types::Revision;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Snapshot(pub(crate) Revision);

    impl Snapshot {
        pub(crate) fn revision(&self) -> Revision {
            self.0
        }
    }
}

/// The changes of the contents, which no model reads.
pub(crate) mod event {
    #[derive(Clone, Debug)]
    pub(crate) struct MirrorEvent;
}

#[path = "../../../src/replica/mirror/handle.rs"]
mod handle;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use stand_ins::{block_on, thread};

use self::handle::{Mirror, MirrorRequest, Shared};
use crate::error::Error;
use crate::grpc::SharedStoreIdentity;
use crate::harness::Model;
use crate::runtime::{Capacity, bounded_queue};
use crate::types::Revision;
use crate::types::key_range::KeyRange;

pub(super) const MODELS: &[Model] = &[
    Model::interrupted("mirror: requests wake the task", 3, requests_wake),
    Model::every_order("mirror: a revision is awaited", revision_awaited),
    Model::every_order("mirror: a list of a new store is awaited", list_awaited),
    Model::every_order("mirror: its end ends a wait", end_ends_wait),
];

const LONG: Duration = Duration::from_secs(3600);

fn mirror(shared: &Arc<Shared>) -> Mirror {
    mirror_in_epoch(0, shared)
}

fn mirror_in_epoch(epoch: u64, shared: &Arc<Shared>) -> Mirror {
    let (_, changes) = bounded_queue(Capacity { items: 1, bytes: 1 }, Err);
    Mirror {
        range: KeyRange::prefix("k"),
        shared: Arc::clone(shared),
        store: Arc::new(SharedStoreIdentity(epoch)),
        changes,
    }
}

/// The task gets every kind of request, and the drop at the end.
fn requests_wake() {
    let shared = Arc::new(Shared::default());
    let (mirror, served) = (mirror(&shared), Arc::clone(&shared));
    let task = thread::spawn(move || {
        let (mut progress, mut wrong) = (0, 0);
        block_on(std::future::poll_fn(|cx| {
            loop {
                match served.poll_request(cx) {
                    Poll::Ready(MirrorRequest::Progress) => progress += 1,
                    Poll::Ready(MirrorRequest::List(_)) => wrong += 1,
                    Poll::Ready(MirrorRequest::Read) => {}
                    Poll::Ready(MirrorRequest::Drop) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        assert!(progress <= 1 && wrong <= 1);
    });
    let mirror = Arc::new(mirror);
    let other = Arc::clone(&mirror);
    let other = thread::spawn(move || other.list_again(Error::closed()));
    mirror.request_progress();
    drop(mirror);
    other.join().unwrap();
    task.join().unwrap();
}

fn revision_awaited() {
    let shared = Arc::new(Shared::default());
    let mirror = mirror(&shared);
    let task = thread::spawn(move || {
        shared.update(|contents| contents.0 = Revision::new(1));
        shared.update(|contents| contents.0 = Revision::new(2));
    });
    let snapshot = mirror.wait_revision(Revision::new(2), LONG).unwrap();
    assert_eq!(snapshot.revision(), Revision::new(2));
    task.join().unwrap();
}

/// The contents of a lost store have a higher revision, and do not end the wait.
fn list_awaited() {
    let shared = Arc::new(Shared::default());
    let mirror = mirror_in_epoch(1, &shared);
    let task = thread::spawn(move || {
        shared.update(|contents| contents.0 = Revision::new(9));
        shared.replace(contents::Snapshot(Revision::new(2)), 1);
    });
    let snapshot = mirror.wait_revision(Revision::new(2), LONG).unwrap();
    assert_eq!(snapshot.revision(), Revision::new(2));
    task.join().unwrap();
}

fn end_ends_wait() {
    let shared = Arc::new(Shared::default());
    let mirror = mirror(&shared);
    let task = thread::spawn(move || shared.end(Error::closed()));
    assert!(mirror.wait_revision(Revision::new(2), LONG).is_err());
    task.join().unwrap();
}

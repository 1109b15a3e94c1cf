//! The status of a lease: its task writes it, and its holder and those who need the lease wait for it.

#[path = "../../../../src/rpc/lease/deadline.rs"]
mod deadline;
#[path = "../../../../src/rpc/lease/lease_status.rs"]
mod lease_status;
#[path = "../../../../src/rpc/lease/renewal.rs"]
mod renewal;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use stand_ins::{block_on, bounded, thread};

use self::lease_status::{LeaseStatus, LeaseStatusWriter, LeaseView, lease_status};
use self::renewal::Renewal;
use crate::error::{Error, ErrorKind};
use crate::harness::Model;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

pub(super) const MODELS: &[Model] = &[
    Model::interrupted("lease: two who wait for its end", 3, two_waiters),
    Model::every_order("lease: the task ends", task_ends),
    Model::interrupted("lease: a holder observes each change", 3, holder_observes),
    Model::every_order("lease: the channel of its loss is requested", loss_channel),
    Model::interrupted(
        "lease: the queue of renewals is requested",
        3,
        renewals_queue,
    ),
    Model::every_order("lease: a loss by the clock is final", loss_is_final),
];

fn id() -> LeaseId {
    LeaseId::new(7).unwrap()
}

fn lease() -> (LeaseStatusWriter, LeaseStatus) {
    lease_status(id())
}

fn at(seconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_secs(seconds))
}

/// A renewal that lasts until then.
fn renewal(until: BootTime) -> Renewal {
    Renewal::new(id(), Duration::from_secs(10), until)
}

fn two_waiters() {
    let (writer, status) = lease();
    let waiters = [status.waiter(), status.waiter()];
    let waiting = waiters.map(|waiter| thread::spawn(move || block_on(waiter.wait())));
    writer.lost(Error::invalid("lost"));
    for thread in waiting {
        assert_eq!(thread.join().unwrap().kind(), ErrorKind::InvalidArgument);
    }
}

fn task_ends() {
    let (writer, status) = lease();
    let waiter = status.waiter();
    let waiting = thread::spawn(move || block_on(waiter.wait()));
    drop(writer);
    assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    assert!(status.ended().is_some());
}

/// The holder is a part of the worker: it acts on what it sees, and is woken when that changes.
fn holder_observes() {
    let (writer, status) = lease();
    let (observed, was_observed) = bounded(1);
    let task = thread::spawn(move || {
        writer.renewed(&renewal(at(10)));
        was_observed.recv().unwrap();
        writer.late();
        writer.lost(Error::closed());
    });
    block_on(std::future::poll_fn(|cx| {
        let seen = status.view();
        if status.ended().is_some() {
            return Poll::Ready(());
        }
        if seen != LeaseView::GRANTED {
            // Full when it was observed before.
            let _ = observed.try_send(());
        }
        status.wake_on_change(seen, cx.waker());
        Poll::Pending
    }));
    task.join().unwrap();
}

fn loss_channel() {
    let (writer, status) = lease();
    let task = thread::spawn(move || writer.lost(Error::closed()));
    assert!(status.lost().recv().is_ok());
    assert!(status.lost().recv().is_err(), "it has one item");
    task.join().unwrap();
}

/// The reader gets the newest renewal and the reason of the end.
fn renewals_queue() {
    let (writer, status) = lease();
    let task = thread::spawn(move || {
        writer.renewed(&renewal(at(10)));
        writer.lost(Error::closed());
    });
    let items: Vec<_> = std::iter::from_fn(|| status.renewals().receiver().recv().ok()).collect();
    assert!(items.last().unwrap().is_err());
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 1);
    task.join().unwrap();
}

/// Either the renewal comes first and the lease lives, or the loss and the renewal does not revive it.
fn loss_is_final() {
    let (writer, status) = lease();
    writer.renewed(&renewal(at(10)));
    let status = Arc::new(status);
    let there = Arc::clone(&status);
    let holder = thread::spawn(move || there.check(at(11)).is_ok());
    let is_revived = writer.renewed(&renewal(at(20)));
    let is_alive = holder.join().unwrap();
    assert_eq!(is_alive, is_revived);
    assert_eq!(status.check(at(11)).is_ok(), is_alive);
}

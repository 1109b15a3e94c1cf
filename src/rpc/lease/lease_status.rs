//! The status of a lease that is kept alive: the task writes it, the holder reads it at any time.
//!
//! The loss of a lease is final, because its holder acts on it. An answer to a renewal that arrives
//! later does not revive the lease.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Operation};
use crate::types::LeaseId;
use crate::util::atomic::AtomicU64;
use crate::util::boot_time::BootTime;

#[derive(Debug)]
struct Shared {
    lease: LeaseId,
    /// The time until which the lease is certain to live, in nanoseconds since boot; 0 before the first
    /// renewal.
    until: AtomicU64,
    /// The reason why the lease is not kept alive any more.
    end: OnceLock<Error>,
}

/// The holder's end.
#[derive(Debug)]
pub(super) struct LeaseStatus {
    shared: Arc<Shared>,
    lost: Receiver<Error>,
    ended: watch::Receiver<()>,
}

/// The task's end. Dropping it reports that the client was closed or that the task panicked.
#[derive(Debug)]
pub(super) struct LeaseStatusWriter {
    shared: Arc<Shared>,
    lost: Option<Sender<Error>>,
    /// Carries no values: it closes when the lease is not kept alive any more.
    _ended: watch::Sender<()>,
}

/// Waits for the end of a lease. Requests under a lease use it beside their answer.
#[derive(Clone, Debug)]
pub(crate) struct LeaseWaiter {
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
}

/// The two ends of the status of a lease.
pub(super) fn lease_status(lease: LeaseId) -> (LeaseStatusWriter, LeaseStatus) {
    let shared = Arc::new(Shared {
        lease,
        until: AtomicU64::new(0),
        end: OnceLock::new(),
    });
    let (sender, lost) = bounded(1);
    let (ending, ended) = watch::channel(());
    let writer = LeaseStatusWriter {
        shared: Arc::clone(&shared),
        lost: Some(sender),
        _ended: ending,
    };
    let status = LeaseStatus {
        shared,
        lost,
        ended,
    };
    (writer, status)
}

impl LeaseStatusWriter {
    /// Records a renewal. Returns `false` when the lease has been reported as lost.
    pub(super) fn renewed(&self, until: BootTime) -> bool {
        if self.shared.end.get().is_some() {
            return false;
        }
        let nanos = until.since(BootTime::default()).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.shared.until.store(nanos, Relaxed);
        true
    }

    /// Reports the loss of the lease. Returns the error that the holder receives: the first reason
    /// stays.
    pub(super) fn lost(mut self, why: Error) -> Error {
        self.end(why)
    }

    /// Ends without a report to the holder, which was dropped.
    pub(super) fn dropped(mut self) {
        self.lost = None;
        self.end(holder_dropped(self.shared.lease));
    }

    fn end(&mut self, why: Error) -> Error {
        let why = self.shared.end.get_or_init(|| why).clone();
        if let Some(lost) = self.lost.take() {
            // The channel has room for its only item.
            let _ = lost.try_send(why.clone());
        }
        why
    }
}

impl Drop for LeaseStatusWriter {
    fn drop(&mut self) {
        if self.lost.is_some() {
            let about = Operation::about("keep alive lease", self.shared.lease);
            self.end(Error::abandoned().operation(about));
        }
    }
}

impl LeaseStatus {
    pub(super) fn lost(&self) -> &Receiver<Error> {
        &self.lost
    }

    pub(super) fn remaining(&self, now: BootTime) -> Duration {
        if self.shared.end.get().is_some() {
            return Duration::ZERO;
        }
        self.shared.until().since(now)
    }

    /// Checks that the lease is not lost. A loss by the clock is final.
    pub(super) fn check(&self, now: BootTime) -> Result<(), Error> {
        self.shared.check(now)
    }

    /// A waiter for the end of the lease.
    pub(super) fn waiter(&self) -> LeaseWaiter {
        LeaseWaiter {
            shared: Arc::clone(&self.shared),
            ended: self.ended.clone(),
        }
    }
}

impl Shared {
    fn until(&self) -> BootTime {
        BootTime::from_boot(Duration::from_nanos(self.until.load(Relaxed)))
    }

    fn check(&self, now: BootTime) -> Result<(), Error> {
        let until = self.until();
        if until != BootTime::default() && until <= now {
            self.end.get_or_init(|| {
                let late = now.since(until);
                let reason =
                    format!("its time ran out {late:.1?} ago, and no renewal was answered");
                Error::new(ErrorKind::LeaseExpired, reason)
                    .operation(Operation::about("keep alive lease", self.lease))
            });
        }
        self.end.get().map_or(Ok(()), |why| Err(why.clone()))
    }
}

impl LeaseWaiter {
    /// A waiter for a lease that has ended.
    pub(crate) fn ended(lease: LeaseId, why: Error) -> LeaseWaiter {
        let (writer, status) = lease_status(lease);
        writer.lost(why);
        status.waiter()
    }

    pub(crate) fn lease(&self) -> LeaseId {
        self.shared.lease
    }

    pub(crate) fn check(&self, now: BootTime) -> Result<(), Error> {
        self.shared.check(now)
    }

    /// Waits until the lease is not kept alive any more. Returns the reason.
    pub(crate) async fn wait(mut self) -> Error {
        while self.ended.changed().await.is_ok() {}
        let end = self.shared.end.get().cloned();
        end.unwrap_or_else(|| holder_dropped(self.shared.lease))
    }
}

fn holder_dropped(lease: LeaseId) -> Error {
    Error::new(ErrorKind::Closed, "its holder stopped keeping it alive")
        .operation(Operation::about("keep alive lease", lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    fn new() -> (LeaseStatusWriter, LeaseStatus) {
        lease_status(LeaseId::new(7).unwrap())
    }

    #[test]
    fn a_lease_is_not_lost_before_its_first_renewal() {
        let (_writer, status) = new();
        assert!(status.check(at(100)).is_ok());
        assert!(status.remaining(at(100)).is_zero());
        assert!(status.lost().is_empty());
    }

    #[test]
    fn an_expiry_is_final_once_it_was_reported() {
        let (writer, status) = new();
        assert!(writer.renewed(at(10)));
        assert!(status.check(at(9)).is_ok());
        assert_eq!(
            status.check(at(10)).unwrap_err().kind(),
            ErrorKind::LeaseExpired
        );
        assert!(!writer.renewed(at(20)));
        assert!(status.check(at(9)).is_err() && status.remaining(at(9)).is_zero());
        let reported = writer.lost(Error::new(ErrorKind::LeaseNotFound, "later"));
        assert_eq!(reported.kind(), ErrorKind::LeaseExpired);
        assert_eq!(
            status.lost().recv().unwrap().kind(),
            ErrorKind::LeaseExpired
        );
    }

    #[test]
    fn a_renewal_before_a_check_extends_the_lease() {
        let (writer, status) = new();
        assert!(writer.renewed(at(10)));
        assert!(writer.renewed(at(20)));
        assert!(status.check(at(15)).is_ok());
        assert_eq!(status.remaining(at(15)), Duration::from_secs(5));
    }

    #[test]
    fn lost_receives_one_reason_and_none_after_drop() {
        let (writer, status) = new();
        writer.lost(Error::new(ErrorKind::LeaseNotFound, "gone"));
        assert_eq!(status.lost().iter().count(), 1);
        assert_eq!(
            status.check(at(1)).unwrap_err().kind(),
            ErrorKind::LeaseNotFound
        );

        let (writer, status) = new();
        writer.dropped();
        assert_eq!(status.lost().iter().count(), 0);

        let (writer, status) = new();
        drop(writer);
        assert_eq!(status.lost().recv().unwrap().kind(), ErrorKind::Closed);
        assert_eq!(status.check(at(1)).unwrap_err().kind(), ErrorKind::Closed);
    }
}

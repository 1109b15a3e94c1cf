//! What became of a lease that is kept alive: written by the task, read by its owner at any time.
//!
//! An owner who was told that the lease is over acts on it, so nothing takes that back: also not an
//! answer to a renewal that arrives a moment later.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Operation};
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

#[derive(Debug)]
struct Shared {
    lease: LeaseId,
    /// Until when it surely lives, in nanoseconds since boot; 0 before the first renewal.
    until: AtomicU64,
    over: OnceLock<Error>,
}

/// The owner's end.
#[derive(Debug)]
pub(super) struct LeaseStatus {
    shared: Arc<Shared>,
    lost: Receiver<Error>,
    ended: watch::Receiver<()>,
}

/// The task's end. Dropped without a word, it says why: the client closed, or the task panicked.
#[derive(Debug)]
pub(super) struct LeaseStatusWriter {
    shared: Arc<Shared>,
    lost: Option<Sender<Error>>,
    /// Carries nothing: it ends when the lease is not kept alive any more.
    _ended: watch::Sender<()>,
}

/// What a request made under a lease waits for besides its answer.
#[derive(Clone, Debug)]
pub(crate) struct LeaseWaiter {
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
}

pub(super) fn fate(lease: LeaseId) -> (LeaseStatusWriter, LeaseStatus) {
    let shared = Arc::new(Shared {
        lease,
        until: AtomicU64::new(0),
        over: OnceLock::new(),
    });
    let (sender, lost) = bounded(1);
    let (ending, ended) = watch::channel(());
    let oracle = LeaseStatusWriter {
        shared: Arc::clone(&shared),
        lost: Some(sender),
        _ended: ending,
    };
    let fate = LeaseStatus {
        shared,
        lost,
        ended,
    };
    (oracle, fate)
}

impl LeaseStatusWriter {
    /// A renewal got through. `false` when the owner was told already that the lease is over.
    pub(super) fn renewed(&self, until: BootTime) -> bool {
        if self.shared.over.get().is_some() {
            return false;
        }
        let nanos = until.since(BootTime::default()).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.shared.until.store(nanos, Relaxed);
        true
    }

    /// The lease is gone. Returns what the owner is told: the first reason stays.
    pub(super) fn gone(mut self, why: Error) -> Error {
        self.say(why)
    }

    /// The owner does not want it kept alive any more, and so is told nothing.
    pub(super) fn left(mut self) {
        self.lost = None;
        self.say(unkept(self.shared.lease));
    }

    fn say(&mut self, why: Error) -> Error {
        let why = self.shared.over.get_or_init(|| why).clone();
        if let Some(lost) = self.lost.take() {
            // One reason, one place.
            let _ = lost.try_send(why.clone());
        }
        why
    }
}

impl Drop for LeaseStatusWriter {
    fn drop(&mut self) {
        if self.lost.is_some() {
            let about = Operation::about("keep alive lease", self.shared.lease);
            self.say(Error::abandoned().operation(about));
        }
    }
}

impl LeaseStatus {
    pub(super) fn lost(&self) -> &Receiver<Error> {
        &self.lost
    }

    pub(super) fn remaining(&self, now: BootTime) -> Duration {
        if self.shared.over.get().is_some() {
            return Duration::ZERO;
        }
        self.shared.until().since(now)
    }

    /// What became of it so far. Time that has run out is final.
    pub(super) fn check(&self, now: BootTime) -> Result<(), Error> {
        self.shared.check(now)
    }

    pub(super) fn kept(&self) -> LeaseWaiter {
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
            self.over.get_or_init(|| {
                let late = now.since(until);
                let reason = format!("its time ran out {late:.1?} ago, and no renewal got through");
                Error::new(ErrorKind::LeaseExpired, reason)
                    .operation(Operation::about("keep alive lease", self.lease))
            });
        }
        self.over.get().map_or(Ok(()), |why| Err(why.clone()))
    }
}

impl LeaseWaiter {
    /// Of a lease that is not kept alive any more.
    pub(crate) fn over_already(lease: LeaseId, why: Error) -> LeaseWaiter {
        let (oracle, fate) = fate(lease);
        oracle.gone(why);
        fate.kept()
    }

    pub(crate) fn lease(&self) -> LeaseId {
        self.shared.lease
    }

    pub(crate) fn check(&self, now: BootTime) -> Result<(), Error> {
        self.shared.check(now)
    }

    /// Waits until the lease is not kept alive any more, and says why.
    pub(crate) async fn over(mut self) -> Error {
        while self.ended.changed().await.is_ok() {}
        let over = self.shared.over.get().cloned();
        over.unwrap_or_else(|| unkept(self.shared.lease))
    }
}

fn unkept(lease: LeaseId) -> Error {
    Error::new(ErrorKind::Closed, "its owner stopped keeping it alive")
        .operation(Operation::about("keep alive lease", lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    fn new() -> (LeaseStatusWriter, LeaseStatus) {
        fate(LeaseId::new(7).unwrap())
    }

    #[test]
    fn nothing_is_lost_before_the_first_renewal() {
        let (_oracle, fate) = new();
        assert!(fate.check(at(100)).is_ok());
        assert!(fate.remaining(at(100)).is_zero());
        assert!(fate.lost().is_empty());
    }

    #[test]
    fn time_that_ran_out_is_final_once_it_was_said() {
        let (oracle, fate) = new();
        assert!(oracle.renewed(at(10)));
        assert!(fate.check(at(9)).is_ok());
        assert_eq!(
            fate.check(at(10)).unwrap_err().kind(),
            ErrorKind::LeaseExpired
        );
        assert!(!oracle.renewed(at(20)));
        assert!(fate.check(at(9)).is_err() && fate.remaining(at(9)).is_zero());
        let said = oracle.gone(Error::new(ErrorKind::LeaseNotFound, "later"));
        assert_eq!(said.kind(), ErrorKind::LeaseExpired);
        assert_eq!(fate.lost().recv().unwrap().kind(), ErrorKind::LeaseExpired);
    }

    #[test]
    fn a_renewal_before_anybody_looked_extends_it() {
        let (oracle, fate) = new();
        assert!(oracle.renewed(at(10)));
        assert!(oracle.renewed(at(20)));
        assert!(fate.check(at(15)).is_ok());
        assert_eq!(fate.remaining(at(15)), Duration::from_secs(5));
    }

    #[test]
    fn lost_fires_once_and_then_ends_and_an_owner_who_left_hears_nothing() {
        let (oracle, fate) = new();
        oracle.gone(Error::new(ErrorKind::LeaseNotFound, "gone"));
        assert_eq!(fate.lost().iter().count(), 1);
        assert_eq!(
            fate.check(at(1)).unwrap_err().kind(),
            ErrorKind::LeaseNotFound
        );

        let (oracle, fate) = new();
        oracle.left();
        assert_eq!(fate.lost().iter().count(), 0);

        let (oracle, fate) = new();
        drop(oracle);
        assert_eq!(fate.lost().recv().unwrap().kind(), ErrorKind::Closed);
        assert_eq!(fate.check(at(1)).unwrap_err().kind(), ErrorKind::Closed);
    }
}

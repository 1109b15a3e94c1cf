//! The status, the channels and the waiters of a lease.

use std::future::Future as _;

use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_secs(seconds))
}

fn until(seconds: u64) -> Renewal {
    Renewal::new(
        LeaseId::new(7).unwrap(),
        Duration::from_secs(10),
        at(seconds),
    )
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
fn a_channel_requested_after_the_loss_receives_it() {
    let (writer, status) = new();
    writer.lost(Error::new(ErrorKind::LeaseNotFound, "gone"));
    assert_eq!(status.lost().iter().count(), 1);
    assert_eq!(status.lost().iter().count(), 0);
}

#[test]
fn renewals_are_queued_after_the_first_request_beginning_with_the_newest() {
    let (writer, status) = new();
    assert!(writer.renewed(&until(10)) && writer.renewed(&until(20)));
    let renewals = status.renewals();
    assert!(writer.renewed(&until(30)));
    assert!(status.ended().is_none());
    writer.lost(Error::new(ErrorKind::LeaseNotFound, "gone"));
    let items = std::iter::from_fn(|| renewals.try_recv().ok());
    let items: Vec<_> = items.map(|item| item.map(|r| r.until()).ok()).collect();
    assert_eq!(items, [Some(at(20)), Some(at(30)), None]);
    assert_eq!(status.ended().unwrap().kind(), ErrorKind::LeaseNotFound);

    // They are requested after the end.
    let (writer, status) = new();
    drop(writer);
    let last = status.renewals().try_recv().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Closed);

    let (writer, status) = new();
    writer.dropped();
    assert!(status.renewals().try_recv().is_err());
    assert!(status.ended().is_none());
}

#[test]
fn a_waiter_ends_with_the_keeping_whenever_it_began() {
    let (writer, status) = new();
    let mut early = std::pin::pin!(status.waiter().wait());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(early.as_mut().poll(&mut cx).is_pending());
    // A loss by the clock does not end the keeping.
    assert!(writer.renewed(&until(10)) && status.check(at(11)).is_err());
    assert!(early.as_mut().poll(&mut cx).is_pending());
    writer.lost(Error::new(ErrorKind::LeaseNotFound, "gone"));
    let mut late = std::pin::pin!(status.waiter().wait());
    for waiter in [early.as_mut().poll(&mut cx), late.as_mut().poll(&mut cx)] {
        let std::task::Poll::Ready(why) = waiter else {
            panic!("the waiter still waits");
        };
        assert_eq!(why.kind(), ErrorKind::LeaseExpired);
    }
}

#[test]
fn an_expiry_is_final_once_it_was_reported() {
    let (writer, status) = new();
    assert!(writer.renewed(&until(10)));
    assert!(status.check(at(9)).is_ok());
    assert_eq!(
        status.check(at(10)).unwrap_err().kind(),
        ErrorKind::LeaseExpired
    );
    assert!(!writer.renewed(&until(20)));
    assert!(status.check(at(9)).is_err() && status.remaining(at(9)).is_zero());
    writer.lost(Error::new(ErrorKind::LeaseNotFound, "later"));
    assert_eq!(
        status.lost().recv().unwrap().kind(),
        ErrorKind::LeaseExpired
    );
}

#[test]
fn a_renewal_before_a_check_extends_the_lease() {
    let (writer, status) = new();
    assert!(writer.renewed(&until(10)));
    assert!(writer.renewed(&until(20)));
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

#[derive(Default)]
struct Thread(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn a_renewal_in_time_wakes_no_thread_and_every_other_change_does() {
    let (writer, status) = new();
    let thread = Arc::new(Thread::default());
    let mut seen = LeaseView::GRANTED;
    let mut woken = |change: &dyn Fn()| {
        let waker = Waker::from(Arc::clone(&thread));
        status.wake_on_change(seen, &waker);
        change();
        seen = status.view();
        thread.0.swap(0, std::sync::atomic::Ordering::SeqCst)
    };
    let renew = |seconds| assert!(writer.renewed(&until(seconds)));
    assert_eq!(woken(&|| renew(10)), 1, "the first");
    assert_eq!(woken(&|| renew(20)), 0, "in time");
    assert_eq!(woken(&|| writer.late()), 1);
    assert_eq!(woken(&|| renew(30)), 1, "late");
    assert_eq!(woken(&|| renew(40)), 0, "in time");
    assert_eq!(status.waiter().newest(), Some(until(40)));
    assert!(status.ended().is_none());
    let writer = std::cell::Cell::new(Some(writer));
    let gone = || Error::new(ErrorKind::LeaseNotFound, "gone");
    let lost = || {
        if let Some(writer) = writer.take() {
            writer.lost(gone());
        }
    };
    assert_eq!(woken(&lost), 1);
    assert_eq!(status.ended().unwrap().kind(), ErrorKind::LeaseNotFound);
    // A change that was not seen wakes at once.
    let waker = Waker::from(Arc::clone(&thread));
    status.wake_on_change(LeaseView::GRANTED, &waker);
    assert_eq!(thread.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

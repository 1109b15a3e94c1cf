//! What is known of one address, and when it may be dialled: pure.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::picker::Demand;
use crate::backoff::Backoff;

/// For calls that wait, an address that failed is dialled again this soon: four times a second.
pub(super) const SPACING: Duration = Duration::from_millis(250);

/// The waits of background work between dials of one address. With a ceiling of 3 s a third of the
/// waits would be longer than 2 s, in which streams and registrations are to be back.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// How long a member that cannot serve is set aside, at first and at most.
const SET_ASIDE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(16));

/// A learner serves nothing but serializable reads until somebody promotes it.
const LEARNER: Duration = Duration::from_secs(30);

/// A member that is behind the others usually catches up soon.
const BEHIND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct AddressRecord {
    /// Its last dial, or the connection that it made, failed.
    pub(super) failing: bool,
    /// When it was dialled last.
    pub(super) dialled: Option<Instant>,
    /// Which of all dials that succeeded was its last one; 0 for none.
    pub(super) worked: u64,
    /// How the last dial failed, if it did.
    pub(super) fault: Option<Fault>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    aside_until: Option<Instant>,
    aside: Backoff,
}

impl AddressRecord {
    pub(super) fn new() -> Self {
        AddressRecord {
            failing: false,
            dialled: None,
            worked: 0,
            fault: None,
            backoff: BACKOFF,
            retry_at: None,
            aside_until: None,
            aside: SET_ASIDE,
        }
    }

    /// A dial failed, or a connection that had been made broke.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        self.failing = true;
        self.retry_at = Some(now + self.backoff.next(random));
    }

    /// A dial succeeded, as the `count`th of all that did.
    pub(super) fn connected(&mut self, count: u64) {
        self.failing = false;
        self.backoff.reset();
        self.retry_at = None;
        self.fault = None;
        self.worked = count;
    }

    /// It answers but cannot serve now.
    pub(super) fn set_aside(&mut self, now: Instant) {
        // It served for long since it was last set aside: begin with the short time again.
        if self.aside_until.is_none_or(|until| until + LEARNER < now) {
            self.aside.reset();
        }
        self.aside_until = Some(now + self.aside.next(1.0));
    }

    pub(super) fn learner(&mut self, now: Instant) {
        self.aside_until = Some(now + LEARNER);
    }

    pub(super) fn behind(&mut self, now: Instant) {
        self.aside_until = Some(now + BEHIND);
    }

    pub(super) fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| now < until)
    }

    /// When it may be dialled; `None` is any time.
    pub(super) fn may_dial_at(&self, demand: Demand) -> Option<Instant> {
        let last = self.dialled.filter(|_| self.failing);
        let spaced = last.map(|at| at + SPACING);
        match demand {
            Demand::Call => spaced,
            // The jitter may say "at once"; the spacing bounds the rate all the same, but for the
            // first retry, which brings back most connections that a server let go of.
            Demand::Background if self.backoff.is_first_retry() => self.retry_at,
            Demand::Background => self.retry_at.max(spaced),
        }
    }
}

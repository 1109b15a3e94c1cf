//! The dial history of one address, and when it may be dialled next. Pure.

use std::time::{Duration, Instant};

use super::connect_error::ConnectError;
use super::urgency::Urgency;
use crate::util::backoff::Backoff;

/// The shortest time between two dials of a failing address for a call that waits: four dials a
/// second.
pub(crate) const SPACING: Duration = Duration::from_millis(250);

/// The longest wait between two dials of one address in the background. Views and registrations have to
/// recover within 1 s, and the rest of that second is for the dial and the requests that follow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(700);

/// The waits between dials of one address in the background. Half of each wait is random: a client
/// dials less than twice a second on average, and the clients of a server that returns are spread.
const BACKOFF: Backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);

/// The longest wait before the first retry.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// How long a member that cannot serve is set aside: first and longest time.
const SET_ASIDE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(16));

/// How long a learner is set aside. It serves only serializable reads until an operator promotes
/// it.
const LEARNER: Duration = Duration::from_secs(30);

/// How long a member that lags behind is set aside. It usually catches up soon.
const LAGGING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct AddressRecord {
    /// The last dial, or the last connection, failed.
    pub(crate) failing: bool,
    /// When the address was last dialled.
    pub(crate) dialled: Option<Instant>,
    /// The sequence number of its last successful dial among all successful dials; 0 when there was
    /// none.
    pub(crate) worked: u64,
    /// Why the last dial failed.
    pub(crate) last_error: Option<ConnectError>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    aside_until: Option<Instant>,
    aside: Backoff,
}

impl AddressRecord {
    pub(crate) fn new() -> Self {
        AddressRecord {
            failing: false,
            dialled: None,
            worked: 0,
            last_error: None,
            backoff: BACKOFF,
            retry_at: None,
            aside_until: None,
            aside: SET_ASIDE,
        }
    }

    /// Records that a dial failed, or that an established connection broke. `random` is in 0..1.
    ///
    /// The wait is counted from the last dial. Several dials of a silent address are open at a time, and
    /// the late end of an old one does not delay the next. The first wait is counted from `now`: all
    /// clients of a server that ends see this failure at the same time.
    pub(crate) fn failed(&mut self, now: Instant, random: f64) {
        let wait = self.backoff.next(0.5 + random / 2.0);
        let first = (!self.failing).then(|| now + FIRST_WAIT.mul_f64(random));
        self.failing = true;
        let last_dial = self.dialled.unwrap_or(now);
        self.retry_at = self.retry_at.max(first).max(Some(last_dial + wait));
    }

    /// Records a successful dial; `count` is its sequence number.
    pub(crate) fn connected(&mut self, count: u64) {
        self.failing = false;
        self.backoff.reset();
        self.retry_at = None;
        self.last_error = None;
        self.worked = count;
    }

    /// Records that the member answers but cannot serve now.
    pub(crate) fn set_aside(&mut self, now: Instant) {
        // The member served for a long time since it was last set aside: start with the short time
        // again.
        if self.aside_until.is_none_or(|until| until + LEARNER < now) {
            self.aside.reset();
        }
        self.aside_until = Some(now + self.aside.next(1.0));
    }

    pub(crate) fn learner(&mut self, now: Instant) {
        self.aside_until = Some(now + LEARNER);
    }

    pub(crate) fn lagging(&mut self, now: Instant) {
        self.aside_until = Some(now + LAGGING);
    }

    pub(crate) fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| now < until)
    }

    /// When the address may be dialled; `None` means at any time.
    pub(crate) fn may_dial_at(&self, urgency: Urgency) -> Option<Instant> {
        let last = self.dialled.filter(|_| self.failing);
        let spaced = last.map(|at| at + SPACING);
        match urgency {
            Urgency::Call => spaced,
            // The first waits are shorter than the spacing, which bounds the rate. The first retry
            // is exempt: it restores most connections that a server closed.
            Urgency::Background if self.backoff.is_first_retry() => self.retry_at,
            Urgency::Background => self.retry_at.max(spaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Urgency::{Background, Call};
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The waits before the next dial, for a call and in the background, after `failures` failures
    /// with the longest jitter.
    fn after(failures: u32, now: Instant) -> [Duration; 2] {
        let mut record = AddressRecord::new();
        for _ in 0..failures {
            record.dialled = Some(now);
            record.failed(now, 1.0);
        }
        [Call, Background].map(|urgency| record.may_dial_at(urgency).unwrap() - now)
    }

    #[test]
    fn a_call_waits_for_the_spacing_and_background_dials_back_off() {
        let now = Instant::now();
        let waits = [50, 250, 250, 400, 700, 700];
        for (failures, background) in (1..).zip(waits) {
            assert_eq!(
                after(failures, now),
                [ms(250), ms(background)],
                "{failures}"
            );
        }
    }

    #[test]
    fn a_working_address_may_be_dialled_at_any_time_and_backs_off_from_the_start() {
        let now = Instant::now();
        let mut record = AddressRecord::new();
        for _ in 0..5 {
            record.dialled = Some(now);
            record.failed(now, 1.0);
        }
        record.connected(1);
        assert_eq!(
            [Call, Background].map(|urgency| record.may_dial_at(urgency)),
            [None; 2]
        );
        // An established connection breaks; the address was not dialled since.
        record.failed(now + ms(1000), 1.0);
        assert_eq!(record.may_dial_at(Background), Some(now + ms(1050)));
        assert_eq!(record.may_dial_at(Call), Some(now + ms(250)));
    }

    #[test]
    fn the_wait_is_counted_from_the_last_dial_and_half_of_it_is_random() {
        let now = Instant::now();
        for (random, wait) in [(0.0, 350), (0.5, 525), (1.0, 700)] {
            let mut record = AddressRecord::new();
            for _ in 0..5 {
                record.dialled = Some(now);
                record.failed(now, random);
            }
            assert_eq!(record.may_dial_at(Background), Some(now + ms(wait)));
            // An older dial ends.
            record.failed(now + ms(100), random);
            assert_eq!(record.may_dial_at(Background), Some(now + ms(wait)));
            // The last one ends long after its wait.
            record.failed(now + ms(3000), random);
            assert_eq!(record.may_dial_at(Background), Some(now + ms(wait)));
            // The address works, and all connections to it end.
            record.connected(1);
            record.failed(now + ms(9000), random);
            record.failed(now + ms(9000), random);
            let soon = now + ms(9000) + FIRST_WAIT.mul_f64(random);
            assert_eq!(record.may_dial_at(Background), Some(soon));
        }
    }

    /// For how long a member is set aside.
    fn aside(record: &AddressRecord, now: Instant) -> Duration {
        let until = record.aside_until.unwrap();
        assert!(record.is_aside(until - ms(1)) && !record.is_aside(until));
        until - now
    }

    #[test]
    fn a_member_that_still_cannot_serve_is_set_aside_for_longer_up_to_a_limit() {
        let mut now = Instant::now();
        let mut record = AddressRecord::new();
        assert!(!record.is_aside(now));
        for seconds in [1, 2, 4, 8, 16, 16] {
            record.set_aside(now);
            assert_eq!(aside(&record, now), ms(seconds * 1000));
            // The member is tried again, and serves for a while.
            now += ms(seconds * 1000) + LEARNER;
        }
        record.set_aside(now + ms(1));
        assert_eq!(aside(&record, now + ms(1)), ms(1000), "it served for long");
        record.learner(now);
        assert_eq!(aside(&record, now), ms(30_000));
        record.lagging(now);
        assert_eq!(aside(&record, now), ms(1000));
    }
}
